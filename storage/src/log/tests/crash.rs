use super::*;
use proptest::prelude::*;

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir.join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// A log of 40 batches of two records, flushed up to `flushed` batches.
fn written(dir: &Path, flushed: usize) -> Log {
    let log = Opening::new(small()).open(dir);
    for i in 0..40u8 {
        if usize::from(i) == flushed {
            assert_eq!(log.flush().unwrap(), i64::from(i) * 2);
        }
        append(&log, &[&[i; 40], &[i; 41]]);
    }
    log
}

fn expected() -> Vec<(i64, Vec<u8>)> {
    (0..80).map(|i| (i, vec![(i / 2) as u8; 40 + i as usize % 2])).collect()
}

#[test]
fn nothing_is_lost_when_only_the_process_dies() {
    for flushed in [0, 1, 20, 39, 100] {
        let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = written(dir.path(), flushed);
        log.save_indexes().unwrap();
        copy(dir.path(), image.path());
        let opening = Opening { recovery_point: log.recovery_point(), ..Opening::new(small()) };
        let back = opening.open(image.path());
        assert_eq!(read_all(&back, 0, 300), expected());
        assert_eq!(append(&back, &[b"next"]).base_offset, 80);
    }
}

/// A failed write whose truncation was lost in a power cut.
#[test]
fn rubbish_behind_a_closed_segment_costs_no_later_one() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = written(dir.path(), 100);
    copy(dir.path(), image.path());
    let closed = &files(image.path(), "log")[1];
    let sound = std::fs::read(closed).unwrap();
    std::fs::write(closed, [&sound[..], &sound[..50]].concat()).unwrap();
    for recovery_point in [0, log.log_end_offset() / 2] {
        let back = Opening { recovery_point, ..Opening::new(small()) }.open(image.path());
        assert_eq!(read_all(&back, 0, 300), expected());
        assert_eq!(back.damaged_ranges(), []);
    }
    assert_eq!(std::fs::read(closed).unwrap(), sound);
}

#[test]
fn only_unflushed_data_is_read_again() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = LogConfig { segment_bytes: 1 << 20, ..small() };
    let log = Opening::new(config.clone()).open(dir.path());
    for i in 0..200u8 {
        let records: [(i64, &[u8]); 2] = [(NOW + i64::from(i), &[i; 40]), (NOW + i64::from(i), &[i; 41])];
        append_bytes(&log, batch(esker_protocol::compression::Compression::None, &records), CLIENT, 0).unwrap();
        if i % 50 == 49 {
            log.flush().unwrap();
            log.save_indexes().unwrap();
        }
    }
    let recovery_point = log.flush().unwrap();
    append(&log, &[b"no flush has seen this"]);
    copy(dir.path(), image.path());
    // A read of this part finds damage; half of the log lies below the last save.
    let path = &files(image.path(), "log")[0];
    let mut bytes = std::fs::read(path).unwrap();
    let half = bytes.len() / 2;
    bytes[..half].fill(0xee);
    std::fs::write(path, bytes).unwrap();
    let back = Opening { recovery_point, ..Opening::new(config.clone()) }.open(image.path());
    assert_eq!((back.log_end_offset(), back.damaged_ranges().len()), (401, 0));
    assert_eq!(read_all(&back, 300, 300).len(), 101);
    // Without the snapshot the trusted part of the index is unknown.
    files(image.path(), "snapshot").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let walked = Opening { recovery_point, ..Opening::new(config) }.open(image.path());
    assert_eq!(walked.damaged_ranges().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The last segment is cut anywhere, or rubbish follows it: the log keeps a prefix of whole batches, and continues.
    #[test]
    fn torn_tails_are_cut(cut in 0usize..1500, rubbish in proptest::collection::vec(any::<u8>(), 0..80), flip in any::<bool>()) {
        let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = written(dir.path(), 5);
        let recovery_point = log.recovery_point();
        copy(dir.path(), image.path());
        let last = files(image.path(), "log").pop().unwrap();
        let base = crate::files::offset_of(last.file_name().unwrap().to_str().unwrap(), ".log").unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        bytes.truncate(bytes.len().saturating_sub(cut));
        if flip && !bytes.is_empty() {
            let mut at = cut * 7 % bytes.len();
            let mut start = 0;
            while let Ok(step) = crate::walk::step(&bytes[start..])
                && start + step.size <= at
            {
                start += step.size;
            }
            // Base offset and leader epoch are not in the CRC: no reader can detect a change.
            at = at.max(start + 16).min(bytes.len() - 1);
            bytes[at] ^= 0x10;
        }
        bytes.extend_from_slice(&rubbish);
        std::fs::write(&last, bytes).unwrap();
        let back = Opening { recovery_point, ..Opening::new(small()) }.open(image.path());
        let end = back.log_end_offset();
        prop_assert!(end >= base && end <= 80, "{base} {end}");
        let all = read_all(&back, 0, 300);
        prop_assert_eq!(&all, &expected()[..all.len()]);
        let next = append(&back, &[b"next"]).base_offset;
        prop_assert_eq!(next, end);
        drop(back);
        let again = Opening { recovery_point, ..Opening::new(small()) }.open(image.path());
        prop_assert_eq!(again.log_end_offset(), end + 1);
    }

    /// Derived files may be missing, cut or full of rubbish: they are rebuilt from the data.
    #[test]
    fn derived_files_may_be_damaged(kind in 0usize..5, how in 0usize..3, at in any::<prop::sample::Index>(), clean in any::<bool>()) {
        let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = written(dir.path(), 20);
        log.close_clean(true).unwrap();
        copy(dir.path(), image.path());
        let kinds = ["index", "timeindex", "snapshot", "index", "leader-epoch-checkpoint"];
        let found = match kinds[kind] {
            "leader-epoch-checkpoint" => vec![image.path().join("t-0/leader-epoch-checkpoint")],
            extension => files(image.path(), extension),
        };
        let file = &found[at.index(found.len())];
        let mut bytes = std::fs::read(file).unwrap();
        match how {
            0 => std::fs::remove_file(file).unwrap(),
            1 => {
                bytes.truncate(at.index(bytes.len() + 1));
                std::fs::write(file, bytes).unwrap();
            }
            _ => std::fs::write(file, vec![0xa5; bytes.len() + 3]).unwrap(),
        }
        let back = Opening { clean, recovery_point: if clean { 0 } else { 40 }, ..Opening::new(small()) }.open(image.path());
        prop_assert_eq!(read_all(&back, 0, 300), expected());
        for offset in 0..80 {
            prop_assert_eq!(read_all(&back, offset, 300).len() as i64, 80 - offset);
        }
        prop_assert_eq!(back.offset_for_timestamp(NOW).unwrap().unwrap().offset, 0);
        prop_assert_eq!(back.epoch_end_offset(0).end_offset, 80);
    }
}

#[test]
fn a_hole_in_the_middle_ends_the_log_there() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = written(dir.path(), 100);
    copy(dir.path(), image.path());
    let logs = files(image.path(), "log");
    assert!(logs.len() > 3);
    let middle = &logs[1];
    let bytes = std::fs::read(middle).unwrap();
    std::fs::write(middle, &bytes[..bytes.len() - 10]).unwrap();
    let back = Opening::new(small()).open(image.path());
    let end = back.log_end_offset();
    assert!(end < crate::files::offset_of(logs[2].file_name().unwrap().to_str().unwrap(), ".log").unwrap());
    assert_eq!(read_all(&back, 0, 300).len() as i64, end);
    assert_eq!(files(image.path(), "log").len(), 2);
    drop(log);
}
