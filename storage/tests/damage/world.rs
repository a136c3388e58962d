//! A data folder with every kind of file, and its expected content.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use esker_protocol::{
    compression::Compression,
    records::{Batch as Parsed, BatchBuilder, Batches, EndTxnMarker, end_txn_batch},
};
use esker_storage::{AppendBatch, Log, LogConfig, LogManager, LogManagerConfig, Origin, Uuid};

pub const NOW: i64 = 1_700_000_000_000;

/// A batch of the log and its position.
#[derive(Debug, Clone)]
pub struct Batch {
    pub base: i64,
    pub last: i64,
    pub bytes: Bytes,
    /// Path inside of the folder.
    pub file: PathBuf,
    pub position: usize,
}

/// See the module.
pub struct World {
    pub root: tempfile::TempDir,
    pub clean: bool,
    pub config: LogConfig,
    pub cluster_id: String,
    pub sizes: BTreeMap<PathBuf, usize>,
    pub batches: Vec<Batch>,
    pub end: i64,
    /// The recovery point on disk.
    pub flushed: i64,
    pub times: Vec<(i64, Option<i64>)>,
    pub largest: Option<i64>,
    pub producers: Vec<(i64, i32, i64)>,
    pub epochs: Vec<i64>,
    pub aborted: Vec<(i64, i64)>,
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The kind of a file: its extension, or its name.
pub fn kind(path: &Path) -> &str {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.rsplit_once('.').map_or(name, |(stem, extension)| if stem.starts_with('0') { extension } else { name })
}

/// All files in a folder, as paths inside of it; the lock file left out.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                todo.push(entry);
            } else if entry.file_name().unwrap() != ".lock" {
                found.push(entry.strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

pub fn open(dir: &Path, config: &LogConfig, cluster_id: Option<&str>) -> Result<LogManager, String> {
    let open = LogManagerConfig {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: cluster_id.map(str::to_owned),
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: config.clone(),
        progress: std::sync::Arc::default(),
    };
    LogManager::open(open, NOW).map_err(|error| error.to_string())
}

/// Base offset, bytes, and whether the CRC is right, of every batch in an answer.
pub fn batches(records: &Bytes) -> Vec<(i64, Bytes, bool)> {
    let batches = Batches::new(records.clone()).map_while(Result::ok);
    batches.map(|batch| (batch.header.base_offset, batch.bytes.clone(), batch.verify_crc().is_ok())).collect()
}

/// Every batch of a log.
pub fn scan(log: &Log) -> Result<Vec<Bytes>, String> {
    let (mut found, mut from) = (Vec::new(), log.log_start_offset());
    while from < log.log_end_offset() {
        let info = log.read(from, 700, i64::MAX, true).map_err(|error| error.to_string())?;
        if info.next_offset <= from {
            return Err(format!("nothing at {from}"));
        }
        found.extend(batches(&info.records).into_iter().map(|(_, bytes, _)| bytes));
        from = info.next_offset;
    }
    Ok(found)
}

fn append_bytes(log: &Log, bytes: Bytes, origin: Origin, epoch: i32) -> Result<i64, String> {
    let (batch, _) = Parsed::parse(bytes).unwrap();
    let done = log.append(AppendBatch { header: &batch.header, bytes: &batch.bytes }, origin, epoch, NOW);
    done.map(|done| done.base_offset).map_err(|error| error.to_string())
}

pub fn append(log: &Log, value: &[u8], epoch: i32) -> Result<i64, String> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(value), &[]);
    append_bytes(log, builder.build().unwrap(), Origin::Client { transaction_v2: false }, epoch)
}

fn fill(log: &Log, steps: std::ops::Range<i64>) {
    let client = Origin::Client { transaction_v2: false };
    for step in steps {
        let epoch = (step / 12) as i32;
        let codec = if step % 5 == 4 { Compression::Lz4 } else { Compression::None };
        let mut builder = BatchBuilder::new(codec);
        let producer = step % 3;
        if producer > 0 {
            // Of every three batches two are of producers: the first idempotent, the second transactional.
            builder = builder.producer(producer, 0, (step / 3 * 2) as i32).transactional(producer == 2);
        }
        for delta in 0..2 {
            let value = vec![step as u8; 20 + (step * 37 % 150) as usize];
            builder.append(delta, NOW + step * 10 + i64::from(delta) - step % 7 * 15, None, Some(&value), &[]);
        }
        append_bytes(log, builder.build().unwrap(), client, epoch).unwrap();
        if step % 6 == 5 {
            let marker = EndTxnMarker { committed: step % 12 == 5, coordinator_epoch: 1 };
            let bytes = end_txn_batch(2, 0, marker, NOW + step * 10).unwrap();
            append_bytes(log, bytes, Origin::Coordinator { transaction_v2: false }, epoch).unwrap();
        }
    }
}

impl World {
    /// A log of some segments; stopped cleanly, or as after a crash: flushed and in the checkpoints up to a point, with more
    /// records behind.
    pub fn new(clean: bool) -> Self {
        let root = folder();
        let config = LogConfig {
            segment_bytes: 2500,
            index_interval_bytes: 0,
            producer_id_expiration_ms: i64::MAX,
            retention_ms: -1,
            file_delete_delay_ms: 0,
            ..LogConfig::default()
        };
        let live = folder();
        let manager = open(live.path(), &config, None).unwrap();
        let log = manager.create("t", 0, Uuid([7; 16]), config.clone(), NOW).unwrap();
        fill(&log, 0..26);
        log.flush().unwrap();
        log.advance_high_watermark(log.log_end_offset());
        manager.flush_checkpoints().unwrap();
        let flushed = log.recovery_point();
        fill(&log, 26..40);
        let scanned = scan(&log).unwrap();
        let end = log.log_end_offset();
        let producers =
            log.producers().into_iter().map(|p| (p.producer_id, p.last_sequence, p.current_txn_start_offset));
        let mut world = Self {
            clean,
            cluster_id: manager.cluster_id().to_owned(),
            sizes: BTreeMap::new(),
            batches: Vec::new(),
            end,
            flushed,
            times: times(&log, &scanned),
            largest: log.max_timestamp_offset().unwrap().map(|found| found.offset),
            producers: producers.collect(),
            epochs: (0..4).map(|epoch| log.epoch_end_offset(epoch).end_offset).collect(),
            aborted: log
                .aborted_transactions(0, end)
                .unwrap()
                .iter()
                .map(|t| (t.producer_id, t.first_offset))
                .collect(),
            config,
            root,
        };
        assert!(world.aborted.len() > 2 && log.segment_count() > 4);
        if clean {
            manager.shutdown_clean().unwrap();
            world.flushed = world.end;
        }
        copy(live.path(), world.root.path());
        world.sizes = files(world.root.path())
            .into_iter()
            .map(|file| (file.clone(), std::fs::metadata(world.root.path().join(&file)).unwrap().len() as usize))
            .collect();
        let logs: Vec<PathBuf> = world.sizes.keys().filter(|file| kind(file) == "log").cloned().collect();
        for file in logs {
            let bytes = Bytes::from(std::fs::read(world.root.path().join(&file)).unwrap());
            let mut position = 0;
            for (base, bytes, _) in batches(&bytes) {
                let size = bytes.len();
                let last = Parsed::parse(bytes.clone()).unwrap().0.header.last_offset();
                world.batches.push(Batch { base, last, bytes, file: file.clone(), position });
                position += size;
            }
        }
        assert_eq!(world.batches.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>(), scanned);
        world
    }

    pub fn copy_to(&self, to: &Path) {
        copy(self.root.path(), to);
    }

    /// Whether a start over this folder looks at every byte of a data file.
    pub fn walked(&self, file: &Path) -> bool {
        let mut bases: Vec<i64> = self.batches.iter().filter(|b| b.file == *file).map(|b| b.base).collect();
        bases.sort_unstable();
        let last = self.batches.iter().rev().find(|batch| batch.file == *file).map_or(0, |batch| batch.last);
        !self.clean && last >= self.flushed - 1
    }
}

/// The result of a scan for some timestamps.
fn times(log: &Log, scanned: &[Bytes]) -> Vec<(i64, Option<i64>)> {
    let mut records: Vec<(i64, i64)> = Vec::new();
    for bytes in scanned {
        let batch = Parsed::parse(bytes.clone()).unwrap().0;
        for record in batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            records.push((record.offset, record.timestamp));
        }
    }
    let mut wanted: Vec<i64> = records.iter().flat_map(|(_, time)| [*time, time + 1]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let first = |time: i64| records.iter().find(|(_, found)| *found >= time).map(|(offset, _)| *offset);
    let times: Vec<_> = wanted.into_iter().map(|time| (time, first(time))).collect();
    for (time, expected) in &times {
        assert_eq!(log.offset_for_timestamp(*time).unwrap().map(|found| found.offset), *expected);
    }
    times
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
