//! Logs that change between a round and a crash, or between the moment a round picks them up and its write.

use std::{sync::mpsc, time::Duration};

use parking_lot::Mutex;

use super::*;
use crate::{
    LogError,
    journal::{EntryHeader, JournaledLog, NotByJournal, Picked},
};

fn with_journal() -> (World, LogManager) {
    let world = World::new(1 << 20);
    let manager = world.open();
    keep_up(&manager);
    (world, manager)
}

/// A log that has another thread do something before it is picked up.
#[derive(Debug)]
struct Interrupting {
    log: Arc<Log>,
    reached: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl JournaledLog for Interrupting {
    fn dir(&self) -> &Path {
        self.log.dir()
    }
    fn take_unflushed(&self) -> Result<Option<Picked>, NotByJournal> {
        self.reached.send(()).unwrap();
        self.go_on.lock().recv().unwrap();
        self.log.take_unflushed()
    }
    fn add_checksums(&self, picked: &mut Picked) -> Result<(), NotByJournal> {
        self.log.add_checksums(picked)
    }
    fn still_holds(&self, picked: &Picked) -> bool {
        self.log.still_holds(picked)
    }
    fn is_unflushed(&self, picked: &Picked, entry: &EntryHeader) -> bool {
        self.log.is_unflushed(picked, entry)
    }
    fn note_durable(&self, picked: &Picked) -> bool {
        self.log.note_durable(picked)
    }
    fn return_unflushed(&self, picked: &Picked) {
        self.log.return_unflushed(picked);
    }
    fn is_synced(&self, offset: i64) -> bool {
        self.log.is_synced(offset)
    }
    fn sync_segments(&self) -> Result<(), LogError> {
        self.log.sync_segments()
    }
}

/// Two logs of which the first has new batches; a round of both runs `change` after the first was picked up.
fn change_during_a_round(logs: [&Arc<Log>; 2], change: impl Fn()) -> Vec<usize> {
    let [first, second] = logs.map(Arc::clone);
    let (reached, is_reached) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let second = Interrupting { log: second, reached, go_on: Mutex::new(go_on) };
    let round: [Option<Arc<dyn JournaledLog>>; 2] = [Some(Arc::clone(&first) as _), Some(Arc::new(second))];
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| first.journal().flush(&round).unwrap());
        is_reached.recv().unwrap();
        change();
        go.send(()).unwrap();
        flush.join().unwrap()
    })
}

#[test]
fn what_a_truncation_cut_does_not_come_back() {
    for again in [false, true] {
        let (world, manager) = with_journal();
        let log = create(&manager, "t");
        let size = world.size("t");
        ["one", "two", "three"].iter().for_each(|value| append_durably(&log, value.as_bytes()));
        log.truncate_to(2).unwrap();
        assert_eq!((log.durable_offset(), log.recovery_point()), (2, 1));
        if again {
            append_durably(&log, b"other");
        }
        drop((log, manager));
        world.lose_from("t", size);
        if !again {
            // The name of the segment that began at the cut was not synced.
            fs::remove_file(world.dir(0).join("t-0/00000000000000000002.log")).unwrap();
        }
        let manager = world.open();
        let log = manager.get("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), if again { 3 } else { 2 });
        let content = content(&log);
        let has = |value: &[u8]| content.windows(value.len()).any(|window| window == value);
        assert!(has(b"one") && !has(b"two") && !has(b"three") && has(b"other") == again);
        assert_eq!(stats(&manager).damaged, 0);
    }
}

#[test]
fn what_a_log_that_began_anew_had_does_not_come_back() {
    let (world, manager) = with_journal();
    let log = create(&manager, "t");
    append_durably(&log, b"one");
    append_durably(&log, b"two");
    log.truncate_fully_and_start_at(100).unwrap();
    assert!(world.found(&manager).logs.is_empty());
    append_durably(&log, b"at hundred");
    drop((log, manager));
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 101));
}

#[test]
fn a_truncation_overtakes_a_round() {
    let (world, manager) = with_journal();
    let (log, other) = (create(&manager, "t"), create(&manager, "other"));
    append_durably(&log, b"one");
    append(&log, b"two");
    append(&log, b"three");
    let left = change_during_a_round([&log, &other], || {
        if log.log_end_offset() == 4 {
            log.truncate_to(3).unwrap();
            append(&log, b"another");
        }
    });
    assert_eq!(left, [0], "its segments must be synced now");
    assert_eq!(log.durable_offset(), 2);
    let entries = &world.found(&manager).logs[&key_of("t")];
    assert_eq!(entries.iter().map(|entry| entry.header.next_offset).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_log_that_was_made_anew_has_nothing_of_the_deleted_one() {
    let (world, manager) = with_journal();
    let log = create(&manager, "t");
    append_durably(&log, b"one");
    append_durably(&log, b"two");
    manager.delete("t", 0).unwrap();
    drop(log);
    // As a reassignment away and back does: with the same topic id.
    let log = create(&manager, "t");
    let size = world.size("t");
    assert!(world.found(&manager).logs.is_empty());
    append_durably(&log, b"new");
    drop((log, manager));
    world.lose_from("t", size);
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    assert_eq!(log.log_end_offset(), 2);
    let content = content(&log);
    assert!(content.windows(3).any(|window| window == b"new") && !content.windows(3).any(|window| window == b"one"));
}

#[test]
fn a_deletion_overtakes_a_round() {
    let (world, manager) = with_journal();
    let (log, other) = (create(&manager, "t"), create(&manager, "other"));
    append(&log, b"of the old log");
    let left = change_during_a_round([&log, &other], || {
        manager.delete("t", 0).unwrap();
        create(&manager, "t");
    });
    assert_eq!(left, [0]);
    assert!(world.found(&manager).logs.is_empty(), "the new log would have batches of the old one");
}

#[test]
fn a_flush_and_a_compaction_overtake_a_round() {
    let (world, manager) = with_journal();
    let (log, other) = (create(&manager, "t"), create(&manager, "other"));
    append(&log, b"one");
    let left = change_during_a_round([&log, &other], || {
        log.roll(NOW).unwrap();
        // From here on its closed segment may be written anew.
        log.flush_closed_for_good().unwrap();
    });
    assert!(left.is_empty() && log.durable_offset() == 2);
    assert!(world.found(&manager).logs.is_empty(), "a start would write over the compacted segment");
}

#[test]
fn what_may_be_compacted_is_not_replayed() {
    let (world, manager) = with_journal();
    let log = create(&manager, "t");
    append_durably(&log, b"one");
    log.roll(NOW).unwrap();
    append_durably(&log, b"two");
    assert_eq!(world.found(&manager).logs[&key_of("t")].len(), 2);
    log.flush_closed_for_good().unwrap();
    let found = world.found(&manager);
    let entries: Vec<i64> = found.logs[&key_of("t")].iter().map(|entry| entry.header.first_offset).collect();
    assert_eq!(entries, [2], "only the active segment's");
}

#[test]
fn a_log_that_moves_away_and_back_brings_nothing_of_its_first_stay() {
    let mut world = World::new(1 << 20);
    world.dirs = 2;
    let manager = world.open();
    keep_up(&manager);
    let log = create(&manager, "t");
    let (home, away) = match log.log_dir() == world.dir(0) {
        true => (world.dir(0), world.dir(1)),
        false => (world.dir(1), world.dir(0)),
    };
    append_durably(&log, b"one");
    append_durably(&log, b"two");
    let go = |to: &Path| {
        let mut moving = manager.begin_move("t", 0, to).unwrap().unwrap();
        manager.finish_move(&mut moving, NOW, |_| {}).unwrap()
    };
    drop(log);
    let log = go(&away);
    assert_eq!((log.log_dir(), log.durable_offset()), (away.as_path(), 3));
    append_durably(&log, b"three");
    log.truncate_to(2).unwrap();
    append_durably(&log, b"after the truncation");
    drop(log);
    assert_eq!(world.found_in(&manager, &home).logs[&key_of("t")].len(), 2);
    let log = go(&home);
    assert!(world.found_in(&manager, &home).logs.is_empty(), "its second stay has another history");
    append_durably(&log, b"back home");
    let before = content(&log);
    drop((log, manager));
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_dir(), log.log_end_offset()), (home.as_path(), 4));
    assert_eq!(content(&log), before);
    assert!(manager.journals().all(|(_, journal)| journal.stats().damaged == 0));
}

/// Cold reads wait for rounds of the journal as they do for syncs of segments.
#[test]
fn a_round_counts_as_an_fsync_for_cold_reads() {
    let (world, manager) = with_journal();
    let log = create(&manager, "log");
    world.env.sleep(Duration::from_secs(1));
    assert!(log.journal().read_admission.is_quiet());
    append_durably(&log, b"second");
    assert!(!log.journal().read_admission.is_quiet());
}
