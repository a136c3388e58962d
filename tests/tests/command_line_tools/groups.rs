//! `esker group`.

use esker_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::{Esker, ask};
use serde_json::Value;

use super::{Running, good, json, produce, refused, run, stderr};

const FLAGS: [&str; 4] = ["serve", "--ephemeral", "--set", "group.initial.rebalance.delay.ms=0"];

fn committed(plan: &Value, field: &str) -> Vec<Option<i64>> {
    plan["offsets"].as_array().unwrap().iter().map(|row| row[field].as_i64()).collect()
}

#[test]
fn a_group_is_moved_by_every_target() {
    let cluster = Cluster::start(3);
    let at = cluster.address(0);
    good(at, &["topic", "create", "t", "-p", "1", "-r", "3"]);
    produce(at, "t", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    good(at, &["consume", "t", "-g", "g", "-o", "start", "-n", "4"]);
    let seek = |flags: &[&str]| json(at, &[&["group", "seek", "g"], flags].concat());
    let now = || json(at, &["group", "describe", "g"]);
    assert_eq!(committed(&now(), "committed"), [Some(4)]);
    assert_eq!(now()["lag"], 6);
    let plan = seek(&["--to", "earliest"]);
    assert_eq!(plan["dry_run"], true);
    assert_eq!((&plan["offsets"][0]["new_committed"], &plan["offsets"][0]["lag"]), (&0.into(), &10.into()));
    assert_eq!(committed(&now(), "committed"), [Some(4)], "a plan changes nothing");
    let text = run(at, &["group", "seek", "g", "--to", "9"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("LAG AFTER"));
    assert!(stderr(&text).contains("--yes"), "{}", stderr(&text));
    for (flags, expected) in [
        (&["--by", "3"][..], 7),
        (&["--by", "-5"], 2),
        (&["--to", "latest"], 10),
        (&["--to", "5"], 5),
        (&["--to-time", "-1h"], 0),
        (&["--to-time", "2199-01-01T00:00:00Z"], 10),
        (&["--to", "1000"], 10),
        (&["--to", "6", "--topic", "t:0"], 6),
    ] {
        let done = seek(&[flags, &["--execute"]].concat());
        assert_eq!(done["dry_run"], false);
        assert_eq!(committed(&done, "new_committed"), [Some(expected)], "{flags:?}");
        assert_eq!(committed(&now(), "committed"), [Some(expected)], "{flags:?}");
    }
    // A group that does not exist yet begins where another one is.
    good(at, &["group", "seek", "h", "--to-group", "g", "--yes"]);
    assert_eq!(committed(&json(at, &["group", "describe", "h"]), "committed"), [Some(6)]);
    assert_eq!(good(at, &["consume", "t", "-g", "h", "-n", "1"]), "7\n");
    let all = json(at, &["group", "describe"]);
    let names: Vec<_> = all.as_array().unwrap().iter().map(|group| group["group"].as_str().unwrap()).collect();
    assert_eq!(names, ["g", "h"], "without a name all are described");
}

#[test]
fn wrong_uses_of_seek_are_refused_in_words() {
    let esker = Esker::spawn(&FLAGS);
    let at = esker.kafka;
    good(at, &["topic", "create", "t", "-p", "2"]);
    let seek = |flags: &[&str], code| refused(at, &[&["group", "seek", "g"], flags].concat(), code);
    assert!(seek(&["--to", "earliest"], 2).contains("--topic"), "it has committed nothing");
    assert!(seek(&[], 2).contains("--to-group"));
    assert!(seek(&["--to", "earliest", "--by", "1"], 2).contains("one of"));
    assert!(seek(&["--to", "sideways"], 2).contains("earliest"));
    assert!(seek(&["--to", "0", "-t", "t:9"], 2).contains("no partition 9"));
    assert!(seek(&["--to", "0", "-t", "none"], 1).contains("none"));
    assert!(seek(&["--by", "1", "-t", "t"], 1).contains("committed no offset of t-0"));
    assert!(seek(&["--to-group", "other"], 1).contains("'other' has committed no offset"));
    assert!(seek(&["--to-time", "soon"], 2).contains("no time"));
}

#[test]
fn a_group_with_members_is_described_and_not_moved() {
    let esker = Esker::spawn(&FLAGS);
    let at = esker.kafka;
    good(at, &["topic", "create", "t", "-p", "2"]);
    produce(at, "t", "one\n");
    let member = Running::start(at, &["consume", "t", "-g", "g", "-o", "end"]);
    let describe = || run(at, &["group", "describe", "g", "--json"]);
    let stable = || -> Option<Value> {
        let group: Value = serde_json::from_slice(&describe().stdout).ok()?;
        (group["state"] == "Stable" && group["members"][0]["partitions"] == 2).then_some(group)
    };
    let group = esker_tests::cluster::find("a stable group", stable);
    assert_eq!((&group["type"], &group["protocol"]), (&"classic".into(), &"range".into()));
    let offsets = group["offsets"].as_array().unwrap();
    assert_eq!(offsets.len(), 2, "assigned partitions without commits are listed: {group}");
    assert!(offsets.iter().all(|row| row["committed"].is_null() && row["member"] == group["members"][0]["id"]));
    assert!(group["lag"].is_null(), "nothing is committed: {group}");
    assert!(good(at, &["group", "describe", "g"]).contains("lag=-"));
    let seek = ["group", "seek", "g", "--to", "earliest", "--topic", "t"];
    let plan = run(at, &seek);
    assert!(plan.status.success() && stderr(&plan).contains("has a member"), "{}", stderr(&plan));
    let text = refused(at, &[&seek[..], &["--yes"]].concat(), 1);
    assert!(text.contains("'g' has a member: esker on ") && text.contains("stop the consumers"), "{text}");
    assert!(refused(at, &["group", "delete", "g"], 1).contains("NON_EMPTY_GROUP"));
    member.terminate();
    wait_until("the member has left", || run(at, &[&seek[..], &["--yes"]].concat()).status.success());
    assert_eq!(committed(&json(at, &["group", "describe", "g"]), "committed"), [Some(0), Some(0)]);
}

#[test]
fn groups_of_the_new_protocol_are_described() {
    let esker = Esker::spawn(&FLAGS);
    let at = esker.kafka;
    good(at, &["topic", "create", "t", "-p", "3"]);
    let mut stream = esker.connect();
    let mut heartbeat = ConsumerGroupHeartbeatRequest {
        group_id: "new".into(),
        member_id: "member-1".into(),
        member_epoch: 0,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    wait_until("a member with three partitions", || {
        let answer = ask(&mut stream, 1, &heartbeat);
        if !answer.error_code.is_error() {
            heartbeat.member_epoch = answer.member_epoch;
            heartbeat.topic_partitions = answer.assignment.is_none().then(Vec::new);
        }
        let group = run(at, &["group", "describe", "new", "--json"]);
        let group: Value = serde_json::from_slice(&group.stdout).unwrap_or_default();
        group["members"][0]["partitions"] == 3 && group["type"] == "consumer"
    });
    let group = json(at, &["group", "describe", "new"]);
    assert_eq!(group["offsets"].as_array().unwrap().len(), 3);
    assert!(good(at, &["group", "describe", "new"]).contains("type=consumer"));
    assert!(json(at, &["group", "list"]).as_array().unwrap().iter().any(|row| row["type"] == "consumer"));
    let text = refused(at, &["group", "seek", "new", "--to", "0", "-t", "t", "--yes"], 1);
    assert!(text.contains("has a member"), "{text}");
}

#[test]
fn several_groups_are_deleted() {
    let esker = Esker::spawn(&FLAGS);
    let at = esker.kafka;
    good(at, &["topic", "create", "t", "-p", "1"]);
    for group in ["a", "b"] {
        good(at, &["group", "seek", group, "--to", "0", "-t", "t", "--yes"]);
    }
    let output = run(at, &["group", "delete", "a", "none", "b", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("'none'"));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let outcomes: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["deleted", "failed", "deleted"]);
    assert_eq!(good(at, &["group", "delete", "none", "--if-exists"]), "missing none\n");
    assert_eq!(json(at, &["group", "list"]).as_array().unwrap().len(), 0);
}
