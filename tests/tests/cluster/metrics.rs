//! Metrics that alerts are made of: each condition is brought about, and the metrics say so, and say that it is over.

use std::io::Write;
use std::process::{Command, Stdio};

use esker_protocol::compression::Compression;
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::topics::new_topic;
use esker_tests::wire::{PRODUCE, Wire, produce_request, produced};
use esker_tests::{PATIENCE, binary, metric_in};

/// A metric, summed over the nodes that run.
fn sum(cluster: &Cluster, name: &str) -> f64 {
    cluster.live().map(|at| cluster.node(at).metric(name)).sum()
}

fn wait_for_sum(cluster: &Cluster, name: &str, what: &str, is_it: impl Fn(f64) -> bool) {
    let mut last = f64::NAN;
    wait_until(&format!("{name} is {what}"), || {
        let found = sum(cluster, name);
        if found != last {
            eprintln!("{name}: {found}");
            last = found;
        }
        is_it(found)
    });
}

fn wait_for(cluster: &Cluster, name: &str, expected: usize) {
    wait_for_sum(cluster, name, &expected.to_string(), |found| found == expected as f64);
}

/// Rows of a family with this value, on all nodes that run.
fn rows_with(cluster: &Cluster, family: &str, value: &str) -> usize {
    let rows = |at| {
        let scrape = cluster.node(at).http_get("/metrics");
        let rows = scrape.lines().filter(|line| line.starts_with(family) && line.ends_with(value));
        rows.count()
    };
    cluster.live().map(rows).sum()
}

fn create(cluster: &Cluster, name: &str, partitions: i32, replication: i16, min_isr: &str) {
    let configs = [("min.insync.replicas", min_isr), ("durability", "page-cache")];
    cluster.create_in_sync(new_topic(name, partitions, replication, &configs));
}

fn produce(cluster: &Cluster, topic: &str, acks: i16) {
    find("an acknowledgement", || {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(0, 1, None, Some(&[7; 1000]), &[]);
        let mut wire = Wire::new(cluster.address(cluster.leader(topic, 0)), PATIENCE);
        let answer = wire.ask(PRODUCE, &produce_request(topic, 0, acks, batch.build().expect("a batch"))).ok()?;
        (!produced(&answer).error_code.is_error()).then_some(())
    });
}

const CONTROLLER: &str = "kafka_controller_kafkacontroller_";
const MANAGER: &str = "kafka_server_replicamanager_";

#[test]
fn a_dead_node_shows_in_the_metrics_of_the_others() {
    let mut cluster = Cluster::start_steady(3);
    create(&cluster, "t", 3, 3, "2");
    create(&cluster, "strict", 2, 3, "3");
    create(&cluster, "single", 6, 1, "1");
    produce(&cluster, "t", -1);
    let controller = cluster.controller();
    let victim = (0..3).find(|at| *at != controller).expect("another node");
    let lost = (0..6).filter(|partition| cluster.leader("single", *partition) == victim).count();
    assert!(lost > 0, "the node leads some partitions");
    for (name, expected) in [
        ("underreplicatedpartitions", 0),
        ("underminisrpartitioncount", 0),
        ("atminisrpartitioncount", 2 + 6),
        ("offlinereplicacount", 0),
        ("leadercount", 11),
        ("partitioncount", 15 + 6),
    ] {
        wait_for(&cluster, &format!("{MANAGER}{name}"), expected);
    }
    wait_for(&cluster, "kafka_brokers", 3);
    wait_for(&cluster, "kafka_topic_partitions{topic=\"t\"}", 3);
    wait_for(&cluster, &format!("{CONTROLLER}offlinepartitionscount"), 0);
    wait_for(&cluster, &format!("{CONTROLLER}activecontrollercount"), 1);
    assert_eq!(rows_with(&cluster, "kafka_topic_partition_leader{", ""), 11);
    assert_eq!(rows_with(&cluster, "kafka_topic_partition_under_replicated_partition{", " 1"), 0);
    // Followers and nodes have talked to each other.
    let fetches = "kafka_network_requestmetrics_totaltimems_count{request=\"FetchFollower\"}";
    wait_for_sum(&cluster, fetches, "more than 0", |found| found > 0.0);
    let bytes = "kafka_server_brokertopicmetrics_replicationbytesout_total{topic=\"t\"}";
    wait_for_sum(&cluster, bytes, "two copies", |found| found >= 2000.0);
    wait_for_sum(&cluster, &bytes.replace("bytesout", "bytesin"), "two copies", |found| found >= 2000.0);
    for at in cluster.live() {
        assert!(rows_with(&cluster, "esker_peer_round_trip_ms_count{", "") >= 2, "node {at} knows the others");
    }
    assert!(sum(&cluster, "esker_raft_commit_ms_count") > 0.0);
    assert!(sum(&cluster, "kafka_controller_controllereventmanager_eventqueuetimems_count") > 0.0);

    cluster.kill(victim);
    let survivors = cluster.live().count();
    for (name, expected) in [
        ("underreplicatedpartitions", 5),
        ("underminisrpartitioncount", 2),
        ("atminisrpartitioncount", 3 + 6 - lost),
        ("leadercount", 11 - lost),
    ] {
        wait_for(&cluster, &format!("{MANAGER}{name}"), expected);
    }
    wait_for(&cluster, &format!("{CONTROLLER}offlinepartitionscount"), lost * survivors);
    wait_for(&cluster, &format!("{CONTROLLER}fencedbrokercount"), survivors);
    wait_for(&cluster, "kafka_brokers", 2);
    wait_for_sum(&cluster, &format!("{CONTROLLER}timedoutbrokerheartbeatcount"), "1", |found| found >= 1.0);
    wait_for_sum(&cluster, "esker_last_failover_seconds", "a time", |found| found > 0.0 && found < 60.0);
    wait_until("the active controller has the rows of partitions without a leader", || {
        rows_with(&cluster, "kafka_topic_partition_leader{", " -1") == lost
            && rows_with(&cluster, "kafka_topic_partition_under_replicated_partition{", " 1") == 5 + lost
    });
    assert_eq!(rows_with(&cluster, "kafka_cluster_partition_underreplicated{", " 1"), 5);
    assert_eq!(rows_with(&cluster, "kafka_cluster_partition_underminisr{", " 1"), 2);
    assert_eq!(sum(&cluster, "kafka_controller_controllerstats_uncleanleaderelections_total"), 0.0);
    produce(&cluster, "t", 1);
    wait_for_sum(&cluster, "esker_follower_lag_records", "at least the record", |found| found >= 1.0);
    wait_for_sum(&cluster, "esker_follower_lag_seconds", "more than 0", |found| found > 0.0);

    cluster.restart(victim);
    cluster.wait_in_sync("t");
    cluster.wait_in_sync("strict");
    for name in ["underreplicatedpartitions", "underminisrpartitioncount"] {
        wait_for(&cluster, &format!("{MANAGER}{name}"), 0);
    }
    wait_for(&cluster, &format!("{CONTROLLER}offlinepartitionscount"), 0);
    wait_for_sum(&cluster, &format!("{MANAGER}isrexpands_total"), "5", |found| found >= 5.0);
    wait_for(&cluster, "esker_follower_lag_records", 0);
}

#[test]
fn a_change_of_the_active_controller_shows() {
    let mut cluster = Cluster::start_steady(3);
    let controller = cluster.controller();
    let changes = format!("{CONTROLLER}newactivecontrollerscount");
    let before: Vec<f64> = (0..3).map(|at| cluster.node(at).metric(&changes)).collect();
    cluster.kill(controller);
    for at in cluster.live() {
        wait_until("the node sees another leader", || {
            let scrape = cluster.node(at).http_get("/metrics");
            metric_in(&scrape, &changes) > before[at]
                && metric_in(&scrape, "esker_raft_last_election_seconds") > 0.0
                && metric_in(&scrape, "kafka_server_raftmetrics_current_leader") >= 0.0
        });
    }
    wait_for(&cluster, &format!("{CONTROLLER}activecontrollercount"), 1);
    let state = |state: &str| format!("kafka_server_raftmetrics_current_state{{current_state=\"{state}\"}}");
    wait_for(&cluster, &state("leader"), 1);
    wait_for(&cluster, &state("follower"), 1);
}

/// The coordinator of a group has no replica of most partitions that the group reads.
#[test]
fn lags_are_known_where_the_partitions_are_elsewhere() {
    let cluster = Cluster::start_steady(3);
    create(&cluster, "spread", 6, 1, "1");
    let bootstrap = cluster.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let run = |arguments: &[&str], input: &str| {
        let mut command = Command::new(binary());
        let mut child = command
            .args(arguments)
            .args(["-b", &bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "{arguments:?}");
    };
    let produce_to_all =
        |lines| (0..6).for_each(|partition| run(&["produce", "spread", "-p", &format!("{partition}")], lines));
    produce_to_all("one\ntwo\n");
    run(&["consume", "spread", "-g", "readers", "-o", "start", "-n", "12"], "");
    produce_to_all("three\n");
    wait_for(&cluster, r#"kafka_consumergroup_lag_sum{consumergroup="readers",topic="spread"}"#, 6);
    assert_eq!(rows_with(&cluster, r#"kafka_consumergroup_lag{consumergroup="readers""#, " 1"), 6);
}
