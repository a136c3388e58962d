use std::{sync::atomic::AtomicBool, thread};

use super::*;
use crate::{eviction::ColdReadStats, residency::CHUNK};

fn many(opening: &Opening, dir: &Path, count: usize) -> Vec<Log> {
    (0..count).map(|i| opening.open(&dir.join(i.to_string()))).collect()
}

#[test]
fn many_logs_are_written_and_read_with_few_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening::new(small());
    opening.files.set_limit(5);
    let logs = many(&opening, dir.path(), 40);
    for round in 0..60u8 {
        for (i, log) in logs.iter().enumerate() {
            append(log, &[&[round ^ i as u8; 90]]);
        }
        let stats = opening.files.stats();
        assert!(stats.segments <= 5 && stats.files <= 5, "{stats:?}");
    }
    assert!(logs.iter().all(|log| log.segment_count() > 3));
    let held: Vec<_> = logs.iter().map(|log| log.read(0, 500, i64::MAX, true).unwrap().records).collect();
    // A slice keeps its file; nothing else does.
    assert_eq!(opening.files.stats().files, 40);
    assert!(opening.files.stats().segments <= 5);
    for (i, log) in logs.iter().enumerate() {
        let expected: Vec<_> = (0..60u8).map(|round| (i64::from(round), vec![round ^ i as u8; 90])).collect();
        assert_eq!(read_all(log, 0, 700), expected);
        assert_eq!(log.max_timestamp_offset().unwrap().unwrap().offset, 0);
    }
    for (i, slice) in held.iter().enumerate() {
        assert_eq!(records(slice)[0], (0, vec![i as u8; 90]));
    }
    drop(held);
    assert!(opening.files.stats().files <= 5);
    drop(logs);
    let stats = opening.files.stats();
    assert_eq!((stats.files, stats.segments), (0, 0));
    assert!(stats.evicted > 1000);
}

#[test]
fn a_cut_waits_for_slices_of_a_closed_file() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening::new(LogConfig { index_interval_bytes: 200, ..LogConfig::default() });
    opening.files.set_limit(1);
    let logs = many(&opening, dir.path(), 3);
    for i in 0..50u8 {
        append(&logs[0], &[&[i; 100]]);
    }
    let slice = logs[0].read(0, 1 << 20, i64::MAX, true).unwrap().records;
    let (before, path) = (slice.to_vec(), dir.path().join("0/t-0/00000000000000000000.log"));
    let len = || std::fs::metadata(&path).unwrap().len();
    // The map of the slice is closed, and later opens use the same file.
    append(&logs[1], &[b"x"]);
    logs[0].truncate_to(30).unwrap();
    append(&logs[1], &[b"x"]);
    append(&logs[2], &[b"x"]);
    logs[0].truncate_to(10).unwrap();
    append(&logs[1], &[b"x"]);
    append(&logs[2], &[b"x"]);
    assert!(len() >= before.len() as u64, "a slice still reaches to the old end");
    assert_eq!(slice, before);
    assert_eq!(read_all(&logs[0], 0, 1000).len(), 10);
    drop(slice);
    append(&logs[1], &[b"x"]);
    append(&logs[2], &[b"x"]);
    assert_eq!(read_all(&logs[0], 0, 1000).len(), 10);
    drop(logs);
    assert!(len() < before.len() as u64 / 4, "cut with the last slice");
}

#[test]
fn logs_come_and_go_while_others_push_their_files_out() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening::new(small());
    opening.files.set_limit(3);
    let logs = many(&opening, dir.path(), 8);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for log in &logs[..4] {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let from = log.log_start_offset();
                    // Retention may remove the offset in between.
                    let Ok(info) = log.read_cold(from, 2000, i64::MAX, true) else { continue };
                    let found = records(&info.records);
                    assert!(found.iter().zip(info.first_offset..).all(|((offset, _), expected)| *offset == expected));
                }
            });
        }
        for i in 0..400u16 {
            for log in &logs {
                append(log, &[&[i as u8; 90]]);
                if i % 40 == 39 {
                    log.advance_high_watermark(log.log_end_offset());
                    log.advance_log_start(log.log_end_offset() - 20).unwrap();
                    log.retention_pass(NOW).unwrap();
                    log.flush().unwrap();
                }
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(opening.files.stats().segments <= 3);
}

/// A log of some MiB without any access since it was opened.
fn cold_log(dir: &Path, files: &Arc<OpenFiles>) -> Log {
    let config = LogConfig { segment_bytes: 4 << 20, ..LogConfig::default() };
    let opening = Opening { files: Arc::clone(files), ..Opening::new(config) };
    let log = opening.open(dir);
    for i in 0..200u8 {
        append(&log, &[&vec![i; 60_000]]);
    }
    log.close_clean(true).unwrap();
    drop(log);
    Opening { clean: true, ..opening }.open(dir)
}

#[test]
fn cold_data_is_loaded_once_and_evicted_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::<OpenFiles>::default();
    let log = cold_log(dir.path(), &files);
    assert!(log.read_resident(0, 1000, i64::MAX, true).unwrap().is_none(), "a file that is not open is as cold");
    let (mut from, mut found) = (0, 0);
    files.cold.set_max_chunks(4);
    while from < log.log_end_offset() {
        // A cold read followed by a resident read returns the same, whatever is in the page cache.
        let cold = log.read_cold(from, 300_000, i64::MAX, true).unwrap();
        let hot = log.read_resident(from, 300_000, i64::MAX, true).unwrap();
        assert_eq!(hot.map(|hot| hot.records), Some(cold.records.clone()), "it is there now");
        found += records(&cold.records).len();
        from = cold.next_offset;
    }
    assert_eq!(found, 200);
    assert!(files.cold.stats().held_bytes <= 4 * CHUNK);
    assert!(log.read_resident(from, 1000, i64::MAX, true).unwrap().is_some(), "nothing to read is never cold");
}

#[test]
fn evicted_pages_are_cold() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::<OpenFiles>::default();
    let log = cold_log(dir.path(), &files);
    log.read_cold(0, 1 << 20, i64::MAX, true).unwrap();
    let before = files.cold.stats();
    // Everything but the chunks just read, which are not checked again so soon.
    let path = dir.path().join("t-0/00000000000000000000.log");
    let file = std::fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 2 << 20, None, rustix::fs::Advice::DontNeed).unwrap();
    let at = 50;
    match log.read_resident(at, 500_000, i64::MAX, true).unwrap() {
        // A file system without a page cache of its own.
        Some(_) => {}
        None => {
            let info = log.read_cold(at, 500_000, i64::MAX, true).unwrap();
            let after = files.cold.stats();
            assert_eq!(after.reads, before.reads + 1);
            assert!(after.bytes >= before.bytes + info.records.len() as u64);
            assert!(log.read_resident(at, 500_000, i64::MAX, true).unwrap().is_some());
            assert_eq!(files.cold.stats(), ColdReadStats { ..after });
        }
    }
}

/// Batches larger than the interval of index entries: the slice of a read begins a batch behind its index entry.
#[test]
fn sending_the_slice_of_a_read_never_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let opening = Opening::new(LogConfig::default());
    let log = opening.open(dir.path());
    for i in 0..20u8 {
        append(&log, &[&vec![i; 125_000], &vec![i; 125_000]]);
    }
    log.close_clean(true).unwrap();
    drop(log);
    let path = dir.path().join("t-0/00000000000000000000.log");
    for (from, max_bytes) in (0..40).flat_map(|from| [(from, 760_000), (from, 100_000)]) {
        let file = std::fs::File::open(&path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let log = Opening { clean: true, ..opening.clone() }.open(dir.path());
        let segment = log.segments().last().unwrap().clone();
        let opened = segment.opened().unwrap();
        let start = opened.map(segment.capacity).unwrap().as_ptr().addr();
        // A part is there already.
        log.read_cold(from, 1, i64::MAX, true).unwrap();
        if let Some(info) = log.read_resident(from, max_bytes, i64::MAX, true).unwrap() {
            assert!(is_there(&opened, start, &info), "resident, from {from}");
        }
        let info = log.read_cold(from, max_bytes, i64::MAX, true).unwrap();
        assert!(is_there(&opened, start, &info), "brought in, from {from}");
    }
}

fn is_there(opened: &crate::open_files::Opened, start: usize, info: &ReadInfo) -> bool {
    opened.mapped().unwrap().is_range_resident((info.records.as_ptr().addr() - start) as u64, info.records.len() as u64)
}
