//! A power cut at each change of a name.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::*;
use crate::{
    hooked::{Doing, HookedDisk, Hooks},
    io::Open,
};

/// The real file system until the power cut.
#[derive(Debug)]
struct Failing {
    /// Number of changes that still succeed.
    left: AtomicI64,
}

impl Failing {
    fn change(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::AcqRel) > 0 { Ok(()) } else { Err(io::Error::other("the power is gone")) }
    }
}

impl Hooks for Failing {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        match doing {
            Doing::Open(_, Open::Existing) | Doing::Read { .. } | Doing::Reserve { .. } | Doing::SyncData(_) => Ok(()),
            _ => self.change(),
        }
    }
}

fn last_values(log: &Log) -> std::collections::BTreeMap<String, Option<String>> {
    read_records(log, true).into_iter().map(|record| (record.key, record.value)).collect()
}

#[test]
fn old_or_new_but_never_neither() {
    let mut finished = false;
    let mut crashes = 0;
    for left in 0.. {
        assert!(left < 500);
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Failing { left: AtomicI64::new(i64::MAX) });
        let logs = open_on(Arc::new(HookedDisk(disk.clone())), dir.path());
        let log = create(&logs);
        // Two groups, aborted transactions in both.
        for i in 0..60 {
            append_keyed(
                &log,
                Compression::None,
                &[(&format!("k{}", i % 20), Some(&format!("{i}-{}", "x".repeat(130))))],
            );
            if i % 20 == 5 {
                let mut builder = BatchBuilder::new(Compression::None).producer(5, 0, i / 20).transactional(true);
                builder.append(0, NOW, Some(b"k1"), Some(b"aborted"), &[]);
                append(&log, builder.build().unwrap(), CLIENT);
                marker(&log, 5, false);
            }
        }
        logs.flush_checkpoints().unwrap();
        let (expected, end) = (last_values(&log), log.log_end_offset());
        let before = log.size_bytes();
        disk.left.store(left, Ordering::Release);
        cleaner(1 << 20).run_pass(&logs, NOW);
        finished = disk.left.load(Ordering::Acquire) > 0;
        drop((log, logs));

        let logs = open(dir.path());
        let log = create(&logs);
        log.advance_high_watermark(i64::MAX);
        assert_eq!((log.log_end_offset(), log.log_start_offset()), (end, 0), "crash {left}");
        assert_eq!(last_values(&log), expected, "crash {left}");
        for name in std::fs::read_dir(log.dir()).unwrap() {
            let name = name.unwrap().file_name().into_string().unwrap();
            assert!(![".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end)), "crash {left}: {name}");
        }
        // Compaction continues from there.
        while cleaner(1 << 20).run_pass(&logs, NOW) && log.cleaned_offset() < end - 20 {}
        assert_eq!(last_values(&log), expected, "after crash {left}");
        assert!(log.size_bytes() < before, "after crash {left}");
        if finished {
            break;
        }
        crashes += 1;
    }
    assert!(finished && crashes > 15, "{crashes} crashes");
}
