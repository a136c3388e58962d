//! The high watermark of a leader with followers, and the requests that wake when it moves or when the role changes.

mod producers;

use std::sync::atomic::AtomicBool;

use esker_core::replication::{CountedEnd, ReplicaEnds};
use esker_protocol::compression::Compression;
use esker_protocol::records::{BatchBuilder, EndTxnMarker, end_txn_batch};
use futures_util::FutureExt;

use super::*;
use crate::replica::error::FollowError;
use crate::replica::purgatory::CommitGate;
use crate::replica::settings::TopicSettings;
use crate::replica::test_support::{NOW, Replica, assignment};

const COMMITTED: Guarantee = Guarantee { committed: true, on_disk: false };
const CLIENT: Origin = Origin::Client { transaction_v2: false };

fn at(log_end: i64) -> ReplicaEnds {
    ReplicaEnds { log_end, flushed: log_end }
}

/// A fetch parked below each bound, armed for the first byte.
struct Parked {
    waiters: [(ReadBound, Arc<FetchWaiter>, Place); 3],
    partition: Arc<Partition>,
}

impl Parked {
    fn on(replica: &Replica) -> Self {
        let partition = Arc::clone(&replica.partition);
        let waiters = [ReadBound::LogEnd, ReadBound::HighWatermark, ReadBound::LastStable].map(|bound| {
            let waiter = FetchWaiter::new();
            waiter.arm(0, 1);
            (bound, Arc::clone(&waiter), partition.park_fetch(bound, &waiter))
        });
        Self { waiters, partition }
    }

    /// Whether a follower, a consumer, and a `read_committed` consumer woke since the last call.
    fn woken(&self) -> [bool; 3] {
        self.waiters.each_ref().map(|(_, waiter, _)| {
            let woken = waiter.wait().now_or_never().is_some();
            waiter.arm(waiter.credited(), 1);
            woken
        })
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        for (bound, _, place) in &self.waiters {
            self.partition.unpark_fetch(*bound, *place);
        }
    }
}

struct Produce {
    gate: Arc<CommitGate>,
    _pending: PendingCommit,
}

fn park(replica: &Replica, guarantee: Guarantee, offset: i64, leader_epoch: i32) -> Produce {
    let gate = CommitGate::new(1);
    let pending = replica.partition.park_commit(guarantee, offset, leader_epoch, &gate);
    Produce { gate, _pending: pending }
}

fn transactional(sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(9, 0, sequence).transactional(true);
    builder.append(0, NOW, None, Some(&[7; 100]), &[]);
    builder.build().unwrap()
}

fn commit(replica: &Replica) {
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
    let batch = end_txn_batch(9, 0, marker, NOW).unwrap();
    replica.append_batch(batch, Origin::Coordinator { transaction_v2: false });
}

#[test]
fn a_followers_fetch_commits_what_every_in_sync_replica_has() {
    let replica = Replica::leading(&[1, 2, 3]);
    let partition = &replica.partition;
    let parked = Parked::on(&replica);
    (0..3).for_each(|_| replica.append());
    assert_eq!(parked.woken(), [true, false, false], "the log end moved, and nothing else");
    let produces = [1, 2, 3].map(|offset| park(&replica, COMMITTED, offset, 0));
    let open = || produces.each_ref().map(|produce| produce.gate.is_open());

    assert!(!partition.update_follower(2, 0, at(3)).unwrap(), "broker 3 is in sync and has not fetched");
    assert_eq!((parked.woken(), open()), ([false; 3], [false; 3]));
    assert!(partition.update_follower(3, 0, at(2)).unwrap());
    assert_eq!(partition.log().high_watermark(), 2);
    assert_eq!((parked.woken(), open()), ([false, true, true], [true, true, false]));
    assert!(!partition.update_follower(3, 0, at(2)).unwrap());
    assert_eq!(parked.woken(), [false; 3], "a fetch from the same offset moves nothing");
    assert!(partition.update_follower(3, 0, at(3)).unwrap());
    assert_eq!((parked.woken(), open()), ([false, true, true], [true; 3]));
    assert!(partition.meets_guarantee(COMMITTED, 3, 0).unwrap());

    // A new configuration or ISR of the same epoch keeps the state of followers.
    replica.append();
    replica.set_role(1, 0, &[1, 2]);
    assert!(partition.update_follower(2, 0, at(4)).unwrap());
    assert_eq!(partition.log().high_watermark(), 4);
}

#[test]
fn a_high_watermark_below_an_open_transaction_wakes_no_read_committed_consumer() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    let parked = Parked::on(&replica);
    replica.append_batch(transactional(0), CLIENT);
    replica.append();
    assert_eq!(parked.woken(), [true, false, false]);
    assert!(partition.update_follower(2, 0, at(2)).unwrap());
    assert_eq!(parked.woken(), [false, true, false], "the transaction is open");
    commit(&replica);
    assert_eq!(parked.woken(), [true, false, false], "its marker is not committed");
    assert!(partition.update_follower(2, 0, at(3)).unwrap());
    assert_eq!(parked.woken(), [false, true, true]);
    assert_eq!(partition.log().last_stable_offset(), 3);
}

#[test]
fn a_report_that_is_not_a_followers_moves_nothing() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    replica.append();
    for broker in [1, 4, -1] {
        assert!(matches!(partition.update_follower(broker, 0, at(1)), Err(AccessError::NotLeader(_))), "{broker}");
    }
    for epoch in [-1, 1] {
        assert!(matches!(partition.update_follower(2, epoch, at(1)), Err(AccessError::NotLeader(_))), "{epoch}");
    }
    assert!(!partition.update_follower(2, 0, at(2)).unwrap(), "past the log end");
    assert_eq!(partition.log().high_watermark(), 0);
    replica.set_role(2, 1, &[1, 2]);
    assert!(matches!(partition.update_follower(2, 1, at(1)), Err(AccessError::NotLeader(_))), "it follows itself");
    partition.close();
    assert_eq!(partition.update_follower(2, 1, at(1)), Err(AccessError::UnknownPartition));
    assert_eq!(partition.log().high_watermark(), 0);
}

#[test]
fn a_member_that_leaves_the_isr_releases_the_produces_that_waited_for_it() {
    let replica = Replica::leading(&[1, 2, 3]);
    replica.append();
    replica.partition.update_follower(2, 0, at(1)).unwrap();
    let produce = park(&replica, COMMITTED, 1, 0);
    assert!(!produce.gate.is_open());
    replica.set_role(1, 0, &[1, 2]);
    assert!(produce.gate.is_open());
    assert!(replica.partition.meets_guarantee(COMMITTED, 1, 0).unwrap());
}

#[test]
fn a_new_leader_epoch_fails_the_produces_of_the_old_one_and_no_others() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    let on_disk = Guarantee { committed: true, on_disk: true };
    replica.append();
    partition.update_follower(2, 0, at(1)).unwrap();
    replica.append();
    let early = [park(&replica, COMMITTED, 2, 0), park(&replica, on_disk, 2, 0)];
    replica.set_role(1, 1, &[1, 2]);
    let late = [park(&replica, COMMITTED, 2, 0), park(&replica, on_disk, 2, 0)];
    for old in early.iter().chain(&late) {
        assert!(old.gate.is_open());
        assert!(matches!(
            partition.meets_guarantee(COMMITTED, 2, 0),
            Err(ProduceError::Access(AccessError::NotLeader(_)))
        ));
    }
    assert_eq!(partition.log().high_watermark(), 1, "what was committed stays so");
    let current = park(&replica, COMMITTED, 2, 1);
    drop(park(&replica, COMMITTED, 2, 0));
    assert!(!current.gate.is_open());
    // A new epoch resets the state of followers: an older epoch's end may belong to records that another leader has truncated.
    assert!(partition.update_follower(2, 1, at(2)).unwrap());
    assert!(current.gate.is_open());
    assert!(partition.meets_guarantee(COMMITTED, 2, 1).unwrap());
    drop((early, late, current));
    assert_eq!(partition.pending_requests(), (0, 0));
}

type End<'a> = &'a dyn Fn(&Replica);

#[test]
fn a_role_that_ends_releases_every_request() {
    let hint = LeaderHint { leader: 2, leader_epoch: 1 };
    let not_leader = AccessError::NotLeader(hint);
    let ends: [(End<'_>, AccessError); 3] = [
        (&|replica| replica.set_role(2, 1, &[1, 2]), not_leader.clone()),
        (&|replica| replica.partition.end_role(NoReplica::Elsewhere(hint)), not_leader),
        (&|replica| replica.partition.close(), AccessError::UnknownPartition),
    ];
    for (end, expected) in ends {
        let replica = Replica::leading(&[1, 2]);
        replica.append();
        let (parked, produce) = (Parked::on(&replica), park(&replica, COMMITTED, 1, 0));
        end(&replica);
        assert!(produce.gate.is_open());
        assert_eq!(parked.woken(), [true; 3]);
        let refused = replica.partition.meets_guarantee(COMMITTED, 1, 0).unwrap_err();
        assert!(matches!(refused, ProduceError::Access(error) if error == expected));
        assert_eq!(replica.partition.leader_for_epoch(-1).unwrap_err(), expected);
        assert!(park(&replica, COMMITTED, 1, 0).gate.is_open(), "no request waits from here on");
    }
}

#[test]
fn a_follower_has_a_replica_too() {
    let replica = Replica::leading(&[1, 2]);
    assert_eq!(replica.partition.check_replica(), Ok(()));
    replica.set_role(2, 1, &[1, 2]);
    assert_eq!(replica.partition.check_replica(), Ok(()));
    let elsewhere = LeaderHint { leader: 2, leader_epoch: 1 };
    replica.partition.end_role(NoReplica::Elsewhere(elsewhere));
    assert_eq!(replica.partition.check_replica(), Err(AccessError::NotLeader(elsewhere)));
}

#[test]
fn where_flushed_offsets_count_the_slowest_disk_commits() {
    let replica = Replica::leading(&[1]);
    let partition = &replica.partition;
    let durable = |epoch, isr: &[i32]| {
        let mut leader = Leader::new(assignment(1, epoch, isr), Arc::clone(&replica.settings));
        leader.counted = CountedEnd::Flushed;
        partition.set_role(Role::Leader(Arc::new(leader))).unwrap();
    };
    let unflushed = |log_end, flushed| ReplicaEnds { log_end, flushed };
    durable(1, &[1]);
    let parked = Parked::on(&replica);
    replica.append();
    assert_eq!((partition.log().high_watermark(), parked.woken()), (0, [true, false, false]));
    let produce = park(&replica, COMMITTED, 1, 1);
    partition.flush();
    assert_eq!((partition.log().high_watermark(), parked.woken()), (1, [false, true, true]));
    assert!(produce.gate.is_open());

    durable(2, &[1, 2]);
    replica.append();
    parked.woken();
    partition.flush();
    assert!(!partition.update_follower(2, 2, unflushed(2, 1)).unwrap(), "the follower has it in memory only");
    assert!(partition.update_follower(2, 2, unflushed(2, 2)).unwrap());
    replica.append();
    assert!(!partition.update_follower(2, 2, unflushed(3, 3)).unwrap(), "the leader has it in memory only");
    parked.woken();
    partition.flush();
    assert_eq!((partition.log().high_watermark(), parked.woken()), (3, [false, true, true]));
}

#[test]
fn an_append_below_min_insync_replicas_commits_nothing() {
    let replica = Replica::leading(&[1]);
    let settings = TopicSettings { min_insync_replicas: 2, ..(*replica.settings).clone() };
    let role = |isr: &[i32]| Role::of(1, assignment(1, 0, isr), Arc::new(settings.clone()));
    replica.partition.set_role(role(&[1])).unwrap();
    replica.append();
    assert_eq!(replica.partition.log().high_watermark(), 0);
    replica.partition.set_role(role(&[1, 2])).unwrap();
    assert!(replica.partition.update_follower(2, 0, at(1)).unwrap());
    assert_eq!(replica.partition.log().high_watermark(), 1);
}

#[test]
fn a_role_reaches_no_disk() {
    let replica = Replica::leading(&[1, 2]);
    replica.append();
    replica.partition.update_follower(2, 0, at(1)).unwrap();
    let calls = replica.disk.calls();
    for epoch in (1..50).step_by(3) {
        replica.set_role(1, epoch, &[1]);
        replica.set_role(2, epoch + 1, &[1, 2]);
        replica.set_role(1, epoch + 2, &[1, 2]);
    }
    assert_eq!(replica.partition.log().epoch_at(1), Some(51), "the epoch begins at the log's end");
    assert_eq!(replica.disk.calls(), calls, "nothing is opened, written or synced");
}

#[test]
fn a_follower_takes_its_leaders_high_watermark_and_truncates_by_epoch() {
    let replica = Replica::leading(&[1]);
    let partition = &replica.partition;
    (0..3).for_each(|_| replica.append());
    assert!(matches!(partition.truncate_to(0, 1), Err(FollowError::NotFollowing(0))), "it leads");
    assert!(matches!(partition.follow_high_watermark(0, 1), Err(FollowError::NotFollowing(0))));
    replica.set_role(2, 1, &[1, 2]);
    assert!(matches!(partition.truncate_to(0, 1), Err(FollowError::NotFollowing(0))), "an answer of an old leader");
    assert!(matches!(partition.follow_high_watermark(0, 1), Err(FollowError::NotFollowing(0))));
    partition.truncate_to(1, 1).unwrap();
    assert_eq!((partition.log().log_end_offset(), partition.log().high_watermark()), (1, 1));
    assert!(!partition.follow_high_watermark(1, 9).unwrap(), "no further than the log reaches");
    assert_eq!(partition.replication_lag(), Some(9 - partition.log().log_end_offset()));
    assert_eq!(partition.log().high_watermark(), 1);
}

/// Ends the loops of other threads, also when its own thread panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A high watermark computed from a log end before a truncation would be past the log end.
#[test]
fn truncation_and_the_high_watermark_exclude_each_other() {
    let replica = Replica::leading(&[1]);
    let partition = &replica.partition;
    for epoch in (0..60).step_by(2) {
        replica.set_role(1, epoch, &[1]);
        (0..4).for_each(|_| replica.append());
        replica.set_role(2, epoch + 1, &[1, 2]);
        let end = partition.log().log_end_offset();
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = Stop(&stopped);
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stopped.load(Ordering::SeqCst) {
                        partition.follow_high_watermark(epoch + 1, i64::MAX).unwrap();
                    }
                });
            }
            for cut in 1..=3 {
                // `truncate_to` has the same assertion.
                partition.truncate_to(epoch + 1, end - cut).unwrap();
                let log = partition.log();
                assert_eq!((log.log_end_offset(), log.high_watermark()), (end - cut, end - cut));
            }
        });
    }
}
