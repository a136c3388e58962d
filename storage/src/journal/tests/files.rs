//! The ring of files: prepared ahead, used in a circle, and never again before what lies in them is in segments and on disk.

use super::super::ring::FILES;
use super::*;

/// Sixteen pages a file, as a round of one small entry takes one.
const SMALL: u64 = 16 * PAGE * FILES as u64;

#[test]
fn without_room_the_segments_are_synced() {
    let world = World::new(1 << 20);
    let manager = world.open();
    let log = create(&manager, "t");
    append(&log, b"more");
    assert_eq!(round(&[Arc::clone(&log)]), [0], "no file is prepared yet");
    assert_eq!((stats(&manager).rounds, stats(&manager).without_room), (0, 1));
    assert!(log.journal().is_behind());
    assert_eq!(log.durable_offset(), 1);
    keep_up(&manager);
    assert!(!log.journal().is_behind());
    assert_eq!(round(&[Arc::clone(&log)]), [0; 0]);
    assert_eq!((log.durable_offset(), log.recovery_point()), (2, 1));
    // All is durable: nothing to write.
    assert_eq!(round(&[Arc::clone(&log)]), [0; 0]);
    assert_eq!(stats(&manager).rounds, 1);
}

#[test]
fn the_first_flush_of_a_folder_is_its_own() {
    let world = World::new(1 << 20);
    let manager = world.open();
    keep_up(&manager);
    let log = manager.create("t", 0, id_of("t"), LogConfig::default(), NOW).unwrap();
    append(&log, b"first");
    assert_eq!(round(&[Arc::clone(&log)]), [0]);
    log.flush().unwrap();
    append_durably(&log, b"second");
    assert_eq!(stats(&manager).rounds, 1);
}

#[test]
fn a_file_is_prepared_in_steps_that_double_and_the_next_one_whole() {
    let world = World::new(8 << 20);
    let manager = world.open();
    let logs: Vec<_> = ["a", "b", "c", "d"].iter().map(|topic| create(&manager, topic)).collect();
    keep_up(&manager);
    let mut prepared = vec![stats(&manager).prepared];
    for _ in 0..3 {
        logs.iter().for_each(|log| append(log, &[b'x'; 100_000]));
        assert!(round(&logs).is_empty());
        keep_up(&manager);
        prepared.push(stats(&manager).prepared);
    }
    // 0.4, 0.8 and 1.2 MB of files of 2 MiB.
    assert_eq!(prepared, [1 << 20, 1 << 20, 2 << 20, 4 << 20]);
    assert_eq!(fs::metadata(world.file(1)).unwrap().len(), 2 << 20);
}

#[test]
fn a_file_is_not_used_again_before_all_its_logs_are_flushed() {
    let world = World::new(SMALL);
    let manager = world.open();
    let (a, b, c) = (create(&manager, "a"), create(&manager, "b"), create(&manager, "c"));
    let both = [Arc::clone(&a), Arc::clone(&b)];
    let more = |log: &Arc<Log>| append(log, b"more");
    prepare(a.journal());
    more(&b);
    more(&a);
    assert!(round(&both).is_empty());
    assert_eq!(fill(&a), FILES * 15 - 1, "all files are full");
    let generations = |world: &World| -> Vec<u64> {
        let generation = |number| u64::from_be_bytes(fs::read(world.file(number)).unwrap()[26..34].try_into().unwrap());
        (0..FILES).map(generation).collect()
    };
    assert_eq!(generations(&world), [1, 2, 3, 4]);
    // A flush of one of the logs is not enough, and one that was not noted neither.
    a.flush().unwrap();
    more(&c);
    assert_eq!(round(&[Arc::clone(&c)]), [0]);
    assert!(b.recovery_point() < b.durable_offset());
    assert_eq!(generations(&world), [1, 2, 3, 4]);
    keep_up(&manager);
    assert_eq!(b.recovery_point(), 2, "it was flushed, so that the first file is free");
    assert!(round(&[Arc::clone(&c)]).is_empty());
    assert_eq!(generations(&world), [5, 2, 3, 4]);
    let (used, behind) = (stats(&manager).used, stats(&manager).behind);
    assert_eq!((used, behind), (18 * PAGE, 16 * PAGE), "the fourth file was still written when its logs were flushed");
}

#[test]
fn a_note_finds_room_where_a_round_does_not() {
    let world = World::new(SMALL);
    let manager = world.open();
    let log = create(&manager, "t");
    fill(&log);
    let before = log.durable_offset();
    log.truncate_to(3).unwrap();
    log.truncate_to(2).unwrap();
    assert!(before > 3);
    let ends: Vec<i64> =
        world.found(&manager).logs[&key_of("t")].iter().map(|entry| entry.header.next_offset).collect();
    assert_eq!(ends.iter().max(), Some(&2), "{ends:?}");
    assert_eq!(fs::metadata(world.file(3)).unwrap().len(), 18 * PAGE);
}

#[test]
fn zeros_are_never_written_over_a_note() {
    let world = World::new(8 << 20);
    let manager = world.open();
    let log = create(&manager, "t");
    keep_up(&manager);
    // Up to the end of what is prepared, so that a note lies behind it.
    append_durably(&log, &[b'x'; 100]);
    let journal = log.journal();
    let length = (1 << 20) - 2 * PAGE;
    let size = batch(Compression::None, &[(NOW, b"")]).len() as u64 + 90 + 44;
    let mut left = length;
    while left > 0 {
        let bytes = left.min(50 * PAGE);
        append_durably(&log, &vec![b'x'; (bytes - size - 100) as usize]);
        left -= bytes;
    }
    let job = journal.ring.lock().next_job();
    let Some(Job::Prepare { slot, path, new, from, to }) = job else { panic!("{job:?}") };
    assert_eq!(from, 1 << 20);
    log.truncate_to(2).unwrap();
    // The job was taken before.
    journal.prepare(slot, &path, new, from, to).unwrap();
    let entries = &world.found(&manager).logs[&key_of("t")];
    assert!(entries.iter().all(|entry| entry.header.next_offset <= 2), "the note is gone");
    assert_eq!(stats(&manager).prepared, 2 << 20);
}
