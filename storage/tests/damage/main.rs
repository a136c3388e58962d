//! Every kind of file in a data folder with flipped bits, cut short, overwritten or gone: derived files are rebuilt, lost records
//! are reported, the rest is served, and nothing panics.
//!
//! `ESKER_CRASH_SEEDS=n` damages each file in n times as many ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

#[allow(dead_code, reason = "the other test needs more of it")]
#[path = "../crash/rng.rs"]
mod rng;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use esker_storage::{Log, ReadError};
use rng::Rng;
use world::{Batch, World, files, folder, open, scan};

/// The damage of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// One bit.
    Flip(usize, u8),
    Cut(usize),
    /// A sector of zeros at this position.
    Zeros(usize),
    Rubbish(usize),
    Gone,
}

impl Harm {
    fn apply(self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        match self {
            Self::Flip(at, bit) => bytes[at] ^= 1 << bit,
            Self::Cut(len) => bytes.truncate(len),
            Self::Zeros(at) => bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0),
            Self::Rubbish(at) => {
                bytes[at..].iter_mut().enumerate().take(512).for_each(|(i, byte)| *byte = (i * 89 + 7) as u8)
            }
            Self::Gone => return std::fs::remove_file(path).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// The changed bytes of the file.
    fn range(self, len: usize) -> std::ops::Range<usize> {
        match self {
            Self::Flip(at, _) => at..at + 1,
            Self::Cut(at) => at..len,
            Self::Zeros(at) | Self::Rubbish(at) => at..len.min(at + 512),
            Self::Gone => 0..len,
        }
    }
}

fn harms(len: usize, rng: &mut Rng, count: usize) -> Vec<Harm> {
    let mut harms = vec![Harm::Gone, Harm::Cut(0)];
    if len > 0 {
        for _ in 0..count {
            harms.push(Harm::Flip(rng.below(len), rng.below(8) as u8));
        }
        for _ in 0..count / 4 {
            harms.extend([Harm::Cut(rng.below(len)), Harm::Zeros(rng.below(len)), Harm::Rubbish(rng.below(len))]);
        }
    }
    harms
}

/// Whether the damage may affect the data of a batch.
fn touched(world: &World, file: &Path, harm: Harm, batch: &Batch) -> bool {
    let len = world.sizes[file];
    let damage = harm.range(len);
    batch.file == file && batch.position < damage.end && damage.start < batch.position + batch.bytes.len()
}

/// Base offset and leader epoch of a batch are in no CRC: no reader can detect a change.
fn unguarded(world: &World, file: &Path, harm: Harm) -> bool {
    let Harm::Flip(at, _) = harm else { return false };
    let batch = world.batches.iter().find(|b| b.file == file && (b.position..b.position + b.bytes.len()).contains(&at));
    batch.is_some_and(|batch| matches!(at - batch.position, 0..8 | 12..16))
}

/// Compares the opened log with the undamaged one, given the damage and the file.
fn check(world: &World, log: &Log, file: &Path, harm: Harm, walked: bool) -> Result<(), String> {
    let kind = world::kind(file);
    let hurt = |batch: &&Batch| kind == "log" && touched(world, file, harm, batch);
    let guarded = !unguarded(world, file, harm);
    let end = log.log_end_offset();
    let flushed = if world.clean { world.end } else { world.flushed };
    let ranges = log.damaged_ranges();
    // The end of the log, and unflushed records, may be lost with it.
    let tail_gone = |batch: &Batch| batch.base >= end && (batch.base >= flushed || kind == "log");
    for batch in &world.batches {
        for offset in [batch.base, batch.last] {
            let result = log.read(offset, 1, i64::MAX, true);
            let found = match &result {
                Ok(info) => world::batches(&info.records),
                Err(_) => Vec::new(),
            };
            for (base, bytes, sound) in &found {
                let true_one = world.batches.iter().find(|b| b.base == *base).is_some_and(|b| b.bytes == *bytes);
                if *sound && !true_one && guarded {
                    return Err(format!("offset {offset}: a wrong batch is served as sound, {base}"));
                }
                if walked && !sound && kind == "log" && *base >= flushed {
                    return Err(format!("offset {offset}: recovery took in a batch with a wrong CRC"));
                }
            }
            if hurt(&batch) {
                match result {
                    Err(ReadError::Damaged { .. }) if ranges.iter().any(|range| range.contains(offset)) => {}
                    Err(ReadError::Damaged { .. }) => {
                        return Err(format!("offset {offset} is damaged, and no range says so"));
                    }
                    Err(ReadError::Corrupt { .. } | ReadError::OffsetOutOfRange { .. }) | Ok(_) => {}
                    Err(other) => return Err(format!("offset {offset}: {other}")),
                }
                continue;
            }
            let there = found.first().is_some_and(|(_, bytes, _)| *bytes == batch.bytes);
            let lost_name = kind == "log" && harm == Harm::Gone;
            // If the start does not walk the file, a batch with a changed header may be returned in place of its neighbors; readers
            // check its CRC.
            let stands_in = !walked && kind == "log" && found.first().is_some_and(|(_, _, sound)| !sound);
            if stands_in {
                continue;
            }
            if !there && !tail_gone(batch) && guarded && !lost_name {
                let near: Vec<_> =
                    world.batches.iter().filter(|b| hurt(b)).map(|b| (b.base, b.last, b.position)).collect();
                return Err(format!(
                    "offset {offset} is sound, and answered with {result:?}; hurt {near:?}, this {:?}",
                    (batch.base, batch.last, batch.position)
                ));
            }
        }
    }
    if kind == "log" {
        return Ok(());
    }
    // Only derived files were damaged: all answers are as before.
    if (log.log_end_offset(), ranges.len()) != (world.end, 0) {
        return Err(format!("the log ends at {end}, not {}; damage {ranges:?}", world.end));
    }
    if scan(log)? != world.batches.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>() {
        return Err("a scan finds something else".to_owned());
    }
    for (time, expected) in &world.times {
        let found = log.offset_for_timestamp(*time).map_err(|error| error.to_string())?.map(|found| found.offset);
        if found != *expected {
            return Err(format!("time {time} leads to {found:?}, not {expected:?}"));
        }
    }
    let largest = log.max_timestamp_offset().map_err(|error| error.to_string())?.map(|found| found.offset);
    if largest != world.largest {
        return Err(format!("largest time at {largest:?}, not {:?}", world.largest));
    }
    let state: Vec<_> =
        log.producers().iter().map(|p| (p.producer_id, p.last_sequence, p.current_txn_start_offset)).collect();
    if state != world.producers {
        return Err(format!("producers {state:?}, not {:?}", world.producers));
    }
    let epochs: Vec<_> = (0..4).map(|epoch| log.epoch_end_offset(epoch).end_offset).collect();
    if epochs != world.epochs && kind != "leader-epoch-checkpoint" {
        return Err(format!("epochs end at {epochs:?}, not {:?}", world.epochs));
    }
    let aborted: Vec<_> =
        log.aborted_transactions(0, end).unwrap().iter().map(|t| (t.producer_id, t.first_offset)).collect();
    if aborted != world.aborted && kind != "txnindex" {
        return Err(format!("aborted transactions {aborted:?}, not {:?}", world.aborted));
    }
    Ok(())
}

/// Damages one file in a copy of the folder and checks the log.
fn harmed(world: &World, file: &Path, harm: Harm) -> Result<(), String> {
    let root = folder();
    world.copy_to(root.path());
    harm.apply(&root.path().join(file));
    let kind = world::kind(file);
    let opened = open(root.path(), &world.config, Some(&world.cluster_id));
    let manager = match opened {
        Ok(manager) => manager,
        // The identity of a folder or partition cannot be rebuilt.
        Err(error) => {
            let told = matches!(kind, "meta.properties" | "partition.metadata");
            let named = error.contains(kind) || error.contains("belongs to");
            return if told && named { Ok(()) } else { Err(format!("does not open: {error}")) };
        }
    };
    if kind == "partition.metadata" && manager.get("t", 0).is_none() {
        return Err("the partition is gone".to_owned());
    }
    let log = manager.get("t", 0).ok_or("the log is gone")?;
    if kind.ends_with("-checkpoint") && kind != "leader-epoch-checkpoint" && matches!(harm, Harm::Flip(..)) {
        // One digit for another: no checksum guards these.
        return Ok(());
    }
    let walked = world.walked(file);
    check(world, &log, file, harm, walked)?;
    // The log continues, and the damage is still known after a clean stop.
    let ranges = log.damaged_ranges();
    let next =
        world::append(&log, b"next", log.latest_epoch().unwrap_or(0)).map_err(|error| format!("append: {error}"))?;
    let value = log.read(next, 1, i64::MAX, true).map_err(|error| error.to_string())?;
    if value.first_offset != next || value.records.is_empty() {
        return Err(format!("what was appended at {next} is not found"));
    }
    manager.shutdown_clean().map_err(|error| error.to_string())?;
    drop((manager, log));
    let manager = open(root.path(), &world.config, Some(&world.cluster_id)).map_err(|e| format!("second open: {e}"))?;
    let log = manager.get("t", 0).ok_or("the log is gone after a clean stop")?;
    if log.damaged_ranges() != ranges {
        return Err(format!("damage {ranges:?} became {:?} by a clean stop", log.damaged_ranges()));
    }
    Ok(())
}

fn all(clean: bool) {
    let times = std::env::var("ESKER_CRASH_SEEDS").ok().map_or(1, |text| text.parse::<usize>().unwrap());
    let world = World::new(clean);
    let mut cases: Vec<(PathBuf, Harm)> = Vec::new();
    let mut rng = Rng::new(if clean { 1 } else { 2 });
    for file in files(world.root.path()) {
        let count = if world::kind(&file) == "log" { 24 } else { 12 };
        cases.extend(harms(world.sizes[&file], &mut rng, count * times).into_iter().map(|harm| (file.clone(), harm)));
    }
    assert!(cases.len() > 400, "{}", cases.len());
    for kind in ["log", "index", "timeindex", "txnindex", "snapshot", "leader-epoch-checkpoint", "partition.metadata"] {
        assert!(cases.iter().any(|(file, _)| world::kind(file) == kind), "{kind}");
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some((file, harm)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(fault) = harmed(&world, file, *harm) {
                    panic!("clean {clean}, {} of {} bytes, {harm:?}: {fault}", file.display(), world.sizes[file]);
                }
            }
        };
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

#[test]
fn after_a_clean_stop() {
    all(true);
}

#[test]
fn after_a_crash() {
    all(false);
}

#[test]
fn damage_below_the_recovery_point_is_reported_and_kept() {
    let world = World::new(false);
    let flushed: Vec<&Batch> = world.batches.iter().filter(|batch| batch.last < world.flushed).collect();
    let batch = flushed.iter().rev().find(|batch| world.walked(&batch.file)).unwrap();
    let root = folder();
    world.copy_to(root.path());
    // The length in a header: below the recovery point a start walks from header to header, and the scrub checks the rest.
    Harm::Flip(batch.position + 8, 6).apply(&root.path().join(&batch.file));
    let before = std::fs::metadata(root.path().join(&batch.file)).unwrap().len();
    for start in 0..3 {
        let manager = open(root.path(), &world.config, Some(&world.cluster_id)).unwrap();
        let log = manager.get("t", 0).unwrap();
        let ranges = log.damaged_ranges();
        assert_eq!(ranges.len(), 1, "start {start}");
        assert_eq!((ranges[0].first_offset, ranges[0].end_offset), (batch.base, batch.last + 1));
        assert!(matches!(
            log.read(batch.base, 1 << 20, i64::MAX, true),
            Err(ReadError::Damaged { first_offset, last_offset, .. }) if (first_offset, last_offset) == (batch.base, batch.last)
        ));
        assert_eq!(log.log_end_offset(), world.end + start);
        // A read before the damage ends there, a read behind it succeeds.
        let info = log.read(batch.base - 1, 1 << 20, i64::MAX, true).unwrap();
        assert_eq!(info.next_offset, batch.base);
        assert!(log.read(batch.last + 1, 1 << 20, i64::MAX, true).unwrap().first_offset > batch.last);
        let len = std::fs::metadata(root.path().join(&batch.file)).unwrap().len();
        assert!(len >= before.min(len) && len + 4096 > before, "the file keeps its bytes");
        world::append(&log, b"more", log.latest_epoch().unwrap()).unwrap();
        manager.shutdown_clean().unwrap();
    }
    // DeleteRecords past the damage, and retention, remove it.
    let manager = open(root.path(), &world.config, Some(&world.cluster_id)).unwrap();
    let log = manager.get("t", 0).unwrap();
    log.advance_high_watermark(log.log_end_offset());
    log.advance_log_start(batch.last + 1).unwrap();
    assert!(log.damaged_ranges().is_empty());
}
