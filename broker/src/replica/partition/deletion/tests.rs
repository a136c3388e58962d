//! The low watermark of a leader, and the signals of requests that wait for it.

use esker_core::replication::{FollowerFetch, ReplicaEnds};
use futures_util::FutureExt;

use super::*;
use crate::replica::ReplicaFetch;
use crate::replica::test_support::Replica;

fn fetch(replica: &Replica, id: i32, log_start: i64) {
    let ends = ReplicaEnds { log_end: 3, flushed: 3 };
    let follower = FollowerFetch { id, broker_epoch: 5, log_start, ends };
    replica.partition.record_fetch(&ReplicaFetch { follower, leader_epoch: 0, last_fetched_epoch: 0 }).unwrap();
}

#[test]
fn the_low_watermark_follows_the_reports_of_followers() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    (0..3).for_each(|_| replica.append());
    fetch(&replica, 2, 0);
    assert_eq!(partition.delete_records(-1).unwrap(), 3);
    let low_watermark = |live: &[i32]| partition.low_watermark(|id| live.contains(&id)).unwrap();
    assert_eq!(low_watermark(&[1, 2]), 0, "the follower has not deleted");
    fetch(&replica, 2, 3);
    assert_eq!(low_watermark(&[1, 2]), 3);
    assert_eq!(low_watermark(&[1, 2, 3]), -1, "nothing is known of a live replica");
    assert_eq!(partition.delete_records(1).unwrap(), 1, "nothing to delete is no error");
    assert_eq!(low_watermark(&[1, 2]), 3);
    replica.set_role(2, 1, &[1, 2]);
    assert!(matches!(partition.low_watermark(|_| true), Err(AccessError::NotLeader(_))));
}

#[test]
fn requests_are_signaled_when_the_low_watermark_or_the_role_may_have_changed() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    (0..3).for_each(|_| replica.append());
    let signal = Arc::new(Notify::new());
    let is_signaled = || signal.notified().now_or_never().is_some();
    let pending = partition.park_deletion(&signal);
    assert_eq!(partition.pending_deletions(), 1);
    assert!(!is_signaled());
    fetch(&replica, 2, 0);
    assert!(is_signaled(), "a report");
    replica.set_role(1, 0, &[1]);
    assert!(is_signaled(), "another ISR");
    replica.set_role(2, 1, &[2]);
    assert!(is_signaled(), "another leader");
    partition.close();
    assert!(is_signaled(), "the topic is deleted");
    drop(pending);
    assert_eq!(partition.pending_deletions(), 0);
    replica.set_role(1, 2, &[1]);
    assert!(!is_signaled());
}
