//! Which fetches count, and what a proposal does to the high watermark.

use esker_core::replication::ReplicaEnds;

use super::*;
use crate::replica::AccessError;
use crate::replica::test_support::Replica;

const LAG: Duration = Duration::from_secs(3600);

fn fetch(id: i32, leader_epoch: i32, offset: i64, last_fetched_epoch: i32) -> ReplicaFetch {
    let ends = ReplicaEnds { log_end: offset, flushed: offset };
    ReplicaFetch {
        follower: FollowerFetch { id, broker_epoch: 5, log_start: 0, ends },
        leader_epoch,
        last_fetched_epoch,
    }
}

#[test]
fn a_fetch_of_a_log_that_diverges_does_not_count() {
    let replica = Replica::leading(&[1, 2]);
    let partition = &replica.partition;
    (0..2).for_each(|_| replica.append());
    replica.set_role(1, 2, &[1, 2]);
    (0..2).for_each(|_| replica.append());
    let nothing = FollowerUpdate::default();
    // The follower has a record of epoch 1 at offset 2, the leader one of epoch 2.
    assert_eq!(partition.record_fetch(&fetch(2, 2, 3, 1)).unwrap(), nothing);
    assert_eq!(partition.record_fetch(&fetch(2, 2, 4, 0)).unwrap(), nothing, "two records of epoch 0 too many");
    assert_eq!(partition.record_fetch(&fetch(2, 2, 5, 2)).unwrap(), nothing, "past the log end");
    assert_eq!(partition.log().high_watermark(), 0);
    assert!(partition.record_fetch(&fetch(2, 2, 2, 0)).unwrap().moved);
    assert!(partition.record_fetch(&fetch(2, 2, 3, 2)).unwrap().moved);
    assert_eq!(partition.log().high_watermark(), 3);
}

#[test]
fn a_fetch_in_another_epoch_or_of_a_stranger_is_refused() {
    let replica = Replica::leading(&[1, 2]);
    replica.set_role(1, 2, &[1, 2]);
    let refused = |fetch| match replica.partition.record_fetch(&fetch) {
        Err(FetchError::Access(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(fetch(2, 1, 0, -1)), AccessError::FencedLeaderEpoch { .. }));
    assert!(matches!(refused(fetch(2, 3, 0, -1)), AccessError::UnknownLeaderEpoch { .. }));
    for stranger in [1, 9, -1] {
        assert!(matches!(refused(fetch(stranger, 2, 0, -1)), AccessError::NotLeader(_)), "{stranger}");
    }
    // No epoch at all is a client's way to ask.
    assert!(matches!(refused(fetch(2, -1, 0, -1)), AccessError::NotLeader(_)));
}

#[test]
fn a_proposed_member_is_waited_for_until_the_controller_refuses_it() {
    let replica = Replica::leading(&[1]);
    let partition = &replica.partition;
    replica.append();
    assert_eq!(partition.log().high_watermark(), 1);
    assert!(partition.record_fetch(&fetch(2, 0, 1, 0)).unwrap().could_join);
    assert_eq!(partition.propose_isr(LAG, |id, epoch| id != 2 || epoch != 5), IsrStep::Later, "it is not eligible");
    let IsrStep::Propose(proposal) = partition.propose_isr(LAG, |_, _| true) else { panic!() };
    let expected =
        IsrProposal { leader_epoch: 0, partition_epoch: 0, isr: vec![1, 2], epochs: vec![-1, 5], shrinks: false };
    assert_eq!(proposal, expected);
    assert_eq!(partition.propose_isr(LAG, |_, _| true), IsrStep::Later, "one at a time");
    replica.append();
    assert_eq!(partition.log().high_watermark(), 1, "it waits for the member that may be in sync already");
    assert!(partition.is_current(&proposal));
    partition.withdraw_isr(&IsrProposal { partition_epoch: 7, ..proposal.clone() });
    assert_eq!(partition.log().high_watermark(), 1, "another proposal");
    partition.withdraw_isr(&proposal);
    assert_eq!(partition.log().high_watermark(), 2);
    assert!(!partition.record_fetch(&fetch(2, 0, 1, 0)).unwrap().could_join, "it lacks a committed record");
}
