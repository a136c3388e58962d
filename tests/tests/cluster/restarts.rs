//! A rolling restart: each node in turn is asked to stop and started again, under load; and nodes that come back at other addresses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker_client::admin::Resource;
use esker_client::{Admin, ConnectionError, Error};
use esker_protocol::error::ErrorCode;
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::history::History;
use esker_tests::topics::new_topic;
use esker_tests::writer::PartitionWriter;

const PARTITIONS: i32 = 3;
const TOPIC: &str = "t";
/// Records of each partition between two restarts.
const BETWEEN: u64 = 20;

#[test]
fn a_rolling_restart_loses_nothing_and_answers_with_retriable_errors_only() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, PARTITIONS, "page-cache");
    let (addresses, over) = (cluster.addresses(), AtomicBool::new(false));
    let counts: Vec<AtomicU64> = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
    // Each writer fails the test by itself on an error that is not retriable.
    let writers = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..PARTITIONS)
            .zip(&counts)
            .map(|(partition, count)| {
                let (addresses, over) = (&addresses, &over);
                scope.spawn(move || write_until(over, PartitionWriter::new(TOPIC, partition, addresses), count))
            })
            .collect();
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| restart_all(&mut cluster, &counts)));
        over.store(true, Ordering::Release);
        let writers: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("it wrote to the end")).collect();
        restarted.expect("each node is restarted");
        writers
    });
    for at in 0..3 {
        let log = cluster.node(at).log();
        assert!(!log.contains("are not appended"), "a follower appends what it fetched: {log}");
    }
    let mut history = History::default();
    for (partition, writer) in (0..PARTITIONS).zip(writers) {
        history.sends.extend(writer.sends);
        history.last.insert(partition, cluster.read_all(TOPIC, partition).0);
    }
    assert!(history.sends.len() as u64 >= 3 * BETWEEN * PARTITIONS as u64);
    assert_eq!(history.guilt(), []);
}

fn restart_all(cluster: &mut Cluster, counts: &[AtomicU64]) {
    for at in 0..3 {
        let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Acquire)).collect();
        wait_until("records are written", || {
            counts.iter().zip(&before).all(|(count, before)| count.load(Ordering::Acquire) >= before + BETWEEN)
        });
        let status = cluster.terminate(at);
        assert!(status.success(), "node {at} ended with {status}");
        cluster.restart(at);
        cluster.wait_in_sync(TOPIC);
    }
}

fn write_until(over: &AtomicBool, mut writer: PartitionWriter, count: &AtomicU64) -> PartitionWriter {
    let mut value = 0;
    while !over.load(Ordering::Acquire) {
        value += 1;
        // Partitions have values of their own.
        writer.write(value * PARTITIONS as u64 + writer.partition() as u64);
        count.store(value, Ordering::Release);
    }
    writer
}

/// Two nodes come back at each other's addresses: what a client means for one of them is not for the other (KIP-1242).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_change_places_are_told_apart() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, PARTITIONS, "page-cache");
    let client = cluster.client().await;
    let admin = Admin::new(&client);
    let nodes = [1, 2].map(|at| cluster.node_id(at));
    let configs = async |node: i32| admin.describe_configs(&Resource::Broker(Some(node))).await;
    for node in nodes {
        configs(node).await.unwrap();
    }
    cluster.kill(1);
    // The log of node 0 is longer than that of node 1, which is back first: neither leads before node 0 finds the other one.
    assert_eq!(cluster.create(new_topic("later", 1, 1, &[])), ErrorCode::NONE);
    cluster.kill(2);
    cluster.swap_addresses(1, 2);
    cluster.restart(1);
    cluster.restart(2);
    cluster.wait_in_sync(TOPIC);
    for node in nodes {
        let refused = configs(node).await.unwrap_err();
        assert!(matches!(refused, Error::Connection(ConnectionError::Misrouted { .. })), "{refused}");
    }
    client.refresh(&[]).await.unwrap();
    for node in nodes {
        let found = configs(node).await.unwrap();
        let id = found.into_iter().find(|config| config.name == "node.id").unwrap();
        assert_eq!(id.value.unwrap().as_str(), node.to_string());
    }
}

#[test]
fn a_voter_moves_time_and_again() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, PARTITIONS, "page-cache");
    let moving = (cluster.controller() + 1) % 3;
    for _ in 0..3 {
        cluster.kill(moving);
        cluster.move_node(moving);
        cluster.restart(moving);
        cluster.wait_in_sync(TOPIC);
    }
    // To each other's addresses and back.
    let other = (moving + 1) % 3;
    cluster.kill(moving);
    cluster.kill(other);
    cluster.swap_addresses(moving, other);
    cluster.restart(moving);
    cluster.restart(other);
    cluster.wait_in_sync(TOPIC);
    cluster.kill(moving);
    cluster.kill(other);
    cluster.swap_addresses(moving, other);
    cluster.restart(other);
    cluster.restart(moving);
    cluster.wait_in_sync(TOPIC);
    let addresses = cluster.addresses();
    PartitionWriter::new(TOPIC, 0, &addresses).write(1);
}
