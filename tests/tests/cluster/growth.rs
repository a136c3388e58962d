//! A cluster of one that grows: the topics of its coordinators get replicas on the brokers that come, and groups go on without the first one.

use std::io::Write;
use std::process::{Command, Stdio};

use esker_protocol::error::ErrorCode;
use esker_tests::binary;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::topics::new_topic;

const TOPIC: &str = "t";
const OFFSETS: &str = "__consumer_offsets";

/// What the command line prints, as soon as it succeeds.
fn run(cluster: &Cluster, arguments: &[&str], input: &str) -> String {
    let bootstrap: Vec<String> = cluster.live().map(|at| cluster.address(at).to_string()).collect();
    find(&format!("esker {arguments:?}"), || {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--bootstrap", &bootstrap.join(",")]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
}

fn consume(cluster: &Cluster) -> String {
    run(cluster, &["consume", TOPIC, "-g", "g", "-o", "start", "-e"], "")
}

#[test]
fn groups_of_a_cluster_of_one_that_grew_go_on_without_its_first_node() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.create(new_topic(TOPIC, 1, 1, &[])), ErrorCode::NONE);
    run(&cluster, &["produce", TOPIC], "one\n");
    assert_eq!(consume(&cluster), "one\n");
    let replicas = |cluster: &Cluster| -> Vec<usize> {
        let topic = cluster.topic(OFFSETS).unwrap();
        topic.partitions.iter().map(|partition| partition.replica_nodes.len()).collect()
    };
    assert!(replicas(&cluster).iter().all(|count| *count == 1));

    for _ in 0..2 {
        cluster.add(&cluster.address(0).to_string());
    }
    cluster.wait_for_voters();
    let nodes: Vec<i32> = (0..3).map(|at| cluster.node_id(at)).collect();
    cluster.reassign(TOPIC, &[(0, Some(&nodes))]);
    wait_until("each partition of a coordinator has three replicas", || {
        replicas(&cluster).iter().all(|count| *count == 3)
    });
    for topic in [OFFSETS, TOPIC] {
        cluster.wait_in_sync(topic);
    }
    assert_eq!(cluster.topic(TOPIC).unwrap().partitions[0].replica_nodes.len(), 3);
    cluster.kill(0);
    run(&cluster, &["produce", TOPIC], "two\n");
    let rest = consume(&cluster);
    assert!(!rest.is_empty() && rest.lines().all(|line| line == "two"), "the group goes on where it was: {rest}");
}
