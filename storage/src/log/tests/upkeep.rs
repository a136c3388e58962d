//! Appends continue while a retention pass or an index save is blocked in any of its file operations; recovery handles a crash
//! there.

use std::{sync::mpsc, thread, time::Duration};

use super::*;
use crate::{hooked::Doing, io::Open, test_support::gate::Gate};

type Matches = fn(Doing<'_>) -> bool;

fn ends(path: &Path, end: &str) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(end))
}

/// Runs `pass` until its file operation that `matches` selects is blocked, then `meanwhile`, which must not wait for it.
fn run_while_blocked(
    matches: Matches,
    dir: &Path,
    prepare: impl Fn(&Log),
    pass: impl Fn(&Log) + Sync,
    meanwhile: impl Fn(&Log) + Sync,
) -> Log {
    let gate = Gate::new(matches);
    let config = LogConfig { file_delete_delay_ms: 0, ..small() };
    let log = Opening::new(config).open_on(gate.disk(), dir);
    prepare(&log);
    gate.close();
    thread::scope(|scope| {
        scope.spawn(|| pass(&log));
        gate.wait_for_blocked_call();
        let (done, is_done) = mpsc::channel();
        let (log, meanwhile) = (&log, &meanwhile);
        scope.spawn(move || {
            meanwhile(log);
            done.send(()).unwrap();
        });
        let outcome = is_done.recv_timeout(Duration::from_secs(60));
        gate.open();
        outcome.expect("appends wait for the pass");
    });
    log
}

fn fill(log: &Log, batches: u8) {
    for i in 0..batches {
        append(log, &[&[i; 100], &[i; 101]]);
    }
}

/// Checks that a crash now leaves all records from the log start on.
fn crash_keeps_all(dir: &Path, log: &Log) {
    let image = tempfile::tempdir().unwrap();
    copy(dir, image.path());
    let opening =
        Opening { recovery_point: log.recovery_point(), log_start: log.log_start_offset(), ..Opening::new(small()) };
    let back = opening.open(image.path());
    assert_eq!(back.log_end_offset(), log.log_end_offset());
    let start = log.log_start_offset();
    assert_eq!(read_all(&back, start, 300), read_all(log, start, 300));
    assert_eq!(append(&back, &[b"next"]).base_offset, log.log_end_offset());
}

#[test]
fn appends_go_on_during_a_retention_pass() {
    let cases: [(&str, Matches); 4] = [
        ("rename", |doing| matches!(doing, Doing::Rename { to, .. } if ends(to, ".log.deleted"))),
        ("index", |doing| matches!(doing, Doing::RemoveFile(path) if ends(path, "0.timeindex"))),
        ("snapshot", |doing| matches!(doing, Doing::RemoveFile(path) if ends(path, ".snapshot"))),
        ("epochs", |doing| matches!(doing, Doing::Replace(path) if ends(path, crate::files::LEADER_EPOCHS))),
    ];
    for (case, matches) in cases {
        let dir = tempfile::tempdir().unwrap();
        let log = run_while_blocked(
            matches,
            dir.path(),
            |log| {
                fill(log, 40);
                log.flush().unwrap();
                log.advance_high_watermark(i64::MAX);
                log.update_config(LogConfig { retention_bytes: 5000, ..(*log.config()).clone() });
            },
            |log| assert!(log.retention_pass(NOW).unwrap().segments > 2, "{case}"),
            |log| {
                // It rolls, too.
                fill(log, 20);
                crash_keeps_all(dir.path(), log);
            },
        );
        assert_eq!(log.log_end_offset(), 120);
        let first = log.segments()[0].base_offset;
        assert!((1..80).contains(&first), "{case}");
        crash_keeps_all(dir.path(), &log);
        let left = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|entry| entry.unwrap().file_name());
        for name in left.map(|name| name.into_string().unwrap()) {
            let base = name.get(..20).and_then(|digits| digits.parse::<i64>().ok());
            assert!(base.is_none_or(|base| base >= first), "{case}: {name} is left");
        }
    }
}

#[test]
fn a_segment_that_grew_while_retention_looked_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(LogConfig { retention_ms: 1000, ..small() }).open(dir.path());
    fill(&log, 10);
    log.advance_high_watermark(i64::MAX);
    let (config, later) = (log.config(), NOW + 2000);
    let due = log.due_segments(&config, later).unwrap();
    assert_eq!(due.len(), log.segment_count(), "all of it is old");
    append(&log, &[b"young"]);
    log.advance_high_watermark(i64::MAX);
    assert_eq!(log.detach_segments(&config, &due, later).unwrap().len(), due.len() - 1);
    assert_eq!(read_all(&log, log.log_start_offset(), 300).last().unwrap().1, b"young");
    // A segment that was closed meanwhile keeps its age.
    let due = log.due_segments(&config, later).unwrap();
    log.roll(NOW).unwrap();
    assert_eq!(log.detach_segments(&config, &due, later).unwrap().len(), 1);
    assert_eq!((log.log_start_offset(), log.size_bytes()), (21, 0));
}

#[test]
fn appends_go_on_during_an_index_save() {
    let cases: [(&str, Matches); 3] = [
        ("times", |doing| matches!(doing, Doing::Open(path, Open::Existing) if ends(path, ".timeindex"))),
        ("offsets", |doing| matches!(doing, Doing::Open(path, Open::Existing) if ends(path, ".index"))),
        ("snapshot", |doing| matches!(doing, Doing::Replace(path) if ends(path, ".snapshot"))),
    ];
    for (case, matches) in cases {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = || {
            let names = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|entry| entry.unwrap().file_name());
            let offset = |name: std::ffi::OsString| crate::files::offset_of(name.to_str()?, crate::files::SNAPSHOT);
            names.filter_map(offset).max()
        };
        let log = run_while_blocked(
            matches,
            dir.path(),
            |log| {
                fill(log, 3);
                log.flush().unwrap();
            },
            |log| log.save_indexes().unwrap(),
            |log| {
                fill(log, 1);
                // This flush may have begun before the index files were written.
                log.flush().unwrap();
                crash_keeps_all(dir.path(), log);
            },
        );
        // Index entries below a snapshot below the recovery point are trusted: here no flush has synced them.
        if case == "snapshot" {
            assert_eq!(snapshots(), Some(6), "the flush began after the index files were written");
        } else {
            assert_eq!((log.recovery_point(), snapshots()), (8, Some(8)), "{case}");
        }
        crash_keeps_all(dir.path(), &log);
        // The roll writes the indexes that the save did not.
        fill(&log, 10);
        assert!(log.segment_count() > 1);
        log.close_clean(true).unwrap();
        let end = log.log_end_offset();
        let again = Opening { clean: true, ..Opening::new(small()) }.open(dir.path());
        assert_eq!(read_all(&again, 0, 300).len() as i64, end);
        for offset in 0..end {
            assert_eq!(read_all(&again, offset, 300)[0].0, offset);
        }
    }
}

/// A roll during the save has written everything: the save changes nothing afterwards.
#[test]
fn a_roll_overrides_a_concurrent_index_save() {
    let dir = tempfile::tempdir().unwrap();
    let (log, stop) = (Opening::new(small()).open(dir.path()), AtomicBool::new(false));
    let (log, stop) = (&log, &stop);
    thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                log.save_indexes().unwrap();
                log.flush().unwrap();
            }
        });
        for i in 0..2000 {
            append(log, &[&[i as u8; 60]]);
        }
        stop.store(true, Ordering::Release);
        upkeep.join().unwrap();
    });
    crash_keeps_all(dir.path(), log);
    log.close_clean(true).unwrap();
    let again = Opening { clean: true, ..Opening::new(small()) }.open(dir.path());
    for offset in (0..2000).step_by(7) {
        let info = again.read(offset, 1, i64::MAX, true).unwrap();
        assert!(records(&info.records).iter().any(|(found, _)| *found == offset));
    }
}

fn names(dir: &Path, end: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("t-0")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).filter(|n| n.ends_with(end)).collect();
    names.sort();
    names
}

const SPARE: [&str; 3] = ["next.index.tmp", "next.log.tmp", "next.timeindex.tmp"];

#[test]
fn a_roll_takes_the_segment_that_was_created_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let created: Matches =
        |doing| matches!(doing, Doing::Open(path, Open::Empty) if ends(path, ".log") || ends(path, "index"));
    let log = run_while_blocked(
        |doing| matches!(doing, Doing::Open(path, Open::Empty) if ends(path, "next.index.tmp")),
        dir.path(),
        |log| {
            fill(log, 1);
            log.prepare_spare_segment().unwrap();
            assert_eq!(names(dir.path(), ".tmp").len(), 0, "the segment is new, and its rate unknown");
            fill(log, 3);
        },
        |log| log.prepare_spare_segment().unwrap(),
        |log| {
            // One of the appends rolls, and creates its own files.
            fill(log, 4);
            crash_keeps_all(dir.path(), log);
        },
    );
    assert_eq!((log.segment_count(), names(dir.path(), ".tmp")), (2, SPARE.map(str::to_owned).to_vec()));
    crash_keeps_all(dir.path(), &log);
    drop(log);
    let gate = Gate::new(created);
    let log = Opening::new(small()).open_on(gate.disk(), dir.path());
    assert_eq!(names(dir.path(), ".tmp").len(), 0, "a start removes it");
    fill(&log, 2);
    log.prepare_spare_segment().unwrap();
    assert_eq!(names(dir.path(), ".tmp"), SPARE);
    log.prepare_spare_segment().unwrap();
    gate.close();
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let log = &log;
        let roll = scope.spawn(move || {
            fill(log, 5);
            done.send(()).unwrap();
        });
        let outcome = is_done.recv_timeout(Duration::from_secs(60));
        gate.open();
        outcome.expect("the roll creates files");
        roll.join().unwrap();
    });
    assert_eq!((log.segment_count(), names(dir.path(), ".tmp").len()), (3, 0));
    crash_keeps_all(dir.path(), &log);
    log.truncate_to(log.log_end_offset() - 1).unwrap();
    // It rolled since the last check: the next roll is near.
    fill(&log, 1);
    log.prepare_spare_segment().unwrap();
    assert_eq!(names(dir.path(), ".tmp"), SPARE);
    log.close_clean(true).unwrap();
    assert_eq!(names(dir.path(), ".tmp").len(), 0, "a stop removes it");
}

#[test]
fn space_past_the_end_of_a_closed_segment_is_freed() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(LogConfig { segment_bytes: 1 << 20, ..small() }).open(dir.path());
    fill(&log, 1);
    log.flush().unwrap();
    log.roll(NOW).unwrap();
    let metadata = || std::fs::metadata(dir.path().join("t-0/00000000000000000000.log")).unwrap();
    let (before, length) = (metadata(), log.segments()[0].size());
    log.trim_closed().unwrap();
    let after = metadata();
    assert!(after.blocks() * 512 <= 8192, "{} blocks before, {} after", before.blocks(), after.blocks());
    assert_eq!((before.len(), after.len(), after.modified().unwrap()), (length, length, before.modified().unwrap()));
    // A truncation replaces the segment by a shorter one before the trim.
    fill(&log, 2);
    log.roll(NOW).unwrap();
    log.truncate_to(4).unwrap();
    let path = log.segments()[1].path(crate::files::LOG);
    log.trim_closed().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), log.segments()[1].size(), "nothing is made longer again");
    crash_keeps_all(dir.path(), &log);
}
