//! Nodes find each other, and nodes that do not belong to the cluster are refused by name.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use esker_protocol::messages::describe_cluster::DescribeClusterRequest;
use esker_tests::Esker;
use esker_tests::cluster::{Cluster, free_addresses, run_to_end, wait_until};

/// The ids of the cluster, and of the nodes, as their ready lines have them.
fn identities(cluster: &Cluster, count: usize) -> (BTreeSet<String>, BTreeSet<i32>) {
    let ids = (0..count).map(|at| cluster.node(at).ready_field("cluster").to_owned()).collect();
    (ids, (0..count).map(|at| cluster.node_id(at)).collect())
}

/// The brokers that are not fenced, as the node at `at` knows them.
fn wait_for_brokers(cluster: &Cluster, at: usize, expected: &BTreeSet<i32>) {
    let mut wire = esker_tests::wire::Wire::new(cluster.address(at), Duration::from_secs(5));
    wait_until("every broker is known and alive", || {
        let answer = wire.ask(1, &DescribeClusterRequest { endpoint_type: 1, ..DescribeClusterRequest::default() });
        answer.is_ok_and(|answer| {
            answer.brokers.iter().map(|broker| broker.broker_id).collect::<BTreeSet<_>>() == *expected
        })
    });
}

#[test]
fn nodes_form_one_cluster_in_any_order() {
    // The last, the first and none of the list is late.
    for late in [Some(2), Some(0), None] {
        let delay = |at| if Some(at) == late { Duration::from_secs(2) } else { Duration::ZERO };
        let mut cluster = Cluster::start_after(&[delay(0), delay(1), delay(2)], &[]);
        let (clusters, nodes) = identities(&cluster, 3);
        assert_eq!((clusters.len(), nodes.len()), (1, 3), "late: {late:?}");
        let Some(late) = late else { continue };
        // A fourth that knows one of them only, and that none of them was told of.
        let through = cluster.address(late).to_string();
        cluster.add(&through);
        let (clusters, nodes) = identities(&cluster, 4);
        assert_eq!((clusters.len(), nodes.len()), (1, 4), "the fourth");
        for at in 0..4 {
            wait_for_brokers(&cluster, at, &nodes);
        }
    }
}

#[test]
fn a_node_that_lost_its_folder_comes_back_as_a_new_one_only() {
    let mut cluster = Cluster::start(3);
    let lost = cluster.node_id(2);
    let owner = directory(&cluster, 2);
    cluster.kill(2);
    fs::remove_dir_all(cluster.data(2)).unwrap();
    let log = cluster.refused(2, &["--node-id", &lost.to_string()]);
    // The first node has no reservation: it is known by its log dir, which is the same folder.
    for part in [format!("Node id {lost} belongs to"), owner, "cannot be that of a node with metadata".to_owned()] {
        assert!(log.contains(&part), "{part}: {log}");
    }
    // The refused node may have left a folder.
    let _ = fs::remove_dir_all(cluster.data(2));
    cluster.restart(2);
    let (clusters, nodes) = identities(&cluster, 3);
    assert_eq!(clusters.len(), 1);
    assert!(nodes.len() == 3 && !nodes.contains(&lost), "{lost} came back in {nodes:?}");
    for at in 0..3 {
        wait_for_brokers(&cluster, at, &nodes);
    }
}

/// The id of the metadata folder of a node.
fn directory(cluster: &Cluster, at: usize) -> String {
    let text = fs::read_to_string(cluster.data(at).join("meta.properties")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap().to_owned()
}

#[test]
fn nodes_of_two_clusters_are_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let mut others = Vec::new();
    for name in ["a", "b"] {
        others.push(Esker::start(&dir.path().join(name)));
    }
    let ids: Vec<String> = others.iter().map(|other| other.ready_field("cluster").to_owned()).collect();
    assert_ne!(ids[0], ids[1]);
    let own = free_addresses(1)[0].to_string();
    let join = format!("{own},{},{}", others[0].kafka, others[1].kafka);
    let data = dir.path().join("c").display().to_string();
    let start = ["serve", "--data-dir", &data, "--listen", &own, "--http", "127.0.0.1:0", "--join", &join];
    let log = run_to_end(&start);
    assert!(ids.iter().all(|id| log.contains(id.as_str())), "both of {ids:?} are named: {log}");
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = Esker::start(&dir.path().join("home"));
    let other = Esker::start(&dir.path().join("other"));
    let ids = [home.ready_field("cluster").to_owned(), other.ready_field("cluster").to_owned()];
    let own = other.kafka.to_string();
    other.kill();
    let data = dir.path().join("other").display().to_string();
    let join = format!("{own},{}", home.kafka);
    let start = ["serve", "--data-dir", &data, "--listen", &own, "--http", "127.0.0.1:0", "--join", &join];
    let log = run_to_end(&start);
    assert!(ids.iter().all(|id| log.contains(id.as_str())), "both of {ids:?} are named: {log}");
}

#[test]
fn a_copy_of_a_running_nodes_folder_is_refused() {
    let cluster = Cluster::start_steady(3);
    let copied = cluster.live().find(|at| *at != cluster.controller()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy").display().to_string();
    let original = cluster.data(copied).display().to_string();
    assert!(Command::new("cp").args(["-a", &original, &copy]).status().unwrap().success());
    let own = free_addresses(1)[0].to_string();
    let others: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    let there = others[copied].clone();
    // It asks the node that it is a copy of, or it does not know it: then the active controller asks.
    for asked in [0..3, 0..0] {
        let asked = others.iter().enumerate().filter(|(at, _)| asked.contains(at) || *at != copied);
        let join = asked.map(|(_, address)| address.as_str()).collect::<Vec<_>>().join(",");
        let start = ["serve", "--data-dir", &copy, "--listen", &own, "--http", "127.0.0.1:0", "--join", &join];
        let log = run_to_end(&start);
        for part in [there.as_str(), &directory(&cluster, copied), "copy", "vote twice"] {
            assert!(log.contains(part), "{part}: {log}");
        }
    }
    let quorum = cluster.quorum();
    let voters: Vec<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id).collect();
    assert!(voters.len() == 3 && voters.contains(&cluster.node_id(copied)), "{voters:?}");
    wait_for_brokers(&cluster, copied, &(0..3).map(|at| cluster.node_id(at)).collect());
}
