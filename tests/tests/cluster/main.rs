//! Clusters of several real nodes: how they form, what clients see while nodes are killed, paused, stopped and restarted, and what a
//! connection that only claims to be a node's can do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

mod bounds;
mod controller;
mod forming;
mod health;
mod kills;
mod log_dirs;
mod pauses;
mod private_apis;
mod quotas;
mod racks;
mod restarts;
mod voters;

use esker_tests::cluster::Cluster;

/// Compares the batches of one partition on the disks of all three nodes, which must not run, up to `end`.
fn assert_equal_replicas(cluster: &Cluster, topic: &str, partition: i32, end: i64) {
    let first = cluster.batches(0, topic, partition, end);
    assert!(!first.is_empty(), "{topic}-{partition} is empty up to {end}");
    let last = first.last_key_value().map(|(base, _)| *base);
    for at in [1, 2] {
        let other = cluster.batches(at, topic, partition, end);
        let bases = (first.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        assert_eq!(bases.0, bases.1, "{topic}-{partition}: base offsets on nodes 0 and {at} up to {end}");
        for (base, batch) in &first {
            assert!(other[base] == *batch, "{topic}-{partition}: nodes 0 and {at} differ at {base} of {last:?}");
        }
    }
}
