//! Log starts are durable before they are acknowledged, also while the log moves to another dir.

use super::*;
use crate::hooked::{Doing, HookedDisk, Hooks};

/// A disk on which no file can be replaced.
#[derive(Debug)]
struct Full;

impl Hooks for Full {
    fn before(&self, doing: Doing<'_>) -> std::io::Result<()> {
        match doing {
            Doing::Replace(_) => Err(std::io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

fn starts(dir: &Path) -> String {
    fs::read_to_string(dir.join("log-start-offset-checkpoint")).unwrap_or_default()
}

fn with_records(manager: &LogManager, topic: &str, count: u8) -> Arc<Log> {
    let log = create(manager, topic, 0);
    for value in 0..count {
        append(&log, &[value; 100]).unwrap();
    }
    log.advance_high_watermark(i64::from(count));
    log
}

#[test]
fn an_acknowledged_log_start_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let logs = [with_records(&manager, "a", 10), with_records(&manager, "b", 10)];
    manager.flush_log_starts(&logs).unwrap();
    assert_eq!(starts(dir.path()), "0\n2\na 0 0\nb 0 0\n");
    for log in &logs {
        log.advance_log_start(7).unwrap();
    }
    // The first of concurrent callers writes for all: the second has nothing to write.
    manager.flush_log_starts(&logs[..1]).unwrap();
    assert_eq!(starts(dir.path()), "0\n2\na 0 7\nb 0 7\n");
    fs::remove_file(dir.path().join("log-start-offset-checkpoint")).unwrap();
    manager.flush_log_starts(&logs[1..]).unwrap();
    assert_eq!(starts(dir.path()), "", "not written again");
    logs[1].advance_log_start(8).unwrap();
    manager.flush_log_starts(&logs[1..]).unwrap();
    // No clean stop.
    drop((manager, logs));
    let manager = open(&[dir.path()]);
    let start = |topic: &str| manager.get(topic, 0).unwrap().log_start_offset();
    assert_eq!((start("a"), start("b")), (7, 8));
}

#[test]
fn a_log_knows_which_log_start_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let log = with_records(&manager, "a", 10);
    let starts = |log: &Log| (log.log_start_offset(), log.saved_start_offset());
    assert_eq!(starts(&log), (0, 0));
    log.advance_log_start(4).unwrap();
    assert_eq!(starts(&log), (4, 0));
    manager.flush_log_starts(std::slice::from_ref(&log)).unwrap();
    assert_eq!(starts(&log), (4, 4));
    log.advance_log_start(7).unwrap();
    assert_eq!(starts(&log), (7, 4));
    manager.flush_checkpoints().unwrap();
    assert_eq!(starts(&log), (7, 7));
    // No clean stop.
    drop((manager, log));
    let manager = open(&[dir.path()]);
    let log = manager.get("a", 0).unwrap();
    assert_eq!(starts(&log), (7, 7));
    log.truncate_fully_and_start_at(20).unwrap();
    assert_eq!(starts(&log), (20, 7));
    log.truncate_fully_and_start_at(5).unwrap();
    log.advance_high_watermark(5);
    assert_eq!(starts(&log), (5, 5));
}

#[test]
fn a_failed_write_of_a_log_start_is_retried() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let log = with_records(&manager, "a", 10);
    log.advance_log_start(7).unwrap();
    let full = HookedDisk(Arc::new(Full));
    let checkpoints = &log.home().checkpoints;
    checkpoints.write_starts(&full, dir.path(), &[log.as_ref()], || vec![Arc::clone(&log)]).unwrap_err();
    manager.flush_log_starts(std::slice::from_ref(&log)).unwrap();
    assert_eq!(starts(dir.path()), "0\n1\na 0 7\n");
}

#[test]
fn a_moved_log_starts_where_it_did_after_a_crash() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let manager = open(&[&one, &two]);
    let log = with_records(&manager, "t", 10);
    log.advance_log_start(7).unwrap();
    let to = if log.log_dir() == one { &two } else { &one };
    let mut moving = manager.begin_move("t", 0, to).unwrap().unwrap();
    moving.copy().unwrap();
    manager.finish_move(&mut moving, NOW, |_| {}).unwrap();
    // No checkpoint since, and no clean stop.
    drop((manager, log, moving));
    let log = open(&[&one, &two]).get("t", 0).unwrap();
    assert_eq!((log.log_dir(), log.log_start_offset(), log.log_end_offset()), (to.as_path(), 7, 10));
}

#[test]
fn a_checkpoint_beside_a_move_keeps_the_row_of_the_log_that_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let log = with_records(&manager, "t", 10);
    log.advance_log_start(7).unwrap();
    let (disk, checkpoints) = (&log.home().disk, Checkpoints::default());
    checkpoints.add_arriving(disk.as_ref(), dir.path(), log.as_ref()).unwrap();
    assert_eq!(starts(dir.path()), "0\n1\nt 0 7\n");
    // The log is not among those of the dir yet.
    checkpoints.write(disk.as_ref(), dir.path(), Vec::<Arc<Log>>::new).unwrap();
    checkpoints.write_starts(disk.as_ref(), dir.path(), &[create(&manager, "u", 0).as_ref()], Vec::new).unwrap();
    assert_eq!(starts(dir.path()), "0\n1\nt 0 7\n");
    checkpoints.remove_arriving(log.as_ref());
    checkpoints.write(disk.as_ref(), dir.path(), Vec::<Arc<Log>>::new).unwrap();
    assert_eq!(starts(dir.path()), "0\n0\n", "it went elsewhere");
}
