//! Starts after a crash and after a clean stop.

use super::super::ring::FILES;
use super::*;

#[test]
fn a_crash_loses_nothing_that_a_round_brought_to_disk() {
    let world = World::new(1 << 20);
    let manager = world.open();
    let topics: Vec<String> = (0..16).map(|number| format!("t{number}")).collect();
    let logs: Vec<Arc<Log>> = topics.iter().map(|topic| create(&manager, topic)).collect();
    keep_up(&manager);
    let sizes: Vec<u64> = topics.iter().map(|topic| world.size(topic)).collect();
    for _ in 0..3 {
        logs.iter().for_each(|log| append(log, b"more"));
        assert!(round(&logs).is_empty());
    }
    assert_eq!(stats(&manager).rounds, 3);
    let before: Vec<Vec<u8>> = logs.iter().map(|log| content(log)).collect();
    drop((logs, manager));
    topics.iter().zip(&sizes).for_each(|(topic, size)| world.lose_from(topic, *size));

    let manager = world.open();
    let lost: usize = before.iter().zip(&sizes).map(|(bytes, size)| bytes.len() - *size as usize).sum();
    assert_eq!((stats(&manager).replayed, stats(&manager).damaged), (lost as u64, 0));
    for (topic, before) in topics.iter().zip(&before) {
        let log = manager.get(topic, 0).unwrap();
        assert_eq!(&content(&log), before);
        assert_eq!((log.log_end_offset(), log.durable_offset()), (4, 4));
    }
    // Once more: the segments were not synced since.
    drop(manager);
    topics.iter().zip(&sizes).for_each(|(topic, size)| world.lose_from(topic, *size));
    let manager = world.open();
    assert!(topics.iter().zip(&before).all(|(topic, before)| content(&manager.get(topic, 0).unwrap()) == *before));
}

#[test]
fn a_crash_with_all_files_in_use() {
    let world = World::new(8 * PAGE * FILES as u64);
    let manager = world.open();
    let (log, other) = (create(&manager, "t"), create(&manager, "other"));
    let size = world.size("t");
    fill(&log);
    let durable = log.durable_offset();
    assert!(durable > 7 * 3);
    drop((log, other, manager));
    world.lose_from("t", size);
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_end_offset(), stats(&manager).damaged), (durable, 0));
    // It goes on: the segments had to be synced for that.
    assert_eq!(log.recovery_point(), durable);
    append_durably(&log, b"on");
    let size = world.size("t");
    append_durably(&log, b"and on");
    drop((log, manager));
    world.lose_from("t", size);
    let manager = world.open();
    assert_eq!(manager.get("t", 0).unwrap().log_end_offset(), durable + 2);
    assert_eq!(stats(&manager).damaged, 0);
}

/// A start that syncs the segments begins the journal anew, and is killed before the next checkpoint.
#[test]
fn damage_is_no_torn_tail_after_a_start_that_began_the_journal_anew() {
    let world = World::new(8 * PAGE * FILES as u64);
    let manager = world.open();
    let log = create(&manager, "t");
    fill(&log);
    drop((log, manager));
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    let end = log.log_end_offset();
    let last = log.read(end - 1, 64 << 20, i64::MAX, true).unwrap().records.len();
    let position = content(&log).len() - last;
    assert_eq!(log.durable_offset(), end);
    drop((log, manager));
    overwrite(&world.segment("t"), position as u64, &[0xff; 20]);
    let manager = world.open();
    assert_eq!(stats(&manager).replayed, 0, "nothing in the journal counts");
    let log = manager.get("t", 0).unwrap();
    assert_eq!(log.log_end_offset(), end, "what was on disk is not cut");
    let ranges: Vec<_> = log.damaged_ranges().iter().map(|range| (range.first_offset, range.end_offset)).collect();
    assert_eq!(ranges, [(end - 1, end)]);
}

/// Rounds, a stop that `stop` says, and then another broker's doings: the log is cut to its first batch. What the next start finds.
fn after_another_broker(only_one_file: bool, stop: impl FnOnce(LogManager, &World)) -> i64 {
    let world = World::new(if only_one_file { 64 << 20 } else { 1 << 20 });
    let manager = world.open();
    let log = create(&manager, "t");
    keep_up(&manager);
    let size = world.size("t");
    for _ in 0..3 {
        append_durably(&log, &[b'x'; 60_000]);
        keep_up(&manager);
    }
    assert_eq!(world.file(1).exists(), !only_one_file);
    drop(log);
    stop(manager, &world);
    world.lose_from("t", size);
    for name in ["recovery-point-offset-checkpoint", ".kafka_cleanshutdown"] {
        let _ = fs::remove_file(world.dir(0).join(name));
    }
    fs::remove_file(world.dir(0).join("t-0/00000000000000000004.snapshot")).unwrap_or_default();
    let manager = world.open();
    assert_eq!((stats(&manager).replayed, stats(&manager).damaged), (0, 0));
    manager.get("t", 0).unwrap().log_end_offset()
}

#[test]
fn a_clean_stop_leaves_nothing_that_counts() {
    for only_one_file in [true, false] {
        let end = after_another_broker(only_one_file, |manager, _| manager.shutdown_clean().unwrap());
        assert_eq!(end, 1);
    }
}

#[test]
fn a_start_after_a_clean_stop_raises_the_floor() {
    for only_one_file in [true, false] {
        let end = after_another_broker(only_one_file, |manager, world| {
            drop(manager);
            // As a build would leave it that does nothing to the journal when it stops.
            fs::write(world.dir(0).join(".kafka_cleanshutdown"), "{}").unwrap();
            drop(world.open());
        });
        assert_eq!(end, 1);
    }
}

#[test]
fn a_journal_that_is_not_wanted_any_more_is_replayed_and_removed() {
    let mut world = World::new(1 << 20);
    let manager = world.open();
    let log = create(&manager, "t");
    keep_up(&manager);
    let size = world.size("t");
    append_durably(&log, b"more");
    drop((log, manager));
    world.lose_from("t", size);
    world.journal_bytes = 0;
    let manager = world.open();
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_end_offset(), log.recovery_point()), (2, 2));
    assert!((0..FILES).all(|number| !world.file(number).exists()));
    append(&log, b"on");
    assert_eq!(round(&[Arc::clone(&log)]), [0]);
    keep_up(&manager);
    assert!((0..FILES).all(|number| !world.file(number).exists()));
}

#[test]
fn less_log_journal_bytes_shorten_the_files_and_lose_nothing() {
    let lengths = |world: &World| -> Vec<u64> {
        (0..FILES).filter_map(|number| Some(fs::metadata(world.file(number)).ok()?.len())).collect()
    };
    for clean in [true, false] {
        let mut world = World::new(16 * PAGE * FILES as u64);
        let manager = world.open();
        let log = create(&manager, "t");
        let size = world.size("t");
        // No segment is synced meanwhile: all of it is needed.
        for _ in 0..40 {
            prepare(log.journal());
            append_durably(&log, b"more");
        }
        let files = lengths(&world);
        assert!(files.len() > 2 && files.iter().all(|length| *length == 16 * PAGE), "{files:?}");
        drop(log);
        if clean {
            manager.shutdown_clean().unwrap();
        }
        drop(manager);
        if !clean {
            world.lose_from("t", size);
        }
        world.journal_bytes = 4 * PAGE * FILES as u64;
        let manager = world.open();
        assert_eq!(lengths(&world), vec![4 * PAGE; files.len()], "clean: {clean}");
        let log = manager.get("t", 0).unwrap();
        assert_eq!((log.log_end_offset(), log.recovery_point()), (41, 41), "what the files held is in the segment");
        assert_eq!((stats(&manager).damaged, stats(&manager).prepared), (0, 4 * PAGE * files.len() as u64));
        for _ in 0..20 {
            keep_up(&manager);
            append_durably(&log, b"on");
        }
        assert!(lengths(&world).iter().all(|length| *length == 4 * PAGE));
        let size = world.size("t");
        append_durably(&log, b"last");
        drop((log, manager));
        world.lose_from("t", size);
        let manager = world.open();
        assert_eq!((manager.get("t", 0).unwrap().log_end_offset(), stats(&manager).damaged), (62, 0));
    }
}

/// One round of a log, a crash that loses its segment, and a journal file whose header is `header`.
fn with_header(header: impl FnOnce(Uuid) -> Vec<u8>) -> World {
    let world = World::new(1 << 20);
    let manager = world.open();
    let log = create(&manager, "t");
    keep_up(&manager);
    let size = world.size("t");
    manager.flush_checkpoints().unwrap();
    // As many rounds as the next use of the file could run into.
    (0..5).for_each(|_| append_durably(&log, b"more"));
    let id = manager.dirs()[0].directory_id;
    drop((log, manager));
    world.lose_from("t", size);
    overwrite(&world.file(0), 0, &header(id));
    world
}

/// The file is used again, and its old rounds, each valid, are never taken for new ones.
fn goes_on_without_the_old_rounds(world: &World) {
    for value in 0..3 {
        let manager = world.open();
        let log = manager.get("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), 1 + value, "old rounds are believed");
        keep_up(&manager);
        append_durably(&log, b"new!");
        keep_up(&manager);
    }
}

#[test]
fn a_file_of_another_log_dir_does_not_count() {
    let world = with_header(|_| header_page(1, Uuid([9; 16]), 1, 1, 0));
    let manager = world.open();
    assert_eq!(manager.get("t", 0).unwrap().log_end_offset(), 1);
    assert_eq!((stats(&manager).replayed, stats(&manager).damaged), (0, 0));
    drop(manager);
    goes_on_without_the_old_rounds(&world);
}

#[test]
fn a_damaged_header_is_reported_and_its_rounds_do_not_count() {
    let world = with_header(|id| {
        let mut page = header_page(1, id, 1, 1, 0);
        page[20] ^= 1;
        page
    });
    let manager = world.open();
    assert_eq!(manager.get("t", 0).unwrap().log_end_offset(), 1);
    assert_eq!((stats(&manager).replayed, stats(&manager).damaged), (0, 1));
    drop(manager);
    goes_on_without_the_old_rounds(&world);
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let world = with_header(|id| header_page(2, id, 1, 1, 0));
    let error = world.try_open().unwrap_err().to_string();
    assert!(
        error.contains("version 2") && error.contains("newer Esker") && error.contains("esker-journal-0"),
        "{error}"
    );
    let file = fs::read(world.file(0)).unwrap();
    assert_eq!(file[8..10], [0, 2], "it is left as it was");
}

#[test]
fn a_prepared_file_that_was_never_used_says_nothing() {
    let world = World::new(1 << 20);
    let manager = world.open();
    keep_up(&manager);
    drop(manager);
    let manager = world.open();
    assert_eq!((stats(&manager).damaged, stats(&manager).prepared), (0, 256 << 10));
}
