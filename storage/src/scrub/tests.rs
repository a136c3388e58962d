use std::{
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use esker_protocol::{compression::Compression, records::Batch};

use super::*;
use crate::{
    AppendBatch, Cleaner, CleanerConfig, LogConfig, LogManagerConfig, Origin, ReadError, Uuid,
    io::{Disk, OsDisk},
    test_support::{
        batch,
        disk::{Faults, faulty},
    },
};

const NOW: i64 = 1_700_000_000_000;

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 100, ..LogConfig::default() }
}

fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> (LogManager, Arc<Log>) {
    let config = LogManagerConfig {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: small(),
        progress: Arc::default(),
    };
    let manager = LogManager::open_on(disk, config, NOW).unwrap();
    let log = manager.create("t", 0, Uuid([3; 16]), small(), NOW).unwrap();
    (manager, log)
}

fn open(dir: &Path) -> (LogManager, Arc<Log>) {
    open_on(Arc::new(OsDisk), dir)
}

fn append(log: &Log, count: usize) {
    for _ in 0..count {
        let (batch, _) = Batch::parse(batch(Compression::None, &[(NOW, &[7; 50])])).unwrap();
        let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
        log.append(append, Origin::Client { transaction_v2: false }, 0, NOW).unwrap();
    }
    log.advance_high_watermark(log.log_end_offset());
}

fn scrubber() -> Scrubber {
    Scrubber::new(f64::MAX)
}

/// Path, and position of the batch of `offset` in it.
fn place(log: &Log, offset: i64) -> (PathBuf, u64) {
    let segment = log.closed_segments().into_iter().rfind(|segment| segment.base_offset <= offset).unwrap();
    assert!(offset < segment.next_offset(), "{offset} is in the active segment");
    let (position, _) = segment.find(offset).unwrap().unwrap();
    (segment.path(LOG), position as u64)
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

fn damaged_at(log: &Log, offset: i64) -> bool {
    match log.read(offset, 1, i64::MAX, true) {
        Ok(info) => {
            assert_eq!(info.first_offset, offset);
            false
        }
        Err(ReadError::Damaged { first_offset, last_offset, .. }) => {
            assert!((first_offset..=last_offset).contains(&offset));
            true
        }
        Err(other) => panic!("{offset}: {other}"),
    }
}

#[test]
fn rot_in_a_closed_segment_is_reported_and_served_around() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    append(&log, 40);
    let scrubber = scrubber();
    assert!(scrubber.round(&manager, || NOW));
    let first = scrubber.stats();
    assert!(first.segments > 2 && first.bytes > 2000, "{first:?}");
    assert_eq!((first.findings, first.rounds, first.last_round_ms), (0, 1, NOW));

    let (path, position) = place(&log, 12);
    flip(&path, position + 80);
    assert!(!damaged_at(&log, 12), "no scrub has run");
    assert!(scrubber.round(&manager, || NOW));
    assert_eq!(scrubber.stats().findings, 1);
    assert_eq!((0..40).filter(|offset| damaged_at(&log, *offset)).collect::<Vec<_>>(), [12]);
    let ranges = log.damaged_ranges();
    assert_eq!(ranges.iter().map(|range| (range.first_offset, range.end_offset)).collect::<Vec<_>>(), [(12, 13)]);
    assert!(scrubber.round(&manager, || NOW));
    assert_eq!(scrubber.stats().findings, 1, "known is not found again");

    append(&log, 1);
    manager.shutdown_clean().unwrap();
    drop((manager, log));
    let (_manager, log) = open(dir.path());
    assert_eq!(log.damaged_ranges(), ranges, "a clean start knows");
    assert!(damaged_at(&log, 12));
}

#[test]
fn a_file_that_lost_its_end_is_damaged_there() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    append(&log, 40);
    let (path, position) = place(&log, 4);
    let next = log.closed_segments()[0].next_offset();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(position + 10).unwrap();
    assert!(scrubber().round(&manager, || NOW));
    let ranges = log.damaged_ranges();
    assert_eq!(ranges.iter().map(|range| (range.first_offset, range.end_offset)).collect::<Vec<_>>(), [(4, next)]);
    assert!(!damaged_at(&log, 3) && damaged_at(&log, 4) && !damaged_at(&log, next));
}

#[test]
fn a_sector_that_cannot_be_read_is_damage_and_no_broken_dir() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    faults.left.store(i64::MAX, Ordering::Relaxed);
    let (manager, log) = open_on(faulty(&faults), dir.path());
    append(&log, 40);
    manager.flush_checkpoints().unwrap();
    let next = log.closed_segments()[0].next_offset();
    *faults.bad_sector.lock() = Some(0);
    let scrubber = scrubber();
    assert!(scrubber.round(&manager, || NOW));
    assert!(scrubber.stats().findings >= 1);
    assert!(log.damaged_ranges()[0].what.starts_with("the disk cannot read it"), "{:?}", log.damaged_ranges());
    assert!((0..next).all(|offset| damaged_at(&log, offset)));
    assert!(!log.is_offline());
    append(&log, 1);
}

#[test]
fn a_stop_ends_a_round_that_would_take_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    append(&log, 40);
    let scrubber = Scrubber::new(1.0);
    std::thread::scope(|scope| {
        let round = scope.spawn(|| scrubber.round(&manager, || NOW));
        scrubber.stop();
        assert!(!round.join().unwrap());
    });
    assert_eq!((scrubber.stats().rounds, scrubber.stats().findings), (0, 0));
    assert!(log.damaged_ranges().is_empty());
}

#[test]
fn a_segment_that_is_not_in_the_log_any_more_is_not_marked() {
    let dir = tempfile::tempdir().unwrap();
    let (_manager, log) = open(dir.path());
    append(&log, 40);
    let stale = Arc::clone(&log.closed_segments()[0]);
    log.truncate_to(stale.next_offset() - 2).unwrap();
    append(&log, 40);
    let range = DamagedRange {
        first_offset: 0,
        end_offset: stale.next_offset(),
        segment: 0,
        position: 0,
        end_position: stale.size(),
        what: "it is gone".to_owned(),
    };
    assert!(!log.mark_damaged(&stale, vec![range]).unwrap());
    assert!(log.damaged_ranges().is_empty());
}

/// The scrub never mistakes a removed or replaced segment for damage.
#[test]
fn rounds_race_with_everything_that_changes_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    let config = LogConfig { compact: true, min_cleanable_dirty_ppm: 0, retention_bytes: 6000, ..small() };
    manager.update_config("t", config);
    let done = AtomicBool::new(false);
    let scrubber = scrubber();
    let cleaner =
        Cleaner::new(CleanerConfig { threads: 1, dedupe_buffer_bytes: 1 << 16, io_bytes_per_second: f64::MAX });
    std::thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            while !done.load(Ordering::Acquire) || scrubber.stats().rounds < 5 {
                assert!(scrubber.round(&manager, || NOW));
            }
        });
        for step in 0..300 {
            append(&log, 7);
            match step % 6 {
                0 => drop(cleaner.run_pass(&manager, NOW)),
                1 => drop(log.advance_log_start(log.log_end_offset() - 60)),
                2 => log.truncate_to(log.log_end_offset() - 10).unwrap(),
                3 => drop(manager.retention_pass(NOW)),
                4 if step % 36 == 4 => log.truncate_fully_and_start_at(log.log_end_offset()).unwrap(),
                _ => log.roll(NOW).unwrap(),
            }
        }
        done.store(true, Ordering::Release);
        scrubbing.join().unwrap();
    });
    assert_eq!(scrubber.stats().findings, 0);
    assert!(log.damaged_ranges().is_empty());
}

/// Pages that were in memory may be in use, and stay; other pages are dropped, so that they do not evict pages in use.
#[test]
fn a_scrub_leaves_memory_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, _) = open(dir.path());
    let config = LogConfig { segment_bytes: 4 << 20, ..LogConfig::default() };
    let log = manager.create("large", 0, Uuid([4; 16]), config, NOW).unwrap();
    while log.closed_segments().is_empty() {
        let (batch, _) = Batch::parse(batch(Compression::None, &[(NOW, &[7; 300_000])])).unwrap();
        log.append(
            AppendBatch { header: &batch.header, bytes: &batch.bytes },
            Origin::Client { transaction_v2: false },
            0,
            NOW,
        )
        .unwrap();
    }
    log.flush().unwrap();
    let segment = log.closed_segments().remove(0);
    let file = std::fs::File::open(segment.path(LOG)).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let map = crate::mmap::Map::of(&file, segment.size() as usize).unwrap();
    let chunks = segment.size() / CHUNK;
    let there = || (0..chunks).map(|chunk| map.is_range_resident(chunk * CHUNK, CHUNK)).collect::<Vec<_>>();
    if there().contains(&true) {
        // A file system without a page cache to drop from.
        return;
    }
    for chunk in [1, 2, 7] {
        file.read_exact_at(&mut vec![0; CHUNK as usize], chunk * CHUNK).unwrap();
    }
    let before = there();
    assert_eq!(before.iter().filter(|there| **there).count(), 3);
    let scrubber = scrubber();
    assert!(scrubber.round(&manager, || NOW));
    assert!(scrubber.stats().bytes >= segment.size());
    assert_eq!(there(), before);
}
