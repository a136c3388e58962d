//! `esker cluster` moves replicas: a node is drained, replaced and removed, the load is evened out, and a command that was interrupted goes on.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_cluster::DescribeClusterRequest;
use esker_tests::binary;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::topics::new_topic;
use esker_tests::wire::Wire;
use serde_json::Value;

use super::reassign::{
    Writers, configs, fill, folders, ids, is_throttled, replicas, size, wait_for_departure, wait_for_removal,
    write_meanwhile,
};
use super::voters::{run, voters};

const TOPIC: &str = "t";
const ANSWER: Duration = Duration::from_secs(20);

/// The nodes that have a replica of some partition of a topic.
pub(super) fn nodes_with_replicas(cluster: &Cluster, topic: &str) -> Vec<i32> {
    let topic = find("the topic", || cluster.topic(topic));
    let nodes = topic.partitions.into_iter().flat_map(|partition| partition.replica_nodes);
    sorted(nodes.collect())
}

pub(super) fn sorted(mut nodes: Vec<i32>) -> Vec<i32> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

pub(super) fn create(cluster: &Cluster, name: &str, replication: i16) -> ErrorCode {
    cluster.create(new_topic(name, 6, replication, &[]))
}

/// Brokers that are registered, and whether each is fenced.
fn registered(cluster: &Cluster) -> Vec<(i32, bool)> {
    let request = DescribeClusterRequest { include_fenced_brokers: true, ..DescribeClusterRequest::default() };
    let ask = |at: usize| Wire::new(cluster.address(at), ANSWER).ask(2, &request).unwrap().brokers;
    // As any of the nodes that run knows it.
    let all = cluster.live().flat_map(ask);
    all.map(|broker| (broker.broker_id, broker.is_fenced)).collect()
}

/// Runs a command that moves replicas, again while a node is fenced for a moment, as on a busy machine.
fn insist(cluster: &Cluster, arguments: &[&str]) -> String {
    find(&format!("{arguments:?} is done"), || match run(cluster, arguments) {
        Ok(printed) => Some(printed),
        Err(error) => {
            eprintln!("{arguments:?}: {error}");
            assert!(error.contains("none of the brokers that are alive"), "{error}");
            None
        }
    })
}

/// The plan, of the first line of JSON.
fn plan(cluster: &Cluster, arguments: &[&str]) -> Value {
    let printed = run(cluster, &[arguments, &["--dry-run", "--json"]].concat()).unwrap();
    serde_json::from_str(printed.lines().next().unwrap()).unwrap()
}

#[test]
fn a_node_is_drained_and_removed_under_writing_clients() {
    let mut cluster = Cluster::start_steady(4);
    let nodes: [i32; 4] = ids(&cluster);
    let [a, b, c, d] = nodes;
    cluster.create_assigned(TOPIC, &[&[a, b, c], &[b, c, a], &[c, a, d], &[b, c, d]], &configs("100"));
    // A voter, and the node that has most to hand over.
    let leaving = cluster.controller();
    let id = cluster.node_id(leaving).to_string();
    let before: Vec<_> = (0..4).map(|partition| replicas(&cluster, TOPIC, partition)).collect();
    let planned = plan(&cluster, &["remove", &id]);
    let held = before.iter().flatten().filter(|(replicas, _)| replicas.contains(&id.parse().unwrap())).count();
    assert_eq!(planned["moves"].as_array().unwrap().len(), held, "{planned}");
    let after: Vec<_> = (0..4).map(|partition| replicas(&cluster, TOPIC, partition)).collect();
    assert_eq!(before, after, "a plan changes nothing");
    let mut stopped = String::new();
    write_meanwhile(&mut cluster, 2, |cluster, writers: &Writers<'_>| {
        let drained = insist(cluster, &["drain", &id, "--at-once", "2"]);
        assert!(drained.contains(&format!("node {id} is drained")), "{drained}");
        let others = sorted(nodes.into_iter().filter(|node| node.to_string() != id).collect());
        wait_until("it has no replicas", || nodes_with_replicas(cluster, TOPIC) == others);
        writers.wait_for_records();
        // A drained node stays as it is: nothing moves back, and nothing new is placed on it.
        assert_eq!(create(cluster, "new", 3), ErrorCode::NONE);
        assert_eq!(nodes_with_replicas(cluster, "new"), others);
        assert_eq!(create(cluster, "wide", 4), ErrorCode::INVALID_REPLICATION_FACTOR);
        run(cluster, &["rebalance"]).unwrap();
        assert_eq!(nodes_with_replicas(cluster, TOPIC), others);
        stopped = find("the node has no vote", || {
            let refused = run(cluster, &["remove", &id]).unwrap_err();
            refused.contains("still runs: stop it").then_some(refused)
        });
    });
    assert!(!voters(&cluster).contains(&id.parse().unwrap()));
    for partition in 0..4 {
        wait_for_removal(&cluster, leaving, partition);
    }
    assert!(cluster.terminate(leaving).success());
    let removed = find("the stopped node is removed", || run(&cluster, &["remove", &id]).ok());
    assert!(removed.contains(&format!("node {id} is removed")), "{removed}");
    wait_until("every node knows", || registered(&cluster).iter().all(|(node, _)| node.to_string() != id));
    let again = run(&cluster, &["remove", &id]).unwrap_err();
    assert!(again.contains(&format!("no broker {id}")), "{again}");
}

/// Starts a command in the background.
fn start(cluster: &Cluster, arguments: &[&str]) -> Child {
    let addresses: Vec<String> = cluster.live().map(|at| cluster.address(at).to_string()).collect();
    let mut command = Command::new(binary());
    command.arg("cluster").args(arguments).args(["--bootstrap", &addresses.join(",")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ctrl-C; returns what the command wrote to standard error.
fn interrupt(child: Child) -> String {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_interrupted_drain_goes_on_when_it_is_run_again() {
    let mut cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[a, b], &[b, a]], &configs("100"));
    fill(&cluster, TOPIC, 1);
    fill(&cluster, TOPIC, 2);
    let id = a.to_string();
    write_meanwhile(&mut cluster, 1, |cluster, writers: &Writers<'_>| {
        let child = start(cluster, &["drain", &id, "--throttle", "10K", "--at-once", "2"]);
        wait_until("a copy has begun", || size(cluster, 2, 1) > 0 || size(cluster, 2, 2) > 0);
        let ended = interrupt(child);
        assert!(
            ended.contains("interrupted") && ended.contains(&format!("run `esker cluster drain {id}` again")),
            "{ended}"
        );
        wait_until("it catches up", || run(cluster, &["reassignments"]).unwrap().contains("catch up"));
        // With a deadline the command names the partition that it waits for, once it knows.
        let late = find("a progress before the deadline", || {
            let late = run(cluster, &["drain", &id, "--deadline", "4s"]).unwrap_err();
            late.contains(&format!("replica on broker {c}")).then_some(late)
        });
        assert!(late.contains("the deadline has passed"), "{late}");
        // The node that is added dies: the command says so.
        cluster.kill(2);
        let dead = find("it is fenced", || {
            let dead = run(cluster, &["drain", &id, "--deadline", "4s"]).unwrap_err();
            dead.contains(&format!("waits for broker {c}, which is not alive")).then_some(dead)
        });
        assert!(dead.contains("t-"), "{dead}");
        cluster.restart(2);
        writers.wait_for_records();
        // Cancelled: the data stays where it was, and nothing is left of the throttle.
        run(cluster, &["drain", &id, "--cancel"]).unwrap();
        assert_eq!(run(cluster, &["reassignments"]).unwrap().trim(), "no reassignment is in progress");
        assert!(!is_throttled(cluster, TOPIC, a), "the throttle is left");
        let done = insist(cluster, &["drain", &id, "--throttle", "100M", "--at-once", "1"]);
        assert!(done.contains(&format!("node {id} is drained")), "{done}");
        assert!(!is_throttled(cluster, TOPIC, a), "the throttle is left");
    });
    assert_eq!(nodes_with_replicas(&cluster, TOPIC), sorted(vec![b, c]));
    wait_until("the logs are removed", || (0..3).all(|partition| folders(&cluster, 0, partition).is_empty()));
    cluster.wait_in_sync(TOPIC);
    let again = insist(&cluster, &["drain", &id]);
    assert!(again.contains("0 partitions change"), "{again}");
    // Back in service: it gets its share again, and a node can take over from another.
    run(&cluster, &["uncordon", &id]).unwrap();
    let balanced = run(&cluster, &["rebalance"]).unwrap();
    assert!(balanced.contains("partitions moved"), "{balanced}");
    assert_eq!(nodes_with_replicas(&cluster, TOPIC), sorted(vec![a, b, c]));
    assert!(plan(&cluster, &["rebalance"])["moves"].as_array().unwrap().is_empty());
    // Every partition needs two of the three nodes.
    for node in [a, b] {
        run(&cluster, &["cordon", &node.to_string()]).unwrap();
    }
    let refused = run(&cluster, &["drain", &c.to_string()]).unwrap_err();
    assert!(refused.contains("has 2 replicas") && refused.contains("t-"), "{refused}");
    let refused = run(&cluster, &["replace", &c.to_string(), &b.to_string()]).unwrap_err();
    assert!(refused.contains(&format!("esker cluster uncordon {b}")), "{refused}");
}

#[test]
fn limits_that_others_have_set_outlive_a_drain() {
    const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
    let cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[a, b], &[b, c]], &configs("100"));
    fill(&cluster, TOPIC, 0);
    // One of the entries is of a replica that moves, and of a list that the command needs as well.
    let leaders = ("leader.replication.throttled.replicas", format!("2:{c},0:{a}"));
    let followers = ("follower.replication.throttled.replicas", format!("2:{c}"));
    for (name, value) in [&leaders, &followers] {
        cluster.set_config(2, TOPIC, name, value);
    }
    cluster.set_config(4, &b.to_string(), RATES[0], "7000000");
    let child = start(&cluster, &["drain", &a.to_string(), "--throttle", "10K"]);
    wait_until("the limits are merged", || {
        let now = cluster.config_values(2, TOPIC);
        let has =
            |name: &str, entries: &[String]| entries.iter().all(|entry| now[name].split(',').any(|one| one == entry));
        has(leaders.0, &[format!("2:{c}"), format!("0:{a}"), format!("0:{b}")])
            && has(followers.0, &[format!("2:{c}"), format!("0:{c}")])
    });
    assert_eq!(cluster.config_values(4, &b.to_string())[RATES[0]], (10 << 10).to_string());
    // Another client raises the rates: they are not the command's any more.
    for node in [a, b, c] {
        for rate in RATES {
            cluster.set_config(4, &node.to_string(), rate, "100000000");
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let has_them = || {
        let now = cluster.config_values(2, TOPIC);
        [&leaders, &followers].iter().all(|(name, value)| now.get(*name) == Some(value))
    };
    wait_until("the lists are those of the others", has_them);
    assert_eq!(cluster.config_values(4, &b.to_string())[RATES[0]], "100000000");
    // Back, with a rate that no other client changes: the rate of before is set again, and none where there was none.
    let id = c.to_string();
    insist(&cluster, &["uncordon", &a.to_string()]);
    cluster.set_config(4, &b.to_string(), RATES[0], "7000000");
    insist(&cluster, &["drain", &id, "--throttle", "100M"]);
    assert_eq!(cluster.config_values(4, &b.to_string())[RATES[0]], "7000000");
    wait_until("the lists are those of the others again", has_them);
}

#[test]
fn a_dead_node_is_drained_and_keeps_its_own_rates() {
    const RATE: &str = "leader.replication.throttled.rate";
    let mut cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b]], &configs("100"));
    cluster.set_config(4, &a.to_string(), RATE, "7000000");
    cluster.kill(0);
    wait_until("it is fenced", || registered(&cluster).contains(&(a, true)));
    let done = insist(&cluster, &["drain", &a.to_string(), "--throttle", "100M"]);
    assert!(done.contains("1 partition moved"), "{done}");
    wait_until("every node knows", || nodes_with_replicas(&cluster, TOPIC) == sorted(vec![b, c]));
    wait_until("the throttle is gone", || [b, c].iter().all(|node| !is_throttled(&cluster, TOPIC, *node)));
    cluster.restart(0);
    assert_eq!(cluster.config_values(4, &a.to_string())[RATE], "7000000");
}

#[test]
fn a_node_that_is_gone_for_good_is_removed_in_one_step() {
    let mut cluster = Cluster::start(4);
    let [a, b, c, d] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b, c], &[d, a, b], &[c, d, a], &[b, c, d]], &configs("100"));
    let lost = cluster.controller();
    let id = cluster.node_id(lost);
    let others = sorted([a, b, c, d].into_iter().filter(|node| *node != id).collect());
    write_meanwhile(&mut cluster, 4, |cluster, _| {
        cluster.kill(lost);
        wait_until("it is fenced", || registered(cluster).contains(&(id, true)));
        // The quorum may not be able to change its voters for a moment.
        let removed = find("it is removed", || run(cluster, &["remove", &id.to_string(), "--throttle", "100M"]).ok());
        assert!(removed.contains(&format!("node {id} is removed")), "{removed}");
    });
    assert!(others.iter().all(|node| !is_throttled(&cluster, TOPIC, *node)), "the throttle is left");
    wait_until("the others have its replicas", || nodes_with_replicas(&cluster, TOPIC) == others);
    cluster.wait_in_sync(TOPIC);
    assert!(!voters(&cluster).contains(&id));
    wait_until("every node knows", || registered(&cluster).iter().all(|(node, _)| *node != id));
}

#[test]
fn a_drain_goes_on_while_nodes_die_and_come_back() {
    let mut cluster = Cluster::start(4);
    let nodes: [i32; 4] = ids(&cluster);
    let controller = cluster.controller();
    let [drained, other, taker] = [1, 2, 3].map(|step| (controller + step) % 4);
    let [first, second] = [nodes[drained], nodes[controller]];
    // Each partition needs the node that is the active controller, before and after.
    cluster.create_assigned(TOPIC, &[&[first, second], &[second, first], &[first, second]], &configs("100"));
    fill(&cluster, TOPIC, 1);
    fill(&cluster, TOPIC, 2);
    let id = first.to_string();
    write_meanwhile(&mut cluster, 1, |cluster, writers: &Writers<'_>| {
        let child = start(cluster, &["drain", &id, "--throttle", "1M", "--json"]);
        let copied = |at: usize| size(cluster, at, 1) + size(cluster, at, 2);
        wait_until("a copy has begun", || copied(other) + copied(taker) > 0);
        for victim in [controller, drained] {
            cluster.kill(victim);
            cluster.restart(victim);
            writers.wait_for_records();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        eprintln!("{}: {text}", output.status);
        if !output.status.success() {
            // A node that takes replicas may have been fenced for a moment: the rest is planned anew.
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains("again") || error.contains("none of the brokers that are alive"), "{text}{error}");
            insist(cluster, &["drain", &id]);
        }
    });
    assert!(!nodes_with_replicas(&cluster, TOPIC).contains(&first));
    cluster.wait_in_sync(TOPIC);
    assert!(!is_throttled(&cluster, TOPIC, second), "the throttle is left");
    for partition in 0..3 {
        wait_for_departure(&cluster, drained, partition);
    }
}
