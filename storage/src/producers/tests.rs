use super::*;

const CLIENT: Origin = Origin::Client { transaction_v2: false };
const CLIENT_V2: Origin = Origin::Client { transaction_v2: true };
/// The log end offset: the log has records, or had some.
const END: i64 = 100;
const COORDINATOR: Origin = Origin::Coordinator { transaction_v2: false };

fn batch(epoch: i16, sequence: i32, count: i32, transactional: bool) -> BatchHeader {
    let mut header = crate::test_support::header(count);
    header.producer_id = 7;
    header.producer_epoch = epoch;
    header.base_sequence = sequence;
    header.max_timestamp = 1000;
    if transactional {
        crate::test_support::set_transactional(&mut header);
    }
    header
}

/// Applies batches `(epoch, sequence, count)` one after the other.
fn after(batches: &[(i16, i32, i32)]) -> Producers {
    let (mut producers, mut offset) = (Producers::default(), 0);
    for (epoch, sequence, count) in batches {
        let header = batch(*epoch, *sequence, *count, false);
        assert_eq!(producers.check(&header, None, CLIENT, END), Ok(None), "{batches:?}");
        producers.apply(&header, offset, None);
        offset += i64::from(*count);
    }
    producers
}

#[test]
fn sequences() {
    #[derive(Debug, PartialEq)]
    enum Is {
        New,
        Duplicate(i64),
        Gap,
        OldEpoch,
    }
    use Is::*;
    const MAX: i32 = i32::MAX;
    type Batches = &'static [(i16, i32, i32)];
    let table: &[(Batches, (i16, i32, i32), Is)] = &[
        (&[], (0, 0, 3), New),
        (&[], (0, 40, 3), New),
        (&[(0, 0, 3)], (0, 3, 1), New),
        (&[(0, 0, 3)], (0, 4, 1), Gap),
        (&[(0, 0, 3)], (0, 2, 1), Gap),
        (&[(0, 0, 3)], (0, 0, 3), Duplicate(0)),
        (&[(0, 0, 3)], (0, 0, 2), Gap),
        (&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1)], (0, 0, 1), Duplicate(0)),
        (&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)], (0, 0, 1), Gap),
        (&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)], (0, 1, 1), Duplicate(1)),
        (&[(1, 0, 3)], (0, 3, 1), OldEpoch),
        (&[(1, 0, 3)], (0, 0, 3), OldEpoch),
        (&[(1, 0, 3)], (2, 0, 1), New),
        (&[(1, 0, 3)], (2, 3, 1), Gap),
        (&[(1, 0, 3), (2, 0, 1)], (2, 0, 1), Duplicate(3)),
        (&[(0, MAX, 1)], (0, 0, 1), New),
        (&[(0, MAX, 1)], (0, 1, 1), Gap),
        (&[(0, MAX - 1, 4)], (0, 2, 1), New),
        (&[(0, MAX - 1, 4)], (0, MAX - 1, 4), Duplicate(0)),
        (&[(0, MAX - 2, 2)], (0, MAX, 1), New),
    ];
    for (before, (epoch, sequence, count), expected) in table {
        let producers = after(before);
        let is = match producers.check(&batch(*epoch, *sequence, *count, false), None, CLIENT, END) {
            Ok(None) => New,
            Ok(Some(found)) => Duplicate(found.first_offset()),
            Err(ProducerError::OutOfOrderSequence { .. }) => Gap,
            Err(ProducerError::InvalidEpoch { .. }) => OldEpoch,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(is, *expected, "{before:?} then {epoch} {sequence} {count}");
    }
}

#[test]
fn a_log_begins_at_sequence_zero() {
    let producers = Producers::default();
    for (transactional, origin) in [(false, CLIENT), (true, CLIENT), (true, CLIENT_V2)] {
        let gap = producers.check(&batch(0, 5, 1, transactional), None, origin, 0);
        assert!(matches!(gap, Err(ProducerError::OutOfOrderSequence { last_sequence: -1, .. })), "{gap:?}");
        assert_eq!(producers.check(&batch(0, 0, 5, transactional), None, origin, 0), Ok(None));
    }
    // Without a producer id there is no sequence.
    let mut plain = batch(-1, -1, 1, false);
    plain.producer_id = -1;
    assert_eq!(producers.check(&plain, None, CLIENT, 0), Ok(None));
    assert_eq!(producers.check(&batch(0, -1, 1, true), None, COORDINATOR, 0), Ok(None));
}

#[test]
fn transaction_v2_begins_at_zero() {
    let producers = Producers::default();
    assert!(producers.check(&batch(0, 5, 1, true), None, CLIENT_V2, END).is_err());
    assert_eq!(producers.check(&batch(0, 0, 1, true), None, CLIENT_V2, END), Ok(None));
    assert_eq!(producers.check(&batch(0, 5, 1, true), None, CLIENT, END), Ok(None));
    // The state of a producer without transactions may have expired.
    assert_eq!(producers.check(&batch(0, 5, 1, false), None, CLIENT_V2, END), Ok(None));
}

#[test]
fn only_epochs_hold_for_coordinators() {
    let producers = after(&[(3, 0, 2)]);
    assert_eq!(producers.check(&batch(3, -1, 1, true), None, COORDINATOR, END), Ok(None));
    assert!(matches!(
        producers.check(&batch(2, -1, 1, true), None, COORDINATOR, END),
        Err(ProducerError::InvalidEpoch { .. })
    ));
}

fn marker(commit: bool, coordinator_epoch: i32) -> Option<EndMarker> {
    Some(EndMarker { commit, coordinator_epoch })
}

#[test]
fn transactions_bound_the_last_stable_offset() {
    let mut producers = Producers::default();
    producers.apply(&batch(0, 0, 2, true), 10, None);
    let mut other = batch(0, 0, 1, true);
    other.producer_id = 8;
    producers.apply(&other, 12, None);
    assert_eq!(producers.first_unstable_offset(), Some(10));
    assert!(matches!(
        producers.check(&batch(0, 2, 1, false), None, CLIENT, END),
        Err(ProducerError::InvalidTxnState { first_offset: 10, .. })
    ));
    let end = batch(0, -1, 1, true);
    let completed = producers.apply(&end, 13, marker(false, 1)).unwrap();
    assert_eq!((completed.first_offset, completed.last_offset, completed.aborted), (10, 13, true));
    assert_eq!(completed.last_stable_offset, 12);
    // The marker is not replicated yet.
    assert_eq!(producers.first_unstable_offset(), Some(10));
    assert!(producers.awaits_high_watermark());
    producers.advance_high_watermark(13);
    assert_eq!(producers.first_unstable_offset(), Some(10));
    producers.advance_high_watermark(14);
    assert_eq!(producers.first_unstable_offset(), Some(12));
    // A marker without a transaction completes nothing.
    assert_eq!(producers.apply(&end, 14, marker(true, 1)), None);
    assert!(matches!(
        producers.check(&end, marker(true, 0), COORDINATOR, END),
        Err(ProducerError::CoordinatorFenced { epoch: 0, current: 1, .. })
    ));
}

#[test]
fn markers_of_version_two_bump_the_epoch() {
    let v2 = Origin::Coordinator { transaction_v2: true };
    let mut producers = Producers::default();
    producers.apply(&batch(4, 0, 2, true), 0, None);
    assert!(producers.check(&batch(4, -1, 1, true), marker(true, 0), v2, END).is_err());
    assert!(producers.check(&batch(4, -1, 1, true), marker(true, 0), COORDINATOR, END).is_ok());
    assert!(producers.check(&batch(5, -1, 1, true), marker(true, 0), v2, END).is_ok());
    producers.apply(&batch(5, -1, 1, true), 2, marker(true, 0));
    assert!(producers.check(&batch(5, -1, 1, true), marker(true, 0), v2, END).is_ok(), "a retry");
    assert!(producers.check(&batch(5, 1, 1, true), None, CLIENT_V2, END).is_err(), "the new epoch begins at 0");
    assert!(producers.check(&batch(5, 0, 1, true), None, CLIENT_V2, END).is_ok());
}

#[test]
fn expiry_spares_open_transactions() {
    let mut producers = after(&[(0, 0, 1)]);
    let mut open = batch(0, 0, 1, true);
    open.producer_id = 8;
    producers.apply(&open, 5, None);
    producers.expire(1999, 1000);
    assert_eq!(producers.len(), 2);
    producers.expire(2000, 1000);
    assert_eq!(producers.describe().iter().map(|p| p.producer_id).collect::<Vec<_>>(), [8]);
}

#[test]
fn snapshots() {
    let mut producers = after(&[(2, 0, 3), (2, 3, 4)]);
    let mut open = batch(0, 0, 1, true);
    open.producer_id = 8;
    producers.apply(&open, 50, None);
    let bytes = producers.encode();
    assert_eq!(bytes.len(), 10 + 2 * 46);
    let mut back = Producers::decode(&bytes, 1500, 1000).unwrap();
    assert_eq!(back.describe(), producers.describe());
    assert_eq!(back.first_unstable_offset(), Some(50));
    // The last batch is still known as a duplicate, the one before is not.
    assert_eq!(back.check(&batch(2, 3, 4, false), None, CLIENT, END).unwrap().unwrap().first_offset(), 3);
    assert!(back.check(&batch(2, 0, 3, false), None, CLIENT, END).is_err());
    assert_eq!(back.check(&batch(2, 7, 1, false), None, CLIENT, END), Ok(None));
    back.clear();
    assert_eq!(Producers::decode(&bytes, 5000, 1000).unwrap().len(), 1, "one is expired, one has an open transaction");
    for cut in 0..bytes.len() {
        assert!(Producers::decode(&bytes[..cut], 0, 1000).is_err(), "{cut}");
    }
    for flip in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[flip] ^= 1;
        assert!(Producers::decode(&bad, 0, 1000).is_err(), "{flip}");
    }
}

#[test]
fn a_transaction_begins_only_if_the_coordinator_was_asked() {
    let begins = |guard| Origin::Transaction { transaction_v2: false, guard };
    let (other, batch_0) = (crate::VerificationGuard(99), batch(0, 0, 1, true));
    let mut producers = Producers::default();
    let guard = producers.begin_verification(7, 0, 0).unwrap();
    let not_verified = Err(ProducerError::NotVerified { producer_id: 7 });
    assert_eq!(producers.check(&batch_0, None, begins(other), END), not_verified);
    assert_eq!(producers.check(&batch_0, None, begins(guard), END), Ok(None));
    assert_eq!(producers.begin_verification(7, 0, 0), Some(guard), "asked twice at once");
    producers.apply(&batch_0, 0, None);
    assert_eq!(producers.begin_verification(7, 0, 1), None, "it is open");
    assert_eq!(producers.check(&batch(0, 1, 1, true), None, begins(guard), END), Ok(None));
    assert_eq!(producers.check(&batch_0, None, begins(other), END).unwrap().unwrap().first_offset(), 0, "a retry");
    producers.apply(&batch(0, -1, 1, true), 1, marker(true, 0));
    // A batch that was under way while the transaction ended.
    assert_eq!(producers.check(&batch(0, 1, 1, true), None, begins(guard), END), not_verified);
    let offsets = Origin::TransactionalOffsets { guard };
    assert_eq!(producers.check(&batch(0, -1, 1, true), None, offsets, END), not_verified);
    // So is one that was verified before the marker, and not written.
    let guard = producers.begin_verification(7, 0, 1).unwrap();
    producers.apply(&batch(0, -1, 1, true), 2, marker(false, 0));
    assert_eq!(producers.check(&batch(0, 1, 1, true), None, begins(guard), END), not_verified);
    let guard = producers.begin_verification(7, 0, 1).unwrap();
    producers.cancel_verification(7, guard);
    assert_eq!(producers.check(&batch(0, 1, 1, true), None, begins(guard), END), not_verified);
}

#[test]
fn the_first_batch_of_a_transaction_comes_first() {
    let mut producers = Producers::default();
    let guard = producers.begin_verification(7, 0, 0).unwrap();
    // The first batch is not written yet; the second must not replace it.
    assert_eq!(producers.begin_verification(7, 0, 5), Some(guard));
    let begins = Origin::Transaction { transaction_v2: false, guard };
    assert!(matches!(
        producers.check(&batch(0, 5, 1, true), None, begins, END),
        Err(ProducerError::OutOfOrderSequence { .. })
    ));
    assert_eq!(producers.check(&batch(0, 0, 5, true), None, begins, END), Ok(None));
}

#[test]
fn open_verifications_have_a_bound() {
    let mut producers = Producers::default();
    let first = producers.begin_verification(0, 0, 0).unwrap();
    for id in 1..20_000 {
        assert!(producers.begin_verification(id, 0, 0).is_some());
    }
    assert_ne!(producers.begin_verification(0, 0, 0), Some(first), "the oldest is forgotten");
}
