//! Replication quotas (KIP-73): a follower that catches up is held to the rate, and what is in sync is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::wire::{PRODUCE, Wire, produce_request, produced};
use esker_tests::writer::PartitionWriter;

const TOPIC: &str = "t";
/// What a follower has to catch up with, in the partition that is throttled.
const THROTTLED: i32 = 0;
/// A partition that is written meanwhile.
const FOREGROUND: i32 = 1;
const BATCH: usize = 250_000;
const BATCHES: usize = 40;
const BYTES: f64 = (BATCH * BATCHES) as f64;
/// Bytes a second.
const LIMIT: u32 = 2_000_000;
const ANSWER: Duration = Duration::from_secs(20);
const LONGEST_GAP: Duration = Duration::from_secs(2);

const TOPIC_CONFIG: i8 = 2;
const BROKER_CONFIG: i8 = 4;

/// Produces one batch with `acks=all`, again until it is acknowledged: the node that was killed may have been the active controller.
fn produce(cluster: &Cluster) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1, None, Some(&vec![b'x'; BATCH]), &[]);
    let request = produce_request(TOPIC, THROTTLED, -1, builder.build().unwrap());
    wait_until("a batch is acknowledged", || {
        let mut wire = Wire::new(cluster.address(cluster.leader(TOPIC, THROTTLED)), ANSWER);
        let code = produced(&wire.ask(PRODUCE, &request).unwrap()).error_code;
        assert!(code == ErrorCode::NONE || code.is_retriable(), "{code}");
        code == ErrorCode::NONE
    });
}

fn is_in_sync(cluster: &Cluster, partition: i32, node_id: i32) -> bool {
    let topic = cluster.topic(TOPIC).unwrap();
    topic.partitions.iter().any(|p| p.partition_index == partition && p.isr_nodes.contains(&node_id))
}

/// The follower misses [`BYTES`], and comes back with `limit` in force. Returns the rate at which it caught up, and the longest time between
/// two acknowledgments of the foreground.
fn catch_up(cluster: &mut Cluster, follower: usize, limit: impl FnOnce(&Cluster, i32)) -> (f64, Duration) {
    let node_id = cluster.node_id(follower);
    cluster.kill(follower);
    wait_until("it is out of sync", || !is_in_sync(cluster, THROTTLED, node_id));
    (0..BATCHES).for_each(|_| produce(cluster));
    limit(cluster, node_id);
    let (over, addresses) = (AtomicBool::new(false), cluster.addresses());
    thread::scope(|scope| {
        let foreground = scope.spawn(|| {
            let mut writer = PartitionWriter::new(TOPIC, FOREGROUND, &addresses);
            let (mut gap, mut value) = (Duration::ZERO, 0);
            writer.write(value);
            while !over.load(Ordering::Acquire) {
                let began = Instant::now();
                value += 1;
                writer.write(value);
                gap = gap.max(began.elapsed());
            }
            gap
        });
        let began = Instant::now();
        cluster.restart(follower);
        wait_until("the other partition is in sync", || is_in_sync(cluster, FOREGROUND, node_id));
        // The replica that is in sync is throttled neither: it has what is acknowledged.
        let sent = Instant::now();
        produce(cluster);
        assert!(sent.elapsed() < LONGEST_GAP, "{:?}", sent.elapsed());
        wait_until("it has caught up", || is_in_sync(cluster, THROTTLED, node_id));
        let rate = BYTES / began.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        (rate, foreground.join().unwrap())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_catches_up_keeps_to_the_quota() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic(TOPIC, 2, "flush").await;
    let leader = cluster.leader(TOPIC, THROTTLED);
    let (leader_id, follower) = (cluster.node_id(leader), (leader + 1) % 3);
    let rate = LIMIT.to_string();
    let check = |what: &str, (found, gap): (f64, Duration)| {
        println!("{what}: {found:.0} bytes/s of {LIMIT}, longest gap of the foreground {} ms", gap.as_millis());
        let limit = f64::from(LIMIT);
        assert!(found < limit * 2.0 && found > limit / 5.0, "{what}: {found}");
        assert!(gap < LONGEST_GAP, "{what}: {gap:?}");
    };
    let by_leader = |cluster: &Cluster, _: i32| {
        let name = leader_id.to_string();
        cluster.set_config(BROKER_CONFIG, &name, "leader.replication.throttled.rate", &rate);
        let replicas = format!("{THROTTLED}:{leader_id}");
        cluster.set_config(TOPIC_CONFIG, TOPIC, "leader.replication.throttled.replicas", &replicas);
    };
    check("leader", catch_up(&mut cluster, follower, by_leader));
    cluster.set_config(TOPIC_CONFIG, TOPIC, "leader.replication.throttled.replicas", "");
    cluster.wait_in_sync(TOPIC);
    let by_follower = |cluster: &Cluster, node_id: i32| {
        cluster.set_config(BROKER_CONFIG, &node_id.to_string(), "follower.replication.throttled.rate", &rate);
        let replicas = format!("{THROTTLED}:{node_id}");
        cluster.set_config(TOPIC_CONFIG, TOPIC, "follower.replication.throttled.replicas", &replicas);
    };
    check("follower", catch_up(&mut cluster, follower, by_follower));
}
