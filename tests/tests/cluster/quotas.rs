//! Replication quotas (KIP-73): a follower that catches up is held to the rate, and what is in sync is not.

use std::time::Instant;

use esker_tests::cluster::{Cluster, find, wait_until};

use super::reassign::{BATCH, BATCHES, STUCK, TOPIC, Writers, fill, fill_with, replicas, write_meanwhile};

/// A partition that is written meanwhile.
const FOREGROUND: i32 = 0;
/// What a follower has to catch up with, in the partition that is throttled.
const THROTTLED: i32 = 1;
const BYTES: f64 = (BATCH as u64 * BATCHES) as f64;
/// Bytes a second.
const LIMIT: u32 = 2_000_000;

const TOPIC_CONFIG: i8 = 2;
const BROKER_CONFIG: i8 = 4;

/// Whether a replica is in sync, as a live node knows it.
fn is_in_sync(cluster: &Cluster, partition: i32, node_id: i32) -> Option<bool> {
    replicas(cluster, TOPIC, partition).map(|(_, isr)| isr.contains(&node_id))
}

/// The follower misses [`BYTES`], and comes back with a limit in force. Returns the rate at which it caught up.
fn catch_up(cluster: &mut Cluster, writers: &Writers<'_>, follower: usize, limit: impl Fn(&Cluster, i32, &str)) -> f64 {
    let node_id = cluster.node_id(follower);
    cluster.kill(follower);
    wait_until("it is out of sync", || is_in_sync(cluster, THROTTLED, node_id) == Some(false));
    fill(cluster, TOPIC, THROTTLED);
    limit(cluster, node_id, STUCK);
    let began = Instant::now();
    cluster.restart(follower);
    // What is in sync goes on while the copy is stuck: the other partition of this follower, and the other follower of this partition.
    wait_until("the other partition is in sync", || is_in_sync(cluster, FOREGROUND, node_id) == Some(true));
    fill_with(cluster, TOPIC, THROTTLED, 1);
    writers.wait_for_records();
    let has_caught_up = find("the topic", || is_in_sync(cluster, THROTTLED, node_id));
    assert!(!has_caught_up, "nothing holds it to {STUCK} bytes/s");
    limit(cluster, node_id, &LIMIT.to_string());
    wait_until("it has caught up", || is_in_sync(cluster, THROTTLED, node_id) == Some(true));
    BYTES / began.elapsed().as_secs_f64()
}

#[test]
fn a_follower_that_catches_up_keeps_to_the_quota() {
    // The leader that is throttled leads to the end.
    let mut cluster = Cluster::start_steady(3);
    cluster.create_topic(TOPIC, 2, "flush");
    let leader = cluster.leader(TOPIC, THROTTLED);
    let (leader_id, follower) = (cluster.node_id(leader), (leader + 1) % 3);
    // That it is not far too slow, the deadline of the wait says.
    let check = |what: &str, found: f64| {
        println!("{what}: {found:.0} bytes/s of {LIMIT}");
        assert!(found < f64::from(LIMIT) * 2.0, "{what}: {found}");
    };
    let by_leader = |cluster: &Cluster, _: i32, rate: &str| {
        cluster.set_config(BROKER_CONFIG, &leader_id.to_string(), "leader.replication.throttled.rate", rate);
        let replicas = format!("{THROTTLED}:{leader_id}");
        cluster.set_config(TOPIC_CONFIG, TOPIC, "leader.replication.throttled.replicas", &replicas);
    };
    let by_follower = |cluster: &Cluster, node_id: i32, rate: &str| {
        cluster.set_config(BROKER_CONFIG, &node_id.to_string(), "follower.replication.throttled.rate", rate);
        let replicas = format!("{THROTTLED}:{node_id}");
        cluster.set_config(TOPIC_CONFIG, TOPIC, "follower.replication.throttled.replicas", &replicas);
    };
    write_meanwhile(&mut cluster, 1, |cluster, writers: &Writers<'_>| {
        check("leader", catch_up(cluster, writers, follower, by_leader));
        cluster.set_config(TOPIC_CONFIG, TOPIC, "leader.replication.throttled.replicas", "");
        cluster.wait_in_sync(TOPIC);
        check("follower", catch_up(cluster, writers, follower, by_follower));
    });
}
