use std::{
    sync::atomic::{AtomicBool, AtomicI64},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::ReadError;

/// As a fetch does it.
fn read(log: &Log, from: i64, max_bytes: usize) -> Result<ReadInfo, ReadError> {
    match log.read_resident(from, max_bytes, i64::MAX, true)? {
        Some(info) => Ok(info),
        None => log.read_cold(from, max_bytes, i64::MAX, true),
    }
}

/// Readers run against a writer that appends, rolls, truncates and retains. What they get is always whole sound batches, in order,
/// from the requested offset; slices that they hold never change.
#[test]
fn readers_never_see_anything_torn() {
    run(usize::MAX);
}

/// The same, while files and maps are closed and opened again all the time.
#[test]
fn readers_never_see_anything_torn_with_few_open_files() {
    run(2);
}

/// Reads from the start to the end, again and again as the end moves, until the writer is done.
fn follow(log: &Log, max_bytes: usize, done: &AtomicBool, reads: &AtomicI64) {
    let (mut from, mut held) = (0, Vec::new());
    while !done.load(Ordering::Acquire) || from < log.log_end_offset() {
        let info = match read(log, from, max_bytes) {
            Ok(info) => info,
            Err(ReadError::OffsetOutOfRange { .. }) => {
                from = from.clamp(log.log_start_offset(), log.log_end_offset());
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        let mut expected = info.first_offset;
        assert!(expected <= from);
        for (offset, value) in records(&info.records) {
            assert_eq!(offset, expected);
            assert!(value.iter().all(|byte| *byte == value[0]));
            expected += 1;
        }
        assert_eq!(expected, info.next_offset);
        from = info.next_offset;
        reads.fetch_add(1, Ordering::Relaxed);
        if held.len() < 50 {
            held.push((info.records.clone(), info.records.to_vec()));
        }
        if reads.load(Ordering::Relaxed) % 64 == 0 {
            log.release_memory();
        }
    }
    for (slice, before) in held {
        assert_eq!(slice, before);
    }
}

/// However its readers are scheduled, a writer that waits for a read every so many batches has them beside it all the time.
const BATCHES_PER_READ: i64 = 20;

fn run(limit: usize) {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 20_000, index_interval_bytes: 500, ..LogConfig::default() };
    let opening = Opening::new(config);
    opening.files.set_limit(limit);
    let log = opening.open(dir.path());
    let (done, reads) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        for reader in 0..3 {
            let (log, done, reads) = (&log, &done, &reads);
            scope.spawn(move || follow(log, 700 + reader * 3000, done, reads));
        }
        // Beside the writer and its own passes.
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.retention_pass(NOW).unwrap();
                log.save_indexes().unwrap();
                log.flush().unwrap();
            }
        });
        // Only a failure reaches it: then the count below is too low.
        let deadline = Instant::now() + Duration::from_secs(60);
        for i in 0..3000i64 {
            while reads.load(Ordering::Relaxed) * BATCHES_PER_READ < i && Instant::now() < deadline {
                thread::yield_now();
            }
            append(&log, &[&[i as u8; 60], &[i as u8; 30], &[i as u8; 90]]);
            if i % 97 == 96 {
                log.truncate_to(log.log_end_offset() - 30).unwrap();
            }
            if i % 500 == 499 {
                log.advance_high_watermark(log.log_end_offset() - 60);
                log.advance_log_start(log.high_watermark() - 90).unwrap();
                log.retention_pass(NOW).unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(reads.load(Ordering::Relaxed) > 100);
    let image = tempfile::tempdir().unwrap();
    copy(dir.path(), image.path());
    let (recovery_point, log_start) = (log.recovery_point(), log.log_start_offset());
    let back = Opening { recovery_point, log_start, ..Opening::new((*log.config()).clone()) }.open(image.path());
    assert_eq!(back.log_end_offset(), log.log_end_offset());
    assert_eq!(read_all(&back, log_start, 3000), read_all(&log, log_start, 3000));
    assert!(!log.log_dir.is_offline());
}
