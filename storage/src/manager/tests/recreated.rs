//! Operations that run on a log while it is deleted and another log gets its folder's name: they change nothing in the new log.

use std::thread;

use super::*;
use crate::{
    Cleaner, CleanerConfig,
    files::LEADER_EPOCHS,
    hooked::Doing,
    test_support::gate::{Gate, is_log},
};

fn config_of(dir: &Path) -> LogManagerConfig {
    LogManagerConfig { load_threads: 1, ..config(&[dir]) }
}

#[test]
fn a_flush_does_not_write_epochs_into_the_folder_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(|doing| matches!(doing, Doing::SyncData(path) if is_log(path)));
    let manager = LogManager::open_on(gate.disk(), config_of(dir.path()), NOW).unwrap();
    let old = create(&manager, "t", 0);
    append_in(&old, b"old", 7).unwrap();
    gate.close();
    let flush = thread::spawn({
        let old = Arc::clone(&old);
        move || old.flush()
    });
    gate.wait_for_blocked_call();
    manager.delete("t", 0).unwrap();
    let new = create(&manager, "t", 0);
    append_in(&new, b"new", 2).unwrap();
    let written = fs::read(new.dir().join(LEADER_EPOCHS)).unwrap();
    gate.open();
    // The result does not matter: the log is deleted.
    let _ = flush.join().unwrap();
    assert_eq!(fs::read(new.dir().join(LEADER_EPOCHS)).unwrap(), written);
    assert!(!manager.dirs()[0].offline);
}

#[test]
fn a_compaction_ends_where_its_log_was_deleted() {
    let compacted = LogConfig {
        segment_bytes: 1000,
        compact: true,
        min_cleanable_dirty_ppm: 0,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    for recreated in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        // The old data files of a swap are removed once the names are durable.
        let parked = |doing: Doing<'_>| matches!(doing, Doing::RemoveFile(path) if path.extension().is_some_and(|e| e == "deleted"));
        let gate = Gate::new(parked);
        let manager = LogManager::open_on(gate.disk(), config_of(dir.path()), NOW).unwrap();
        let old = manager.create("t", 0, random_uuid(), compacted.clone(), NOW).unwrap();
        for _ in 0..40 {
            append(&old, &[b'x'; 100]).unwrap();
        }
        old.advance_high_watermark(i64::MAX);
        gate.close();
        let cleaner =
            Cleaner::new(CleanerConfig { threads: 1, dedupe_buffer_bytes: 1 << 20, io_bytes_per_second: f64::MAX });
        thread::scope(|scope| {
            let pass = scope.spawn(|| cleaner.run_pass(&manager, NOW));
            gate.wait_for_blocked_call();
            manager.delete("t", 0).unwrap();
            let before = recreated.then(|| {
                let new = manager.create("t", 0, random_uuid(), compacted.clone(), NOW).unwrap();
                for _ in 0..40 {
                    append(&new, &[b'y'; 100]).unwrap();
                }
                new.advance_high_watermark(i64::MAX);
                names(new.dir(), "")
            });
            gate.open();
            pass.join().unwrap();
            assert!(!manager.dirs()[0].offline, "a log that is gone is no broken disk");
            assert_eq!(cleaner.stats().uncleanable_partitions, 0);
            if let Some(before) = before {
                let new = manager.get("t", 0).unwrap();
                assert_eq!(names(new.dir(), ""), before, "another log's files");
                assert!(cleaner.run_pass(&manager, NOW), "the new one is compacted in its turn");
            }
        });
    }
}
