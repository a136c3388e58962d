//! What a new leader knows of producers: what it appended as a follower.

use esker_storage::{AppendError, ProducerError};

use super::*;

/// Copies the whole log of `leader` to `follower`, which follows in `leader_epoch`.
fn replicate(leader: &Replica, follower: &Replica, leader_epoch: i32) {
    let (from, to) = (leader.partition.log(), follower.partition.log().log_end_offset());
    let read = from.read(to, 1 << 20, from.log_end_offset(), true).unwrap();
    follower.partition.append_as_follower(leader_epoch, read.records, NOW).unwrap();
}

/// A follower of broker 2, in leader epoch 1, with three batches of one transaction.
fn follower() -> Replica {
    let (leader, follower) = (Replica::leading(&[1, 2]), Replica::leading(&[1]));
    follower.set_role(2, 1, &[1, 2]);
    (0..2).for_each(|sequence| leader.append_batch(transactional(sequence), CLIENT));
    replicate(&leader, &follower, 1);
    leader.append_batch(transactional(2), CLIENT);
    replicate(&leader, &follower, 1);
    follower
}

fn append(replica: &Replica, sequence: i32) -> Result<Appended, ProduceError> {
    let bytes = transactional(sequence);
    let header = BatchHeader::parse(&bytes).unwrap();
    replica.partition.append(&header, &bytes, CLIENT, false, NOW)
}

#[test]
fn sequences_and_transactions_continue_on_the_new_leader() {
    let replica = follower();
    let log = replica.partition.log();
    assert_eq!(log.first_unstable_offset(), Some(0), "the follower knows the open transaction");
    assert!(replica.partition.follow_high_watermark(1, 3).unwrap());
    assert_eq!((log.high_watermark(), log.last_stable_offset()), (3, 0));

    replica.set_role(1, 2, &[1]);
    assert!(log.begin_verification(9, 0, 3).is_none(), "the transaction is open: it needs no verification");
    let repeated = append(&replica, 1).unwrap();
    assert_eq!((repeated.duplicate, repeated.base_offset), (true, 1));
    let gap = append(&replica, 4).unwrap_err();
    let is_gap = matches!(gap, ProduceError::Append(AppendError::Producer(ProducerError::OutOfOrderSequence { .. })));
    assert!(is_gap, "{gap}");
    let next = append(&replica, 3).unwrap();
    assert_eq!((next.duplicate, next.base_offset, log.last_stable_offset()), (false, 3, 0));
    commit(&replica);
    assert_eq!(log.last_stable_offset(), 5, "the marker ends what began under another leader");
}

#[test]
fn a_batch_that_was_truncated_is_no_duplicate() {
    let replica = follower();
    replica.partition.truncate_to(1, 1).unwrap();
    replica.set_role(1, 2, &[1]);
    let again = append(&replica, 1).unwrap();
    assert_eq!((again.duplicate, again.base_offset), (false, 1));
    assert!(append(&replica, 0).unwrap().duplicate);
}

#[test]
fn a_decision_of_an_earlier_leadership_is_not_appended() {
    let replica = Replica::leading(&[1]);
    let bytes = transactional(0);
    let header = BatchHeader::parse(&bytes).unwrap();
    let append = |epoch| replica.partition.append_in_epoch(epoch, &header, &bytes, CLIENT, NOW);
    replica.set_role(1, 2, &[1]);
    assert!(matches!(append(0), Err(ProduceError::Access(AccessError::NotLeader(_)))));
    assert_eq!(replica.partition.log().log_end_offset(), 0);
    assert_eq!(append(2).unwrap().base_offset, 0);
}
