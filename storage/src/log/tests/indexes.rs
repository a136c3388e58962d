//! Index files of closed segments as the next start finds them.

use std::sync::atomic::{AtomicUsize, Ordering};

use esker_protocol::compression::Compression;

use super::*;
use crate::hooked::{Doing, HookedDisk, Hooks};

#[test]
fn a_rebuilt_time_index_ends_with_the_largest_timestamp_and_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { index_interval_bytes: 100, ..LogConfig::default() };
    let opening = Opening { clean: true, ..Opening::new(config) };
    let log = opening.open(dir.path());
    let times = [5i64, 9, 3];
    for time in times {
        append_bytes(&log, batch(Compression::None, &[(NOW + time, &[1; 50])]), CLIENT, 0).unwrap();
    }
    // Much larger than what needs an entry, but alone.
    log.roll(NOW).unwrap();
    append_bytes(&log, batch(Compression::None, &[(NOW + 1, &[2; 10_000])]), CLIENT, 0).unwrap();
    log.roll(NOW).unwrap();
    log.close_clean(true).unwrap();
    drop(log);
    let index = |base: i64| dir.path().join(format!("t-0/{base:020}.timeindex"));
    let last = |base: i64| std::fs::read(index(base)).unwrap().last_chunk::<12>().copied();
    let entry = |time: i64, relative: u32| {
        let mut entry = [0; 12];
        entry[..8].copy_from_slice(&(NOW + time).to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        Some(entry)
    };
    std::fs::remove_file(index(0)).unwrap();
    let stamp = std::fs::metadata(index(3)).unwrap().modified().unwrap();
    let log = opening.open(dir.path());
    let newest = log.max_timestamp_offset().unwrap().unwrap();
    assert_eq!(newest.timestamp, NOW + 9);
    assert_eq!(log.offset_for_timestamp(NOW + 9).unwrap().unwrap().offset, 1);
    assert_eq!((last(0), last(3)), (entry(9, 1), entry(1, 0)));
    assert_eq!(std::fs::metadata(index(3)).unwrap().modified().unwrap(), stamp, "not made again");
}

/// A late reader of a segment without index files rebuilds them, but not under names that belong to another segment by then.
#[test]
fn indexes_rebuilt_for_an_unlinked_segment_stay_in_memory() {
    type Lose = fn(&Log);
    let cases: [(&str, bool, Lose); 3] = [
        ("nothing happened", true, |_| {}),
        ("retention", false, |log| {
            log.advance_high_watermark(1);
            log.advance_log_start(1).unwrap();
            assert_eq!(log.retention_pass(NOW).unwrap().segments, 1);
        }),
        ("another log may have the folder", false, |log| log.close()),
    ];
    for (name, written, lose) in cases {
        let dir = tempfile::tempdir().unwrap();
        let log = Opening::new(LogConfig { file_delete_delay_ms: 0, ..LogConfig::default() }).open(dir.path());
        append_bytes(&log, batch(Compression::None, &[(NOW, &[1; 50])]), CLIENT, 0).unwrap();
        log.roll(NOW).unwrap();
        let segment = log.closed_segments().remove(0);
        let opened = segment.opened().unwrap();
        let index = dir.path().join("t-0/00000000000000000000.timeindex");
        std::fs::remove_file(&index).unwrap();
        lose(&log);
        assert_eq!(segment.times(&opened).unwrap().len(), 1, "{name}");
        assert_eq!(index.exists(), written, "{name}");
    }
}

/// `segment.index.bytes`: a segment is rolled before an index file would outgrow it.
#[test]
fn a_full_index_rolls_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { index_interval_bytes: 0, segment_index_bytes: 240, ..LogConfig::default() };
    let log = Opening::new(config).open(dir.path());
    // Every batch but a segment's first has an entry in both indexes; the time index keeps room for the one at the roll.
    for time in 0..100 {
        append_bytes(&log, batch(Compression::None, &[(NOW + time, &[1; 50])]), CLIENT, 0).unwrap();
    }
    log.roll(NOW).unwrap();
    let sizes = |ending: &str| -> Vec<u64> {
        let names = std::fs::read_dir(dir.path().join("t-0")).unwrap().map(|entry| entry.unwrap());
        let mut named: Vec<_> = names.filter(|entry| entry.path().extension().is_some_and(|e| e == ending)).collect();
        named.sort_by_key(|entry| entry.path());
        named.iter().map(|entry| entry.metadata().unwrap().len()).collect()
    };
    let (offsets, times) = (sizes("index"), sizes("timeindex"));
    // The last ones are of the active segment, which is empty.
    assert_eq!(times, [228, 228, 228, 228, 228, 0], "19 entries of 12 bytes, and room for one more");
    assert_eq!(offsets, [152, 152, 152, 152, 152, 0]);
    assert_eq!(read_all(&log, 0, 1 << 20).len(), 100);
}

/// An epoch that a truncation removed begins again.
#[test]
fn a_truncated_epoch_is_recorded_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    let one = || batch(Compression::None, &[(NOW, &[1; 50])]);
    for epoch in [1, 1, 2] {
        append_bytes(&log, one(), CLIENT, epoch).unwrap();
    }
    assert_eq!((log.latest_epoch(), log.epoch_at(2)), (Some(2), Some(2)));
    log.truncate_to(1).unwrap();
    assert_eq!(log.latest_epoch(), Some(1));
    append_bytes(&log, one(), CLIENT, 2).unwrap();
    assert_eq!((log.latest_epoch(), log.epoch_at(0), log.epoch_at(1)), (Some(2), Some(1), Some(2)));
    log.truncate_fully_and_start_at(7).unwrap();
    assert_eq!(log.latest_epoch(), None);
    append_bytes(&log, one(), CLIENT, 1).unwrap();
    assert_eq!(log.epoch_at(7), Some(1));
}

/// Reads of data files that are not through the map.
#[derive(Debug, Default)]
struct Reads(AtomicUsize);

impl Hooks for Reads {
    fn before(&self, doing: Doing<'_>) -> std::io::Result<()> {
        if let Doing::Read { path, .. } = doing
            && path.extension().is_some_and(|extension| extension == "log")
        {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// If the largest timestamp comes early, only a walk over the segment shows that no later one follows. A fetch does not wait for
/// that, and after a roll no request does.
#[test]
fn a_fetch_does_not_walk_a_segment_for_its_timestamps() {
    let dir = tempfile::tempdir().unwrap();
    let reads = Arc::<Reads>::default();
    let count = || reads.0.swap(0, Ordering::Relaxed);
    let hooks: Arc<dyn Hooks> = Arc::<Reads>::clone(&reads);
    let disk: Arc<dyn Disk> = Arc::new(HookedDisk(hooks));
    let opening = Opening { clean: true, ..Opening::new(LogConfig::default()) };
    let log = opening.open_on(Arc::clone(&disk), dir.path());
    for _ in 0..100 {
        // Larger than what a walk reads at once.
        append_bytes(&log, batch(Compression::None, &[(NOW, &[1; 20_000])]), CLIENT, 0).unwrap();
    }
    log.roll(NOW).unwrap();
    count();
    assert_eq!(read_all(&log, 0, 1 << 20).len(), 100);
    assert_eq!(log.offset_for_timestamp(NOW).unwrap().unwrap().offset, 0);
    assert!(count() < 5, "what was just written is known");
    log.close_clean(true).unwrap();
    drop(log);
    let log = opening.open_on(disk, dir.path());
    count();
    assert_eq!(read_all(&log, 0, 1 << 20).len(), 100);
    assert!(count() < 5, "a fetch looks up no times");
    assert_eq!(log.offset_for_timestamp(NOW).unwrap().unwrap().offset, 0);
    assert!(count() >= 100, "a time index that was cut short would be found out");
}

/// Kafka's tools, which read the folder of a running broker, create a missing index file.
#[test]
fn an_active_segment_has_index_files_from_its_creation_on() {
    let active_has_them = |log: &Log, what: &str| {
        let base = log.segments().last().unwrap().base_offset;
        for suffix in [crate::files::INDEX, crate::files::TIME_INDEX] {
            let path = crate::files::segment_path(log.dir(), base, suffix);
            assert!(path.exists(), "{what}: {}", path.display());
        }
        base
    };
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    assert_eq!(active_has_them(&log, "created"), 0);
    for _ in 0..30 {
        append(&log, &[&[1; 100]]);
    }
    assert!(active_has_them(&log, "rolled") > 0);
    log.truncate_to(20).unwrap();
    assert_eq!(active_has_them(&log, "truncated"), 20);
    log.truncate_fully_and_start_at(7).unwrap();
    assert_eq!(active_has_them(&log, "started anew"), 7);
    append(&log, &[b"x"]);
    drop(log);
    // As an older version left it.
    for suffix in [crate::files::INDEX, crate::files::TIME_INDEX] {
        std::fs::remove_file(crate::files::segment_path(&dir.path().join("t-0"), 7, suffix)).unwrap();
    }
    let log = Opening { log_start: 7, ..Opening::new(small()) }.open(dir.path());
    assert_eq!(active_has_them(&log, "opened after a crash"), 7);
    assert_eq!(read_all(&log, 7, 500).len(), 1);
}
