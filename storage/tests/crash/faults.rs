//! Disks that fail: one operation with EIO, or a stretch of them for lack of space. After an EIO the log dir is offline for good; a
//! full disk is temporary. Records acknowledged before and after survive the power cut that follows.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use esker_protocol::{
    compression::Compression,
    records::{Batch, BatchBuilder},
};
use esker_storage::{AppendBatch, Log, LogConfig, LogManager, LogManagerConfig, Origin, Uuid};

use crate::{
    check,
    disk::{EIO, ENOSPC, Fault, Plan, SimDisk},
    driver::{Driver, NOW, Outcome},
    folder, in_parallel,
    rng::Rng,
    run, seeds,
    state::Image,
    survives, tail,
};

/// Runs a seed's operations over a disk that fails by `plan`; returns a description of the violation.
fn run_with(seed: u64, plan: Plan, operations: usize) -> Result<(), String> {
    let root = folder();
    let disk = SimDisk::new(root.path(), &Image::new());
    disk.fail(Some(plan.clone()));
    let mut driver = Driver::new(disk.clone(), root.path(), Rng::new(seed));
    let result = operate(&mut driver, &disk, &plan, operations);
    let about = |error: String| format!("{error}\nfailed: {:?}\noperations\n  {}", disk.failed(), tail(&driver.log));
    result.map_err(about)?;
    // Then the power goes.
    disk.fail(None);
    let mut rng = Rng::new(seed ^ 0xdead);
    let about = |error| format!("after the power cut: {error}");
    let events = match driver.marks.last() {
        Some(mark) if mark.op == "failed" => mark.events - 1,
        _ => disk.events(),
    };
    survives(&driver, &disk.state().image(&mut rng), events, &mut rng, &AtomicU64::new(0)).map_err(about).map_err(
        |error| {
            let marks: Vec<String> = driver.marks.iter().map(|mark| format!("{} {}", mark.events, mark.op)).collect();
            format!("{error}\nfailed: {:?}\noperations\n  {}", disk.failed(), tail(&marks))
        },
    )
}

fn operate(driver: &mut Driver, disk: &SimDisk, plan: &Plan, operations: usize) -> Result<(), String> {
    let hit = || !disk.failed().is_empty();
    let mut result = driver.start().map(|()| Outcome::Done);
    for _ in 0..operations {
        match result {
            // A start may fail, since the disk fails.
            Err(_) if hit() && driver.manager.is_none() => {
                driver.mark_unfinished();
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(_) if driver.stopped => {
                driver.mark_unfinished();
                return Ok(());
            }
            Ok(_) if driver.offline() => return is_offline(driver),
            Ok(Outcome::Done) if !hit() || plan.error == ENOSPC => {}
            Ok(Outcome::Done) => {
                // Nothing depends on a reservation, on a cut that has a marker, or on a closed segment's index that a reader
                // rebuilt.
                let fine = ["reserve", "set the length of", "index.tmp"];
                let harmless = |what: &String| fine.iter().any(|fine| what.contains(fine));
                if !disk.failed().iter().all(harmless) {
                    return Err("an error of the disk was passed over".to_owned());
                }
            }
            Ok(Outcome::Full) if plan.error == ENOSPC => {}
            Ok(other) => return Err(format!("{other:?}, and the log dir is online")),
        }
        result = driver.step();
    }
    let result = result.map(|_| ());
    if driver.manager.is_none() && hit() {
        driver.mark_unfinished();
        return Ok(());
    }
    result?;
    if driver.offline() {
        return is_offline(driver);
    }
    driver.check_all()
}

/// Checks that every log refuses writes, no recovery point moves, and reads are still served.
fn is_offline(driver: &mut Driver) -> Result<(), String> {
    driver.mark_unfinished();
    driver.disk.fail(None);
    let logs = driver.manager.as_ref().ok_or("not open")?.logs();
    for log in logs {
        let (point, end) = (log.recovery_point(), log.log_end_offset());
        let refused = log.flush().is_err()
            && log.roll(0).is_err()
            && log.truncate_to(0).is_err()
            && log.begin_epoch(99).is_err()
            && log.append_replicated(bytes::Bytes::new(), 0).is_err();
        if !refused || (log.recovery_point(), log.log_end_offset()) != (point, end) {
            return Err(format!("{}-{} goes on after its disk failed", log.topic(), log.partition()));
        }
        check::scan(&log, 700)?;
    }
    let manager = driver.manager.take().ok_or("not open")?;
    // An error if there are logs; that the dir has no marker is what matters.
    let _ = manager.shutdown_clean();
    match manager.dirs().iter().any(|dir| dir.path.join(".kafka_cleanshutdown").exists()) {
        true => Err("a stop with a failed disk counts as clean".to_owned()),
        false => Ok(()),
    }
}

/// The kernel marks pages as clean after a failed sync. A process that then dies leaves them to the next one.
#[test]
fn a_restart_writes_again_what_a_failed_sync_left() {
    let root = folder();
    let disk = SimDisk::new(root.path(), &Image::new());
    let open = |disk: &SimDisk, root: &Path| {
        let config = LogManagerConfig {
            dirs: vec![root.join("data")],
            node_id: 1,
            cluster_id: None,
            load_threads: 1,
            journal_bytes: 0,
            journal_dirs: Vec::new(),
            default_config: LogConfig::default(),
            progress: Arc::default(),
        };
        LogManager::open_on(Arc::new(disk.clone()), config, NOW).unwrap()
    };
    let append = |log: &Log, value: &[u8]| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(0, NOW, None, Some(value), &[]);
        let (batch, _) = Batch::parse(builder.build().unwrap()).unwrap();
        let batch = AppendBatch { header: &batch.header, bytes: &batch.bytes };
        log.append(batch, Origin::Client { transaction_v2: false }, 0, NOW).unwrap()
    };
    let manager = open(&disk, root.path());
    let log = manager.create("t", 0, Uuid([1; 16]), LogConfig::default(), NOW).unwrap();
    append(&log, b"flushed");
    assert_eq!(log.flush().unwrap(), 1);
    append(&log, b"not flushed");
    disk.set_faults(vec![Fault { operations: &["sync"], place: "", after: 0, times: 1 }]);
    log.flush().unwrap_err();
    let next = disk.next_process();
    drop((log, manager));
    let manager = open(&next, root.path());
    assert_eq!(manager.logs()[0].flush().unwrap(), 2);
    for seed in 0..20 {
        let image = folder();
        let after = SimDisk::new(image.path(), &next.state().image(&mut Rng::new(seed)));
        let log = open(&after, image.path()).logs()[0].clone();
        assert_eq!((log.log_end_offset(), log.damaged_ranges().len()), (2, 0), "seed {seed}");
    }
}

fn all(error: i32, runs: usize, length: usize) {
    in_parallel(&seeds(8), |seed| {
        let root = folder();
        let steps = run(seed, 60, root.path()).disk.steps();
        let mut rng = Rng::new(seed ^ 0xfa17);
        for _ in 0..runs {
            let at = rng.below(steps);
            let plan = Plan { steps: at..at + 1 + rng.below(length), error };
            if let Err(fault) = run_with(seed, plan.clone(), 60) {
                panic!("seed {seed}, {plan:?}: {fault}\nRun it with ESKER_CRASH_SEED={seed}");
            }
        }
    });
}

#[test]
fn a_failed_write_or_sync_ends_the_log_dir() {
    all(EIO, 15, 1);
}

#[test]
fn a_full_disk_passes() {
    all(ENOSPC, 15, 60);
}
