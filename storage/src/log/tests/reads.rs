use esker_protocol::compression::Compression;

use super::*;
use crate::ReadError;

#[test]
fn reads_whole_batches_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    for i in 0..50u8 {
        let done = append(&log, &[&[i; 20], &[i; 30]]);
        assert_eq!((done.base_offset, done.last_offset), (i64::from(i) * 2, i64::from(i) * 2 + 1));
    }
    assert!(log.segment_count() > 2);
    let one = log.read(0, 1, i64::MAX, true).unwrap();
    assert_eq!((one.first_offset, one.next_offset), (0, 2));
    let size = one.records.len();
    assert!(log.read(0, 1, i64::MAX, false).unwrap().over_limit);
    assert_eq!(log.read(0, size, i64::MAX, false).unwrap().records.len(), size);
    assert_eq!(log.read(0, size * 3 - 1, i64::MAX, true).unwrap().records.len(), size * 2);
    // Inside a batch: the whole batch comes.
    assert_eq!(log.read(3, 1, i64::MAX, true).unwrap().first_offset, 2);
    // The upper bound lies inside the second batch: only the first one is below it.
    assert_eq!(log.read(0, 10_000, 3, true).unwrap().next_offset, 2);
    assert_eq!(log.read(0, 10_000, 4, true).unwrap().next_offset, 4);
    assert!(log.read(0, 10_000, 1, true).unwrap().records.is_empty());
    assert!(log.read(100, 10_000, i64::MAX, true).unwrap().records.is_empty());
    assert!(matches!(log.read(101, 1, i64::MAX, true), Err(ReadError::OffsetOutOfRange { log_end_offset: 100, .. })));
    // A later segment has readable records, whatever the budget; the segment that holds the bound has all of them.
    let end = log.read(0, 100_000, i64::MAX, true).unwrap().next_offset;
    assert!(end < 100);
    for max in [1, size, 100_000] {
        assert!(log.read(0, max, i64::MAX, true).unwrap().ends_early, "{max}");
        assert!(log.read(0, max, end + 1, true).unwrap().ends_early, "{max}");
        assert!(!log.read(0, max, end, true).unwrap().ends_early, "{max}");
        assert!(!log.read(98, max, i64::MAX, true).unwrap().ends_early, "{max}");
    }
    for max in [1, size, size * 2 + 5, 500, 100_000] {
        let all = read_all(&log, 0, max);
        assert_eq!(all.len(), 100, "{max}");
        assert!(all.iter().enumerate().all(|(i, (offset, value))| *offset == i as i64 && value[0] == (i / 2) as u8));
        assert_eq!(read_all(&log, 37, max).len(), 63);
    }
}

#[test]
fn leader_epochs_are_stamped_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    for epoch in [3, 3, 5] {
        append_bytes(&log, batch(Compression::Lz4, &[(NOW, b"x")]), CLIENT, epoch).unwrap();
    }
    let (first, _) = Batch::parse(log.read(2, 1, i64::MAX, true).unwrap().records).unwrap();
    assert_eq!((first.header.base_offset, first.header.partition_leader_epoch), (2, 5));
    first.verify_crc().unwrap();
    assert_eq!(log.latest_epoch(), Some(5));
    assert_eq!(log.epoch_end_offset(3).end_offset, 2);
    assert_eq!(log.epoch_end_offset(5).end_offset, 3);
    log.begin_epoch(9).unwrap();
    assert_eq!(log.epoch_end_offset(9).end_offset, 3);
    drop(log);
    let log = Opening::new(small()).open(dir.path());
    assert_eq!(log.epoch_end_offset(3).end_offset, 2);
    assert_eq!(log.latest_epoch(), Some(5), "an epoch without records is not in the log after a crash");
}

#[test]
fn offsets_by_time_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1200, index_interval_bytes: 100, ..LogConfig::default() };
    let log = Opening::new(config.clone()).open(dir.path());
    // Times jump back and forth.
    let times: Vec<i64> = (0..300).map(|i: i64| NOW + (i / 10) * 1000 - (i * 7 % 13) * 300).collect();
    for (i, chunk) in times.chunks(5).enumerate() {
        let codec = Compression::ALL[i % 5];
        let rows: Vec<(i64, &[u8])> = chunk.iter().map(|time| (*time, &b"value"[..])).collect();
        append_bytes(&log, batch(codec, &rows), CLIENT, 4).unwrap();
    }
    assert!(log.segment_count() > 3);
    let check = |log: &Log, start: usize| {
        for at in (NOW - 5000..NOW + 31_000).step_by(333).chain(times.iter().copied()) {
            let expected = times.iter().enumerate().skip(start).find(|(_, time)| **time >= at);
            let found = log.offset_for_timestamp(at).unwrap();
            assert_eq!(found.map(|f| (f.offset, f.timestamp)), expected.map(|(i, t)| (i as i64, *t)), "{at}");
            assert!(found.is_none_or(|f| f.leader_epoch == 4));
        }
        let max = times[start..].iter().max().unwrap();
        let first = times.iter().skip(start).position(|time| time == max).unwrap() + start;
        let found = log.max_timestamp_offset().unwrap().unwrap();
        assert_eq!((found.timestamp, found.offset), (*max, first as i64));
    };
    check(&log, 0);
    log.advance_high_watermark(300);
    log.advance_log_start(123).unwrap();
    check(&log, 123);
    drop(log);
    let log = Opening { log_start: 7, ..Opening::new(config.clone()) }.open(dir.path());
    check(&log, 7);
    log.close_clean(true).unwrap();
    let log = Opening { clean: true, ..Opening::new(config) }.open(dir.path());
    check(&log, 0);
}

#[test]
fn an_empty_log_has_no_times() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
    assert_eq!(log.max_timestamp_offset().unwrap(), None);
    assert!(log.read(0, 100, i64::MAX, true).unwrap().records.is_empty());
    assert!(log.read_resident(0, 100, i64::MAX, true).unwrap().is_some());
}

#[test]
fn slices_outlive_truncation_retention_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    for i in 0..30u8 {
        append(&log, &[&[i; 100]]);
    }
    let early = log.read(0, 10_000, i64::MAX, true).unwrap();
    let late = log.read(25, 10_000, i64::MAX, true).unwrap();
    let (early_before, late_before) = (early.records.to_vec(), late.records.to_vec());
    log.truncate_to(26).unwrap();
    assert_eq!(log.log_end_offset(), 26);
    for i in 100..120u8 {
        append(&log, &[&[i; 100]]);
    }
    assert_eq!(late.records, late_before, "a slice never changes");
    log.advance_high_watermark(46);
    log.advance_log_start(20).unwrap();
    assert!(log.retention_pass(NOW).unwrap().segments > 0);
    let all = read_all(&log, 20, 1000);
    assert_eq!(all[6], (26, vec![100; 100]));
    assert_eq!(all.len(), 26);
    drop(log);
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!((early.records.to_vec(), late.records.to_vec()), (early_before, late_before));
}

#[test]
fn a_truncated_file_is_cut_when_its_readers_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(LogConfig::default()).open(dir.path());
    for i in 0..10u8 {
        append(&log, &[&[i; 100]]);
    }
    let file = dir.path().join("t-0/00000000000000000000.log");
    let marker = dir.path().join("t-0/00000000000000000000.sealed");
    let slice = log.read(8, 1, i64::MAX, true).unwrap().records;
    let one = slice.len() as u64;
    log.truncate_to(4).unwrap();
    assert_eq!(file.metadata().unwrap().len(), one * 10);
    assert!(marker.exists());
    // A crash now, and a start over the copy, finds the truncated log.
    let image = tempfile::tempdir().unwrap();
    copy(dir.path(), image.path());
    assert_eq!(Opening::new(LogConfig::default()).open(image.path()).log_end_offset(), 4);
    drop(slice);
    assert_eq!(file.metadata().unwrap().len(), one * 4);
    assert!(marker.exists(), "the cut is not synced yet");
    append(&log, &[b"new"]);
    assert_eq!(read_all(&log, 0, 10_000).len(), 5);
}

#[test]
fn retention_by_bytes_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    for i in 0..60u8 {
        append(&log, &[&[i; 100]]);
    }
    assert_eq!(log.retention_pass(NOW).unwrap().segments, 0);
    let size = log.size_bytes();
    log.update_config(LogConfig { retention_bytes: 5000, ..small() });
    assert_eq!(log.retention_pass(NOW).unwrap().segments, 0, "nothing is below the high watermark");
    log.advance_high_watermark(60);
    let outcome = log.retention_pass(NOW).unwrap();
    assert!(outcome.segments > 0);
    assert_eq!(log.size_bytes(), size - outcome.bytes);
    assert!((5000..7500).contains(&log.size_bytes()));
    let start = log.log_start_offset();
    assert!(start > 0);
    assert!(matches!(log.read(0, 1, i64::MAX, true), Err(ReadError::OffsetOutOfRange { .. })));
    assert_eq!(read_all(&log, start, 500).len() as i64, 60 - start);
    // A compacted log keeps everything.
    log.update_config(LogConfig { retention_ms: 1000, delete: false, compact: true, ..small() });
    assert_eq!(log.retention_pass(NOW + 5000).unwrap().segments, 0);
    // Retention by time deletes everything, the active segment, too; offsets stay.
    log.update_config(LogConfig { retention_ms: 1000, ..small() });
    assert_eq!(log.retention_pass(NOW + 1000).unwrap().segments, 0);
    assert!(log.retention_pass(NOW + 1001).unwrap().segments > 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size_bytes()), (60, 60, 0));
    drop(log);
    let log = Opening::new(small()).open(dir.path());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (60, 60));
    assert_eq!(append(&log, &[b"x"]).base_offset, 60);
}

#[test]
fn rolls_by_time_size_and_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_ms: 1000, ..LogConfig::default() };
    let log = Opening::new(config.clone()).open(dir.path());
    let at = |time| append_bytes(&log, batch(Compression::None, &[(time, b"v")]), CLIENT, 0).unwrap();
    at(NOW);
    at(NOW + 1000);
    assert_eq!(log.segment_count(), 1);
    at(NOW + 1001);
    assert_eq!(log.segment_count(), 2);
    log.roll(NOW).unwrap();
    log.roll(NOW).unwrap();
    assert_eq!(log.segment_count(), 3);
    log.update_config(LogConfig { segment_bytes: 100, ..config });
    at(NOW + 1001);
    at(NOW + 1001);
    assert_eq!(log.segment_count(), 4);
    let big = batch(Compression::None, &[(NOW, &[0; 200])]);
    assert!(matches!(
        append_bytes(&log, big, CLIENT, 0),
        Err(AppendError::LargerThanSegment { segment_bytes: 100, .. })
    ));
    assert_eq!(read_all(&log, 0, 1000).len(), 5);
}

#[test]
fn followers_keep_offsets_and_epochs() {
    let (leader_dir, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = Opening::new(LogConfig::default()).open(leader_dir.path());
    let follower = Opening::new(small()).open(dir.path());
    for i in 0..40u8 {
        let bytes = batch(Compression::None, &[(NOW + i64::from(i), &[i; 90])]);
        append_bytes(&leader, bytes, CLIENT, i32::from(i) / 10).unwrap();
    }
    let fetched = leader.read(0, 100_000, i64::MAX, true).unwrap().records;
    let partial = fetched.slice(..fetched.len() - 1);
    let done = follower.append_replicated(partial, NOW).unwrap();
    assert_eq!((done.base_offset, done.last_offset), (0, 38));
    assert!(follower.segment_count() > 1);
    assert!(matches!(follower.append_replicated(fetched.clone(), NOW), Err(AppendError::OffsetsOutOfOrder { .. })));
    let rest = leader.read(39, 100_000, i64::MAX, true).unwrap().records;
    let mut bad = rest.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    assert!(matches!(follower.append_replicated(bad.into(), NOW), Err(AppendError::Corrupt { .. })));
    follower.append_replicated(rest, NOW).unwrap();
    assert_eq!(read_all(&follower, 0, 700), read_all(&leader, 0, 700));
    for epoch in 0..4 {
        assert_eq!(follower.epoch_end_offset(epoch), leader.epoch_end_offset(epoch));
    }
    assert!(follower.append_replicated(Bytes::new(), NOW).is_ok());
    follower.truncate_fully_and_start_at(1000).unwrap();
    assert_eq!((follower.log_start_offset(), follower.log_end_offset()), (1000, 1000));
    assert_eq!(follower.latest_epoch(), None);
    assert!(follower.read(1000, 1, i64::MAX, true).unwrap().records.is_empty());
}

#[test]
fn damage_inside_a_batch_header_takes_that_batch_only() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(LogConfig::default()).open(dir.path());
    append(&log, &[b"one"]);
    append(&log, &[b"two"]);
    log.close_clean(true).unwrap();
    drop(log);
    let file = dir.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[16] = 9;
    std::fs::write(&file, bytes).unwrap();
    let log = Opening { clean: true, ..Opening::new(LogConfig::default()) }.open(dir.path());
    assert_eq!(log.log_end_offset(), 2, "what is sound behind the damage stays");
    assert!(matches!(
        log.read(0, 1000, i64::MAX, true),
        Err(ReadError::Damaged { first_offset: 0, last_offset: 0, .. })
    ));
    assert_eq!(read_all(&log, 1, 1000), [(1, b"two".to_vec())]);
    let ranges = log.damaged_ranges();
    assert_eq!(ranges.len(), 1);
    assert!(ranges[0].contains(0) && !ranges[0].contains(1), "{ranges:?}");
}
