//! Disks that fail under the journal, and the order in which a round asks them.

use std::{io, io::IoSlice, sync::atomic::Ordering};

use parking_lot::Mutex;

use super::{super::ring::FILES, *};
use crate::{
    LogError,
    hooked::{Doing, HookedDisk, Hooks},
    io::LogFile,
    test_support::disk::{Faults, faulty},
};

fn with_faults() -> (World, Arc<Faults>, LogManager) {
    with_faults_and(1 << 20)
}

fn with_faults_and(journal_bytes: u64) -> (World, Arc<Faults>, LogManager) {
    let faults = Arc::new(Faults::default());
    faults.left.store(i64::MAX / 2, Ordering::SeqCst);
    let mut world = World::new(journal_bytes);
    world.disk = faulty(&faults);
    let manager = world.open();
    (world, faults, manager)
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged() {
    for write in [true, false] {
        let (_world, faults, manager) = with_faults();
        let log = create(&manager, "t");
        keep_up(&manager);
        append_durably(&log, b"one");
        append(&log, b"two");
        let broken = if write { &faults.broken_write } else { &faults.broken_sync };
        broken.store(true, Ordering::SeqCst);
        assert!(LogManager::flush_by_journal(&[Arc::clone(&log)]).is_err());
        assert_eq!(log.durable_offset(), 2);
        assert!(manager.dirs()[0].offline);
        // Not even when the disk works again.
        broken.store(false, Ordering::SeqCst);
        assert!(LogManager::flush_by_journal(&[Arc::clone(&log)]).is_err());
        assert!(log.flush().is_err() && log.truncate_to(0).is_err());
        assert!(log.journal().void(key_of("another"), 0).is_err(), "it is not known what a start would find");
        assert_eq!((log.durable_offset(), log.log_end_offset()), (2, 3));
    }
}

#[test]
fn a_disk_that_fails_under_the_zeros_is_offline() {
    let (_world, faults, manager) = with_faults();
    let log = create(&manager, "t");
    faults.broken_sync.store(true, Ordering::SeqCst);
    keep_up(&manager);
    assert!(manager.dirs()[0].offline && log.flush().is_err());
    assert!(!log.journal().is_behind());
}

#[test]
fn on_a_full_disk_segments_are_synced_until_there_is_room() {
    let (world, faults, manager) = with_faults();
    let log = create(&manager, "t");
    faults.left.store(100 << 10, Ordering::SeqCst);
    keep_up(&manager);
    assert!(!manager.dirs()[0].offline);
    assert!(!log.journal().is_behind(), "it is not tried again and again");
    faults.left.store(10 << 10, Ordering::SeqCst);
    append(&log, b"one");
    assert_eq!(round(&[Arc::clone(&log)]), [0]);
    assert_eq!(log.flush().unwrap(), 2);
    faults.left.store(i64::MAX / 2, Ordering::SeqCst);
    manager.flush_checkpoints().unwrap();
    keep_up(&manager);
    let size = world.size("t");
    append_durably(&log, b"two");
    drop((log, manager));
    world.lose_from("t", size);
    assert_eq!(world.open().get("t", 0).unwrap().log_end_offset(), 3);
}

#[test]
fn a_note_that_finds_the_disk_full_may_be_tried_again() {
    let (world, faults, manager) = with_faults();
    let log = create(&manager, "t");
    fill(&log);
    log.roll(NOW).unwrap();
    let rounds = stats(&manager).rounds;
    faults.left.store(1 << 10, Ordering::SeqCst);
    let journal = log.journal();
    assert!(journal.synced(log.key(), 3).unwrap_err().is_full());
    assert!(!manager.dirs()[0].offline && stats(&manager).rounds == rounds);
    faults.left.store(i64::MAX / 2, Ordering::SeqCst);
    journal.synced(log.key(), 3).unwrap();
    let firsts = |world: &World| -> Vec<i64> {
        let entries = &world.found(&manager).logs[&key_of("t")];
        entries.iter().map(|entry| entry.header.first_offset).collect()
    };
    assert_eq!(firsts(&world).first(), Some(&3));
    keep_up(&manager);
    append_durably(&log, b"goes on");
    drop((log, manager));
    let manager = world.open();
    assert_eq!(stats(&manager).damaged, 0);
}

/// A file system that writes blocks anew may have no room for a page of a file that is written whole.
#[test]
fn a_header_that_finds_the_disk_full_may_be_tried_again() {
    let (world, faults, manager) = with_faults_and(8 * PAGE * FILES as u64);
    let (log, old) = (create(&manager, "t"), create(&manager, "old"));
    let holds = |log: &Log| log.journal().ring.lock().holds(&log.key());
    keep_up(&manager);
    append_durably(&old, b"in the first file");
    let size = world.size("t");
    for _ in 1..14 {
        append_durably(&log, b"and in the second");
        keep_up(&manager);
    }
    assert!(holds(&old));
    append(&log, b"in the third");
    for left in [0, 1000] {
        faults.left.store(left, Ordering::SeqCst);
        let error = LogManager::flush_by_journal(&[Arc::clone(&log)]).unwrap_err();
        assert!(matches!(&error, LogError::File(error) if error.is_full()), "{error}");
        assert!(!manager.dirs()[0].offline);
        assert!(holds(&old), "a start would find what lies in the first file");
    }
    faults.left.store(i64::MAX / 2, Ordering::SeqCst);
    assert!(round(&[Arc::clone(&log)]).is_empty());
    assert!(!holds(&old), "the floor is above the first file");
    append_durably(&log, b"goes on");
    drop((log, old, manager));
    world.lose_from("t", size);
    let manager = world.open();
    assert_eq!((stats(&manager).damaged, manager.get("t", 0).unwrap().log_end_offset()), (0, 16));
}

/// Notes what is written to and synced of journal and data files.
#[derive(Debug, Default)]
struct Order(Mutex<Vec<String>>);

impl Hooks for Order {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        if let Doing::SyncData(path) = doing {
            self.0.lock().push(format!("sync {}", path.file_name().unwrap().to_str().unwrap()));
        }
        Ok(())
    }
    fn write(&self, file: &dyn LogFile, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.0.lock().push(format!("write {bytes} at {offset}"));
        file.write_at(parts, offset)
    }
}

#[test]
fn a_round_is_one_write_and_one_sync() {
    let order = Arc::new(Order::default());
    let mut world = World::new(1 << 20);
    world.disk = Arc::new(HookedDisk(Arc::<Order>::clone(&order)));
    let manager = world.open();
    let logs = ["a", "b", "c"].map(|topic| create(&manager, topic));
    keep_up(&manager);
    let seen = |what: &[Arc<Log>]| {
        what.iter().for_each(|log| append(log, b"more"));
        order.0.lock().clear();
        assert!(round(what).is_empty());
        order.0.lock().clone()
    };
    // A file's header is on disk before its first round.
    let header = ["write 4096 at 0", "sync esker-journal-0"];
    let first = ["write 4096 at 4096", "sync esker-journal-0"];
    assert_eq!(seen(&logs), [header, first].concat());
    assert_eq!(seen(&logs), ["write 4096 at 8192", "sync esker-journal-0"]);
}
