//! `/v1` of a cluster: any node answers for all of it, replicas move, and a drain goes on without the node that began it.

use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::http::{HttpAnswer, change, get};
use serde_json::{Value, json};

use super::moves::nodes_with_replicas;
use super::reassign::{configs, fill, ids};
use super::voters::run;

const TOPIC: &str = "t";
/// Bytes a second: almost nothing is copied.
const STUCK: &str = "1000";

/// Sends a change to a node until it succeeds: on a busy machine a node may be without a lease for a moment.
fn insist(cluster: &Cluster, at: usize, path: &str, body: &Value) -> Value {
    find(&format!("{path} succeeds"), || {
        let answer = change(cluster.http(at), "POST", path, body);
        if (200..300).contains(&answer.status) {
            return Some(answer.json());
        }
        eprintln!("{path}: {answer:?}");
        assert!(answer.status >= 500 || answer.body.contains("none of the brokers that are alive"), "{answer:?}");
        None
    })
}

/// What a node answers, if it is as `is_it` says.
fn wait_for(cluster: &Cluster, at: usize, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut last = String::new();
    find(&format!("{path} is as expected"), || {
        let answer: HttpAnswer = get(cluster.http(at), path);
        if answer.body != last {
            eprintln!("{path}: {} {}", answer.status, answer.body);
            last.clone_from(&answer.body);
        }
        Some(answer.json()).filter(|json| answer.status == 200 && is_it(json))
    })
}

/// Waits until nodes 0 and 1, and the command line, report the fail-over of node 2, which is dead; returns what the nodes say. Only the active
/// controller knows of it: where another has taken over meanwhile, node 2 dies again.
fn wait_for_fail_over(cluster: &mut Cluster, node_id: i32) -> Vec<Value> {
    let said = format!("last fail-over: of node {node_id}, ");
    find("the fail-over is reported", || {
        wait_for(cluster, 0, &format!("/v1/nodes/{node_id}"), |node| node["fenced"] == true);
        let answers = [0, 1].map(|at| get(cluster.http(at), "/v1/cluster"));
        if answers.iter().any(|answer| answer.status != 200) {
            return None;
        }
        let reports: Vec<Value> = answers.iter().map(|answer| answer.json()["last_fail_over"].clone()).collect();
        let is_known = reports.iter().all(|report| report["node_id"] == node_id);
        if is_known && run(cluster, &["status"]).is_ok_and(|text| text.contains(&said)) {
            return Some(reports);
        }
        cluster.restart(2);
        cluster.kill(2);
        None
    })
}

#[test]
fn any_node_answers_for_the_cluster() {
    // No other node is fenced than the one that dies.
    let mut cluster = Cluster::start_steady(3);
    let nodes: [i32; 3] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&nodes], &configs("100"));
    for at in 0..3 {
        wait_for(&cluster, at, "/v1/cluster", |status| {
            status["under_replicated"] == 0 && status["controller"] == cluster.node_id(cluster.controller())
        });
        let list = wait_for(&cluster, at, "/v1/nodes", |list| list["nodes"].as_array().unwrap().len() == 3);
        let mut found: Vec<i64> =
            list["nodes"].as_array().unwrap().iter().filter_map(|node| node["id"].as_i64()).collect();
        found.sort_unstable();
        let mut expected = nodes.map(i64::from);
        expected.sort_unstable();
        assert_eq!(found, expected);
        for node in nodes {
            let node = wait_for(&cluster, at, &format!("/v1/nodes/{node}"), |node| node["cordoned"] == false);
            assert_eq!((&node["replicas"], &node["fenced"]), (&1.into(), &false.into()), "{node}");
        }
        wait_for(&cluster, at, "/v1/topics/t/partitions", |page| {
            let found = &page["partitions"][0];
            found["leader"].is_i64() && found["sizes"].as_array().is_some_and(|sizes| sizes.len() == 3)
        });
    }
    let path = format!("/v1/nodes/{}/safe-to-stop", nodes[2]);
    wait_for(&cluster, 0, &path, |report| report["safe"] == true);
    cluster.kill(2);
    wait_for(&cluster, 0, &format!("/v1/nodes/{}", nodes[2]), |node| {
        node["fenced"] == true && node["registered"] == true && node["cordoned"].is_null()
    });
    wait_for(&cluster, 1, "/v1/cluster", |status| status["under_replicated"] == 1);
    for last in wait_for_fail_over(&mut cluster, nodes[2]) {
        assert!(last["at_ms"].as_i64().unwrap() > 1_700_000_000_000, "{last}");
        assert!((0..60_000).contains(&last["took_ms"].as_i64().unwrap()), "{last}");
    }
    wait_for(&cluster, 0, &format!("/v1/nodes/{}/safe-to-stop", nodes[1]), |report| report["safe"] == false);
}

#[test]
fn reassignments_begin_wait_and_are_cancelled() {
    let cluster = Cluster::start(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b]], &configs("100"));
    fill(&cluster, TOPIC, 0);
    for node in [a, b, c] {
        for side in ["leader", "follower"] {
            cluster.set_config(4, &node.to_string(), &format!("{side}.replication.throttled.rate"), STUCK);
        }
    }
    for side in ["leader", "follower"] {
        cluster.set_config(2, TOPIC, &format!("{side}.replication.throttled.replicas"), "*");
    }
    let wrong = json!({"reassignments": [{"topic": TOPIC, "partition": 0, "replicas": [a, 99]}]});
    let refused = change(cluster.http(0), "POST", "/v1/reassignments", &wrong);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.json()["failures"][0]["error_name"], "INVALID_REPLICA_ASSIGNMENT", "{refused:?}");
    let wanted = json!({"reassignments": [{"topic": TOPIC, "partition": 0, "replicas": [a, c]}]});
    assert_eq!(insist(&cluster, 0, "/v1/reassignments", &wanted)["begun"], 1);
    let list = wait_for(&cluster, 1, "/v1/reassignments", |list| {
        list["reassignments"][0]["waits_for"]["reason"] == "catching_up" && list["reassignments"][0]["bytes"] != 0
    });
    let found = &list["reassignments"][0];
    assert_eq!((&found["adding"], &found["removing"]), (&json!([c]), &json!([b])), "{found}");
    assert_eq!(found["waits_for"]["broker"], c, "{found}");
    let partitions = json!({"partitions": [{"topic": TOPIC, "partition": 0}]});
    assert_eq!(insist(&cluster, 2, "/v1/reassignments/cancel", &partitions)["cancelled"], 1);
    for at in 0..3 {
        wait_for(&cluster, at, "/v1/reassignments", |list| list["reassignments"] == json!([]));
    }
    let mut expected = vec![a, b];
    expected.sort_unstable();
    wait_until("it is where it was", || nodes_with_replicas(&cluster, TOPIC) == expected);
}

#[test]
fn a_drain_goes_on_without_the_node_that_began_it() {
    let mut cluster = Cluster::start(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[b, a], &[b, c], &[c, b]], &configs("100"));
    let path = format!("/v1/nodes/{b}/drain");
    let state = |state: &'static str| move |report: &Value| report["state"] == state;
    let before = wait_for(&cluster, 0, &path, state("in_service"));
    assert_eq!((&before["replicas"], &before["not_begun"]), (&4.into(), &4.into()), "{before}");
    // One at a time, and each request to another node.
    let begun = insist(&cluster, 0, &path, &json!({"at_once": 1}));
    assert_ne!(begun["state"], "in_service", "{begun}");
    assert!(begun["not_begun"].as_u64().unwrap() >= 3, "{begun}");
    wait_until("the node is drained", || {
        let report = insist(&cluster, 2, &path, &json!({}));
        eprintln!("{report}");
        report["state"] == "drained"
    });
    wait_until("every node knows", || !nodes_with_replicas(&cluster, TOPIC).contains(&b));
    wait_for(&cluster, 0, &format!("/v1/nodes/{b}"), |node| node["cordoned"] == true);
    // Nothing is placed on it, until it is in service again.
    let wide = json!({"name": "wide", "replication_factor": 3});
    let refused = change(cluster.http(0), "POST", "/v1/topics", &wide);
    assert_eq!(
        (refused.status, &refused.json()["error_name"]),
        (400, &"INVALID_REPLICATION_FACTOR".into()),
        "{refused:?}"
    );
    assert_eq!(insist(&cluster, 0, &format!("/v1/nodes/{b}/uncordon"), &json!({}))["cordoned"], false);
    wait_for(&cluster, 2, &path, state("in_service"));

    // The node that takes the request is killed at once.
    assert_eq!(insist(&cluster, 0, "/v1/topics", &json!({"name": "w", "replication_factor": 3}))["outcome"], "created");
    cluster.create_assigned("u", &[&[b], &[b], &[b], &[b]], &configs("100"));
    let moved = |cluster: &Cluster| !nodes_with_replicas(cluster, "u").contains(&b);
    let refused = change(cluster.http(0), "POST", &path, &json!({}));
    assert_eq!(refused.status, 409, "a topic on all nodes leaves no node for the replica: {refused:?}");
    wait_for(&cluster, 0, &path, state("in_service"));
    let deleted = change(cluster.http(0), "DELETE", "/v1/topics/w", &Value::Null);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    wait_until("the drain begins", || {
        let answer = change(cluster.http(0), "POST", &path, &json!({}));
        eprintln!("{answer:?}");
        answer.status == 202
    });
    cluster.kill(0);
    cluster.restart(0);
    wait_until("all replicas have left the node", || moved(&cluster));
    assert_eq!(nodes_with_replicas(&cluster, "u").iter().filter(|node| ![a, c].contains(*node)).count(), 0);
}
