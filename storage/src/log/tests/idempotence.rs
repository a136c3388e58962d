use esker_protocol::records::{EndTxnMarker, end_txn_batch};

use super::*;
use crate::{AbortedTransaction, ProducerError};

fn send(log: &Log, id: i64, epoch: i16, sequence: i32, count: usize) -> Result<Appended, AppendError> {
    append_bytes(log, producer_batch(id, epoch, sequence, false, count), CLIENT, 0)
}

fn send_txn(log: &Log, id: i64, sequence: i32) -> i64 {
    append_bytes(log, producer_batch(id, 0, sequence, true, 1), CLIENT, 0).unwrap().base_offset
}

fn end(log: &Log, id: i64, committed: bool) -> i64 {
    let bytes = end_txn_batch(id, 0, EndTxnMarker { committed, coordinator_epoch: 3 }, NOW).unwrap();
    append_bytes(log, bytes, Origin::Coordinator { transaction_v2: false }, 0).unwrap().base_offset
}

#[test]
fn duplicates_are_answered_and_gaps_refused_also_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { producer_id_expiration_ms: i64::MAX, ..small() };
    let log = Opening::new(config.clone()).open(dir.path());
    for i in 0..20 {
        assert!(!send(&log, 1, 0, i * 3, 3).unwrap().duplicate);
        append(&log, &[&[7; 100]]);
    }
    let check = |log: &Log, remembered: i32| {
        let again = send(log, 1, 0, 57, 3).unwrap();
        assert_eq!((again.duplicate, again.base_offset, again.last_offset), (true, 76, 78));
        assert_eq!(again.log_append_time, 1000);
        for i in 0..20 {
            let result = send(log, 1, 0, i * 3, 3);
            if i >= 20 - remembered {
                assert!(result.unwrap().duplicate, "{i}");
            } else {
                assert!(matches!(result, Err(AppendError::Producer(ProducerError::OutOfOrderSequence { .. }))), "{i}");
            }
        }
        assert!(send(log, 1, 0, 61, 1).is_err());
        assert_eq!(log.log_end_offset(), 80);
    };
    check(&log, 5);
    // A crash: state is restored from the newest trusted snapshot and the batches behind it.
    let image = tempfile::tempdir().unwrap();
    copy(dir.path(), image.path());
    check(&Opening::new(config.clone()).open(image.path()), {
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let names = std::fs::read_dir(image.path().join("t-0")).unwrap().map(|e| name(e.unwrap()));
        let newest = names.filter_map(|name| crate::files::offset_of(&name, ".snapshot")).max().unwrap_or(0);
        let after = (0..20).filter(|i| i * 4 >= newest).count() as i32;
        (after + 1).min(5)
    });
    log.close_clean(true).unwrap();
    drop(log);
    let log = Opening { clean: true, ..Opening::new(config.clone()) }.open(dir.path());
    check(&log, 1);
    // Without any snapshot everything is replayed.
    for entry in std::fs::read_dir(image.path().join("t-0")).unwrap().map(|e| e.unwrap().path()) {
        if entry.extension().is_some_and(|e| e == "snapshot") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    check(&Opening { clean: true, ..Opening::new(config) }.open(image.path()), 5);
}

#[test]
fn truncation_takes_producer_state_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(LogConfig { producer_id_expiration_ms: i64::MAX, ..small() }).open(dir.path());
    for i in 0..30 {
        send(&log, 1, 0, i, 1).unwrap();
    }
    log.truncate_to(17).unwrap();
    assert_eq!(log.producers()[0].last_sequence, 16);
    assert!(send(&log, 1, 0, 18, 1).is_err());
    assert_eq!(send(&log, 1, 0, 17, 1).unwrap().base_offset, 17);
    log.truncate_to(0).unwrap();
    assert!(log.producers().is_empty());
}

/// Without it readers would take aborted records for committed ones.
#[test]
fn a_transaction_index_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    append(&log, &[b"closed"]);
    log.roll(1).unwrap();
    drop(log);
    std::fs::create_dir(dir.path().join("t-0/00000000000000000000.txnindex")).unwrap();
    for clean in [true, false] {
        let opening = Opening { clean, recovery_point: 1, ..Opening::new(small()) };
        assert!(opening.try_open_on(Arc::new(OsDisk), dir.path()).is_err(), "clean: {clean}");
    }
}

#[test]
fn stable_offset_and_aborted_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { producer_id_expiration_ms: i64::MAX, ..small() };
    let log = Opening::new(config.clone()).open(dir.path());
    append(&log, &[b"plain"]);
    assert_eq!(send_txn(&log, 1, 0), 1);
    assert_eq!(send_txn(&log, 2, 0), 2);
    append(&log, &[&[0; 1500]]);
    append(&log, &[&[0; 1500]]);
    log.advance_high_watermark(5);
    assert_eq!((log.first_unstable_offset(), log.last_stable_offset()), (Some(1), 1));
    assert_eq!(end(&log, 1, false), 5);
    assert_eq!(log.last_stable_offset(), 1, "the marker is above the high watermark");
    log.advance_high_watermark(6);
    assert_eq!(log.last_stable_offset(), 2);
    assert_eq!(end(&log, 2, true), 6);
    log.advance_high_watermark(7);
    assert_eq!((log.first_unstable_offset(), log.last_stable_offset()), (None, 7));
    let aborted = [AbortedTransaction { producer_id: 1, first_offset: 1 }];
    let check = |log: &Log| {
        assert_eq!(log.aborted_transactions(0, 7).unwrap(), aborted);
        assert_eq!(log.aborted_transactions(1, 2).unwrap(), aborted);
        assert_eq!(log.aborted_transactions(0, 1).unwrap(), []);
        assert_eq!(log.aborted_transactions(6, 7).unwrap(), []);
    };
    check(&log);
    assert_eq!(send_txn(&log, 3, 0), 7);
    let image = tempfile::tempdir().unwrap();
    copy(dir.path(), image.path());
    for (remove_index, recovery_point) in [(false, 0), (false, 5), (true, 0)] {
        if remove_index {
            for entry in std::fs::read_dir(image.path().join("t-0")).unwrap().map(|e| e.unwrap().path()) {
                if entry.extension().is_some_and(|e| e == "txnindex" || e == "snapshot") {
                    std::fs::remove_file(entry).unwrap();
                }
            }
        }
        let opening = Opening { high_watermark: 8, recovery_point, ..Opening::new(config.clone()) };
        let log = opening.open(image.path());
        check(&log);
        assert_eq!(log.last_stable_offset(), 7, "the open transaction is known again");
    }
    // The truncation removes the abort marker: the transaction is open again.
    log.truncate_to(5).unwrap();
    log.advance_high_watermark(5);
    assert_eq!(log.aborted_transactions(0, 5).unwrap(), []);
    assert_eq!(log.last_stable_offset(), 1);
    assert_eq!(end(&log, 1, true), 5);
    log.advance_high_watermark(6);
    assert_eq!(log.aborted_transactions(0, 6).unwrap(), []);
    assert_eq!(log.last_stable_offset(), 2);
}

#[test]
fn a_batch_that_overtakes_the_first_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    // The batch with sequences 0 to 2 was refused, by a broker that did not lead yet, while this one was under way.
    let overtaking = send(&log, 1, 0, 3, 2);
    assert!(
        matches!(overtaking, Err(AppendError::Producer(ProducerError::OutOfOrderSequence { .. }))),
        "{overtaking:?}"
    );
    assert_eq!(send(&log, 1, 0, 0, 3).unwrap().base_offset, 0);
    assert_eq!(send(&log, 1, 0, 3, 2).unwrap().base_offset, 3);
    // The state of a producer may have expired in a log that was written to, also when all its records are deleted.
    assert_eq!(send(&log, 2, 0, 7, 1).unwrap().base_offset, 5);
}
