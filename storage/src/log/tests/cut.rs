//! Data and index files that another process cuts while the log is in use: refused as corrupt, without any other effect.

use esker_protocol::{compression::Compression, records::EndTxnMarker, records::end_txn_batch};

use super::*;
use crate::{
    ReadError,
    files::{INDEX, LOG, TIME_INDEX, TXN_INDEX, segment_path},
};

const VALUE: usize = 10_000;

/// Segments of seven batches, each batch in three pages.
fn config() -> LogConfig {
    LogConfig { segment_bytes: 75_000, index_interval_bytes: 4096, ..LogConfig::default() }
}

fn filled(opening: &Opening, dir: &Path, batches: u8) -> Log {
    let log = opening.open(dir);
    for i in 0..batches {
        append_bytes(&log, batch(Compression::None, &[(NOW + i64::from(i), &[i; VALUE])]), CLIENT, 0).unwrap();
    }
    log.advance_high_watermark(i64::MAX);
    log
}

fn cut(log: &Log, base: i64, suffix: &str, len: u64) {
    let path = segment_path(log.dir(), base, suffix);
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn is_corrupt<T: std::fmt::Debug>(read: Result<T, ReadError>) -> bool {
    matches!(read, Err(ReadError::Corrupt { .. }))
}

/// Closes the open files of the log's segments, by opening those of another log.
fn close_files(opening: &Opening, dir: &Path) {
    opening.files.set_limit(1);
    let other = dir.join("other");
    let log = opening.open(&other);
    append(&log, &[b"x"]);
    opening.files.set_limit(100);
}

/// Reads as a connection does: a slice that the kernel could not send is touched, and the client sends the request again.
fn sent(log: &Log, offset: i64, max_bytes: usize) -> Result<ReadInfo, ReadError> {
    match log.read_cold(offset, max_bytes, i64::MAX, true) {
        Ok(info) if crate::verify_slice(&info.records) => log.read_cold(offset, max_bytes, i64::MAX, true),
        read => read,
    }
}

/// Offsets that can be read, each alone and with the records behind it.
fn readable(log: &Log) -> Vec<i64> {
    let one = |offset: i64| match sent(log, offset, 1) {
        Ok(info) => {
            let found = records(&info.records);
            assert_eq!(found, [(offset, vec![offset as u8; VALUE])]);
            true
        }
        read => {
            assert!(is_corrupt(read), "offset {offset}");
            false
        }
    };
    let offsets: Vec<i64> = (0..log.log_end_offset()).filter(|offset| one(*offset)).collect();
    for offset in &offsets {
        let info = sent(log, *offset, 1 << 20).unwrap();
        let found = records(&info.records);
        assert!(found.iter().all(|(offset, value)| *value == [*offset as u8; VALUE]), "no zeros from offset {offset}");
    }
    offsets
}

#[test]
fn a_cut_segment_is_served_up_to_the_cut_and_refused_from_there_on() {
    // Segment; position of the cut; offsets that can still be read.
    let cases = [(0, 0, 0..0), (0, 25_000, 0..2), (7, 0, 7..7), (7, 25_000, 7..9)];
    for (base, len, left) in cases {
        for evicted in [false, true] {
            let case = format!("segment {base} cut to {len}, evicted {evicted}");
            let dir = tempfile::tempdir().unwrap();
            let opening = Opening::new(config());
            let log = filled(&opening, dir.path(), 10);
            assert_eq!(log.segment_count(), 2, "{case}");
            // Mapped, its pages touched.
            assert_eq!(readable(&log).len(), 10, "{case}");
            if evicted {
                close_files(&opening, dir.path());
            }
            cut(&log, base, LOG, len);
            let other = if base == 0 { 7..10 } else { 0..7 };
            let mut expected: Vec<i64> = left.clone().chain(other).collect();
            expected.sort_unstable();
            assert_eq!(readable(&log), expected, "{case}");
            assert!(is_corrupt(log.read(left.end, 1, i64::MAX, true)), "{case}");
            assert!(!is_corrupt(log.read_resident(expected[0], 1, i64::MAX, true)), "{case}");
            let ranges = log.damaged_ranges();
            assert_eq!(ranges.len(), 1, "{case}: {ranges:?}");
            assert_eq!((ranges[0].segment, ranges[0].position), (base, len), "{case}");
            assert!(
                ranges[0].first_offset <= left.end
                    && ranges[0].end_offset == base.max(3) + if base == 0 { 4 } else { 3 }
            );
            // Appends continue behind the damage.
            assert_eq!(append(&log, &[&[10; VALUE]]).base_offset, 10, "{case}");
            assert!(!log.is_offline(), "{case}");
            expected.push(10);
            assert_eq!(readable(&log), expected, "{case}");
            log.flush().unwrap();
            // A clean restart still knows the damage, and assigns no offset twice.
            log.close_clean(true).unwrap();
            drop(log);
            let log = Opening { clean: true, recovery_point: 11, ..Opening::new(config()) }.open(dir.path());
            assert_eq!(append(&log, &[&[11; VALUE]]).base_offset, 11, "{case}");
        }
    }
}

#[test]
fn an_append_to_a_cut_file_that_was_not_open_goes_to_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening::new(config());
    let log = filled(&opening, dir.path(), 3);
    log.flush().unwrap();
    close_files(&opening, dir.path());
    cut(&log, 0, LOG, 0);
    // The reserved space is used up, too: the file must be opened.
    for i in 3..8u8 {
        assert_eq!(append(&log, &[&[i; VALUE]]).base_offset, i64::from(i));
    }
    assert!(!log.is_offline());
    assert_eq!(readable(&log), (3..8).collect::<Vec<_>>());
}

#[test]
fn a_slice_of_a_cut_file_is_known_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(&Opening::new(config()), dir.path(), 5);
    let slice = log.read(0, 1 << 20, i64::MAX, true).unwrap().records;
    assert!(!crate::is_damaged(&slice) && !crate::verify_slice(&slice));
    cut(&log, 0, LOG, 25_000);
    assert!(crate::verify_slice(&slice) && crate::is_damaged(&slice));
    assert!(!crate::is_damaged(&slice.slice(..20_000)), "what lies before the cut is sound");
    assert!(!crate::is_damaged(&[0; 10]));
    assert!(is_corrupt(log.read(3, 1, i64::MAX, true)));
}

#[test]
fn a_cut_index_is_rebuild_indexes() {
    for (suffix, len) in [(INDEX, 0), (TIME_INDEX, 0)] {
        for evicted in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            // Index files of more than a page.
            let config = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 1, ..LogConfig::default() };
            let opening = Opening::new(LogConfig { retention_ms: 1000, ..config });
            let log = opening.open(dir.path());
            for i in 0..2000i64 {
                append_bytes(&log, batch(Compression::None, &[(NOW + i, &[7; 20])]), CLIENT, 0).unwrap();
            }
            log.advance_high_watermark(i64::MAX);
            log.roll(NOW).unwrap();
            append_bytes(&log, batch(Compression::None, &[(NOW + 5000, &[7; 20])]), CLIENT, 0).unwrap();
            let before = std::fs::metadata(segment_path(log.dir(), 0, suffix)).unwrap().len();
            assert!(before > 8192);
            let look = || {
                let found = log.offset_for_timestamp(NOW + 1500).unwrap().unwrap().offset;
                let info = log.read_cold(1234, 1, i64::MAX, true).unwrap();
                (found, info.first_offset, log.max_timestamp_offset().unwrap().unwrap().offset)
            };
            assert_eq!(look(), (1500, 1234, 2000));
            // The largest timestamp is looked up again.
            log.segments().iter().for_each(|segment| segment.forget_max_time());
            if evicted {
                close_files(&opening, dir.path());
            }
            cut(&log, 0, suffix, len);
            // Times of zero would make it due.
            assert_eq!(log.retention_pass(NOW + 2500).unwrap().segments, 0, "{suffix}");
            assert_eq!(look(), (1500, 1234, 2000), "{suffix}, evicted {evicted}");
            let resident = log.read_resident(1234, 1, i64::MAX, true).unwrap().unwrap();
            assert_eq!(resident.first_offset, 1234);
            assert!(log.damaged_ranges().is_empty(), "no record is lost");
            let after = std::fs::metadata(segment_path(log.dir(), 0, suffix)).unwrap().len();
            assert_eq!(after, before, "{suffix} is a whole file again");
        }
    }
}

#[test]
fn entries_behind_a_hole_in_an_index_file_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(&Opening::new(config()), dir.path(), 0);
    let abort = |id: i64| {
        append_bytes(&log, producer_batch(id, 0, 0, true, 1), CLIENT, 0).unwrap();
        let marker = EndTxnMarker { committed: false, coordinator_epoch: 3 };
        let bytes = end_txn_batch(id, 0, marker, NOW).unwrap();
        append_bytes(&log, bytes, Origin::Coordinator { transaction_v2: false }, 0).unwrap();
    };
    (1..4).for_each(abort);
    // The first marker is so much later than the first batch that the log rolls.
    cut(&log, 1, TXN_INDEX, 0);
    abort(4);
    log.advance_high_watermark(i64::MAX);
    let aborted =
        |log: &Log| log.aborted_transactions(0, 100).unwrap().iter().map(|txn| txn.producer_id).collect::<Vec<_>>();
    assert_eq!(aborted(&log), [1, 2, 3, 4]);
    log.close_clean(true).unwrap();
    drop(log);
    let log = Opening { clean: true, recovery_point: 8, ..Opening::new(config()) }.open(dir.path());
    assert_eq!(aborted(&log), [1, 2, 3, 4]);
}
