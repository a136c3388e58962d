//! A cluster as operators see it: what keeps a node from being ready, whether a node may be stopped, and what metrics say meanwhile.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::{binary, http_answer, metric_in};
use serde_json::Value;

const PARTITIONS: i32 = 6;
const UNDER_REPLICATED: &str = "kafka_server_replicamanager_underreplicatedpartitions";

/// Waits until `/health/ready` of a node has this status, and each of these parts in its text.
fn wait_for_health(cluster: &Cluster, at: usize, status: u16, parts: &[&str]) {
    let mut last = None;
    let has_all = |text: &str| parts.iter().all(|part| text.contains(part));
    wait_until(&format!("node {at} answers {status} with {parts:?}"), || {
        let answer = http_answer(cluster.http(at), "/health/ready");
        if answer != last {
            eprintln!("node {at}: {answer:?}");
            last = answer.clone();
        }
        answer.is_some_and(|(found, text)| found == status && has_all(&text))
    });
}

/// Waits for an answer about the stop of a node that is as `is_it` says. On a busy machine a node may be without a lease for a moment.
fn wait_for_stop_answer(cluster: &Cluster, node_id: i32, what: &str, is_it: impl Fn(u16, &Value) -> bool) {
    let mut last = Value::Null;
    wait_until(what, || {
        let (status, answer) = safe_to_stop(cluster, 0, node_id);
        if answer != last {
            eprintln!("stop of node {node_id}: {status} {answer}");
            last = answer.clone();
        }
        is_it(status, &answer)
    });
}

/// What the node at `at` answers about the stop of a node.
fn safe_to_stop(cluster: &Cluster, at: usize, node_id: i32) -> (u16, Value) {
    let path = format!("/v1/nodes/{node_id}/safe-to-stop");
    let (status, body) = http_answer(cluster.http(at), &path).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

fn command(cluster: &Cluster, at: usize, node_id: i32) -> Command {
    let (node_id, bootstrap) = (node_id.to_string(), cluster.address(at).to_string());
    let mut command = Command::new(binary());
    command.args(["cluster", "safe-to-stop", &node_id, "-b", &bootstrap]);
    command
}

fn command_line(cluster: &Cluster, at: usize, node_id: i32) -> Output {
    command(cluster, at, node_id).output().unwrap()
}

/// Starts a command that waits, and reads what it says until it names the quorum and a partition. At first the cluster may not answer, on a busy
/// machine.
fn start_waiting(cluster: &Cluster, node_id: i32, flag: &str) -> Child {
    let mut waiting =
        command(cluster, 0, node_id).arg(flag).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    // It says more later: its standard error stays open, and no byte is read ahead.
    let stderr = waiting.stderr.as_mut().unwrap();
    let mut byte = [0];
    while !(said.ends_with('\n') && said.contains("lose its majority") && said.contains("t-0")) {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "it ended: {said}");
        said.push(char::from(byte[0]));
    }
    waiting
}

/// A metric, summed over the nodes that run.
fn sum(cluster: &Cluster, name: &str) -> f64 {
    cluster.live().map(|at| cluster.node(at).metric(name)).sum()
}

fn wait_for_sum(cluster: &Cluster, name: &str, expected: f64) {
    wait_until(&format!("{name} is {expected}"), || sum(cluster, name) == expected);
}

#[test]
fn a_node_that_waits_for_others_says_for_which() {
    let cluster = Cluster::start_with_the_last_late(3, |cluster| {
        let blocked = format!("{} does not answer: connection refused", cluster.address(2));
        for at in [0, 1] {
            wait_for_health(cluster, at, 503, &["waiting for other nodes", &blocked]);
            assert_eq!(http_answer(cluster.http(at), "/health/live").unwrap().0, 200);
            let (_, metrics) = http_answer(cluster.http(at), "/metrics").unwrap();
            assert!(metrics.contains("kafka_server_kafkaserver_brokerstate 1\n"), "{metrics}");
            assert!(metrics.contains("esker_broker_fenced 1\n"), "{metrics}");
            let (status, problem) = safe_to_stop(cluster, at, 1);
            assert_eq!((status, &problem["status"]), (503, &Value::from(503)));
        }
    });
    let blocked = format!("{} does not answer: connection refused", cluster.address(2));
    for at in 0..3 {
        wait_for_health(&cluster, at, 200, &["ready"]);
        let log = cluster.node(at).log();
        let mut lines: Vec<&str> = log.lines().filter(|line| line.contains(&blocked)).collect();
        let all = lines.len();
        // Each set of reasons is written once.
        lines.iter_mut().for_each(|line| *line = line.split_once("INFO").map_or(*line, |(_, text)| text));
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all, "node {at} repeats itself: {log}");
        assert!(log.matches("a node is refused").count() < 10, "node {at} repeats itself: {log}");
    }
}

#[test]
fn a_node_is_safe_to_stop_while_enough_replicas_are_left() {
    // A node that stands still is none that may be stopped because it is down.
    let mut cluster = Cluster::start_steady(3);
    cluster.create_topic("t", PARTITIONS, "page-cache");
    let ids: Vec<i32> = (0..3).map(|at| cluster.node_id(at)).collect();
    for node_id in &ids {
        wait_for_stop_answer(&cluster, *node_id, "the stop is safe", |status, it| status == 200 && it["safe"] == true);
    }
    wait_until("exit code 0", || command_line(&cluster, 0, ids[2]).status.success());
    wait_for_stop_answer(&cluster, 999, "no such node", |status, it| status == 404 && it["title"] == "Not Found");
    wait_until("exit code 2", || command_line(&cluster, 0, 999).status.code() == Some(2));
    wait_for_sum(&cluster, UNDER_REPLICATED, 0.0);
    wait_for_sum(&cluster, "kafka_server_replicamanager_leadercount", f64::from(PARTITIONS));
    wait_for_sum(&cluster, "kafka_controller_kafkacontroller_activecontrollercount", 1.0);
    wait_for_sum(&cluster, "esker_raft_is_leader", 1.0);
    wait_for_sum(&cluster, "esker_raft_voters", 9.0);
    wait_until("rows of the other voters, and a lease", || {
        let text = cluster.node(cluster.controller()).http_get("/metrics");
        let lease = metric_in(&text, "esker_broker_lease_remaining_seconds");
        text.matches("esker_raft_voter_lag{").count() == 2 && lease > 0.0 && lease < 30.0
    });

    cluster.kill(2);
    let name = Value::from("t");
    wait_for_stop_answer(&cluster, ids[1], "the stop of another node is not safe", |_, answer| {
        let partitions = answer["partitions"].as_array().cloned().unwrap_or_default();
        let is_named = |p: &Value| p["topic"] == name && p["effect"] == "below_min_isr" && p["in_sync_after"] == 1;
        answer["safe"] == false
            && answer["partition_count"] == PARTITIONS
            && partitions.len() == PARTITIONS as usize
            && partitions.iter().all(is_named)
            && answer["quorum"]["keeps_majority"] == false
    });
    wait_until("exit code 1, and the reasons", || {
        let refused = command_line(&cluster, 0, ids[1]);
        let text = String::from_utf8_lossy(&refused.stdout).into_owned();
        refused.status.code() == Some(1) && text.contains("t-5") && text.contains("lose its majority")
    });
    wait_for_stop_answer(&cluster, ids[2], "it is down already", |_, answer| answer["safe"] == true);
    wait_for_sum(&cluster, UNDER_REPLICATED, f64::from(PARTITIONS));
    wait_for_sum(&cluster, "kafka_server_replicamanager_atminisrpartitioncount", f64::from(PARTITIONS));
    wait_for_sum(&cluster, "kafka_controller_kafkacontroller_fencedbrokercount", 2.0);

    // A deadline that passes is a no, with its reasons; so is an interrupted command.
    let late = start_waiting(&cluster, ids[1], "--wait=20");
    assert_eq!(command(&cluster, 0, 999).arg("--wait").output().unwrap().status.code(), Some(2));
    let interrupted = start_waiting(&cluster, ids[1], "--wait");
    assert!(Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status().unwrap().success());
    assert_eq!(interrupted.wait_with_output().unwrap().status.code(), Some(1));
    let waiting = start_waiting(&cluster, ids[1], "--wait=600");
    let late = late.wait_with_output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&late.stdout), String::from_utf8_lossy(&late.stderr));
    assert_eq!(late.status.code(), Some(1), "{out}{said}");
    assert!(out.contains("t-5") && said.contains("deadline of 20 s"), "{out}{said}");

    cluster.restart(2);
    let answer = waiting.wait_with_output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.stdout).contains("may be stopped"), "{answer:?}");
    cluster.wait_in_sync("t");
    wait_for_sum(&cluster, UNDER_REPLICATED, 0.0);
    wait_for_sum(&cluster, "kafka_controller_kafkacontroller_fencedbrokercount", 0.0);
    wait_for_sum(&cluster, "kafka_controller_kafkacontroller_offlinepartitionscount", 0.0);
    assert!(sum(&cluster, "kafka_server_replicamanager_isrexpands_total") >= f64::from(PARTITIONS));
    wait_for_stop_answer(&cluster, ids[1], "the stop is safe again", |_, answer| answer["safe"] == true);
}

#[test]
fn a_node_without_a_quorum_is_not_ready() {
    let mut cluster = Cluster::start(3);
    let node_id = cluster.node_id(1);
    cluster.kill(1);
    cluster.kill(2);
    let voters = [1, 2].map(|at| cluster.address(at).to_string());
    wait_for_health(&cluster, 0, 503, &["nothing is acknowledged", &voters[0], &voters[1]]);
    let (status, problem) = safe_to_stop(&cluster, 0, node_id);
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("ask another one"), "{problem}");
    assert_eq!(cluster.node(0).metric("esker_broker_isolated"), 1.0);
    assert_eq!(cluster.node(0).metric("esker_broker_lease_remaining_seconds"), 0.0);
    cluster.restart(1);
    for at in [0, 1] {
        wait_for_health(&cluster, at, 200, &["ready"]);
    }
}
