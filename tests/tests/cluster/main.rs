//! Clusters of several real nodes: how they form, what clients see while nodes are killed, paused, stopped and restarted, and what a
//! connection that only claims to be a node's can do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

mod bounds;
mod controller;
mod cordon;
mod deletions;
mod forming;
mod growth;
mod health;
mod http;
mod kills;
mod listeners;
mod log_dirs;
mod metrics;
mod moves;
mod observers;
mod pauses;
mod private_apis;
mod quotas;
mod racks;
mod reassign;
mod refused;
mod restarts;
mod tracing;
mod try_cluster;
mod voters;

use esker_tests::cluster::Cluster;

/// Compares the batches of one partition on the disks of all three nodes, which must not run, up to `end`.
fn assert_equal_replicas(cluster: &Cluster, topic: &str, partition: i32, end: i64) {
    assert_equal_batches(cluster, &[0, 1, 2], topic, partition, end);
}

/// As [`assert_equal_replicas`], on the disks of some nodes.
fn assert_equal_batches(cluster: &Cluster, nodes: &[usize], topic: &str, partition: i32, end: i64) {
    let first = cluster.batches(nodes[0], topic, partition, end);
    assert!(!first.is_empty(), "{topic}-{partition} is empty up to {end}");
    let last = first.last_key_value().map(|(base, _)| *base);
    for at in &nodes[1..] {
        let other = cluster.batches(*at, topic, partition, end);
        let bases = (first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        assert_eq!(bases.0, bases.1, "{topic}-{partition}: base offsets on nodes {} and {at} up to {end}", nodes[0]);
        for (base, batch) in &first {
            assert!(
                other[base] == *batch,
                "{topic}-{partition}: nodes {} and {at} differ at {base} of {last:?}",
                nodes[0]
            );
        }
    }
}
