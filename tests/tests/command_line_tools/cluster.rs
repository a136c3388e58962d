//! `esker cluster` with `--json`.

use esker_tests::cluster::{Cluster, find, wait_until};
use serde_json::Value;

use super::{good, json, run};

#[test]
fn a_topic_is_described_with_its_eligible_leader_replicas() {
    let mut cluster = Cluster::start(3);
    let (at, dead) = (cluster.address(0), cluster.node_id(2));
    good(at, &["topic", "create", "t", "-p", "1", "-r", "3", "-c", "min.insync.replicas=3"]);
    assert_eq!(json(at, &["topic", "list"])[0]["replication_factor"], 3);
    assert!(!good(at, &["topic", "describe", "t"]).contains("ELR"));
    cluster.wait_in_sync("t");
    cluster.kill(2);
    wait_until("the dead node is an eligible leader", || {
        let topic = json(at, &["topic", "describe", "t"]);
        let partition = &topic["partitions"][0];
        partition["isr"].as_array().unwrap().len() == 2 && partition["elr"] == Value::from(vec![dead])
    });
    let text = good(at, &["topic", "describe", "t"]);
    let last = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
    assert!(text.contains("ELR") && last.contains(&dead.to_string().as_str()), "{text}");
    assert!(good(at, &["topic", "offsets", "t"]).starts_with("PARTITION"));
}

#[test]
fn a_partition_without_a_leader_has_no_offsets_and_holds_nobody_up() {
    let mut cluster = Cluster::start_steady(3);
    let at = cluster.address(0);
    good(at, &["topic", "create", "t", "-p", "3", "-r", "1"]);
    let led = |node: i32| {
        let output = run(at, &["topic", "describe", "t", "--json"]);
        let topic: Value = serde_json::from_slice(&output.stdout).ok()?;
        topic["partitions"].as_array()?.iter().position(|partition| partition["leader"] == node)
    };
    let gone = find("each node leads one", || led(cluster.node_id(2)));
    cluster.kill(2);
    wait_until("a partition has no leader", || {
        json(at, &["topic", "describe", "t"])["partitions"][gone]["leader"].is_null()
    });
    let began = std::time::Instant::now();
    let offsets = json(at, &["topic", "offsets", "t"]);
    let ends: Vec<_> = offsets.as_array().unwrap().iter().map(|row| row["end_offset"].is_null()).collect();
    assert_eq!(ends.iter().filter(|missing| **missing).count(), 1);
    assert!(ends[gone] && began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn what_was_done_to_a_node_is_printed_as_json() {
    let mut cluster = Cluster::start_steady(3);
    let at = cluster.address(0);
    let lost = cluster.node_id(2);
    let id = lost.to_string();
    let outcome = |command: &[&str]| -> String {
        let done = json(at, &[&["cluster"], command, &[id.as_str()]].concat());
        assert_eq!(done["id"], lost);
        done["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome(&["cordon"]), "cordoned");
    assert_eq!(outcome(&["uncordon"]), "uncordoned");
    // The active controller makes changes of its own in between: one that is under way is waited for.
    for _ in 0..10 {
        assert_eq!(outcome(&["voters", "remove"]), "observer");
        assert_eq!(outcome(&["voters", "add"]), "voter");
    }
    assert_eq!(outcome(&["voters", "remove"]), "observer");
    let output = run(at, &["cluster", "unregister", &id]);
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && refused.contains("it runs") && refused.contains("--force"), "{refused}");
    cluster.kill(2);
    wait_until("the broker is unregistered", || {
        let output = run(at, &["cluster", "unregister", &id, "--json"]);
        let done: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        done["outcome"] == "unregistered"
    });
    assert!(good(at, &["cluster", "cordon", &cluster.node_id(0).to_string()]).contains("is cordoned"));
}
