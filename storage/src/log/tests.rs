mod concurrent;
mod crash;
mod cut;
mod faults;
mod idempotence;
mod indexes;
mod model;
mod open_files;
mod reads;
mod timeless;
mod upkeep;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use esker_protocol::records::{Batch, Batches};

use super::*;
use crate::{
    AppendBatch, AppendError, Appended, OpenError, Origin, ReadInfo,
    io::{Disk, OsDisk},
    open_files::OpenFiles,
    test_support::*,
};

const NOW: i64 = 1_700_000_000_000;
const CLIENT: Origin = Origin::Client { transaction_v2: false };

/// How a test opens a log.
#[derive(Clone)]
struct Opening {
    config: LogConfig,
    recovery_point: i64,
    log_start: i64,
    high_watermark: i64,
    clean: bool,
    files: Arc<OpenFiles>,
}

impl Opening {
    fn new(config: LogConfig) -> Self {
        Self { config, recovery_point: 0, log_start: 0, high_watermark: 0, clean: false, files: Arc::default() }
    }

    fn open(&self, dir: &Path) -> Log {
        self.open_on(Arc::new(OsDisk), dir)
    }

    fn open_on(&self, disk: Arc<dyn Disk>, dir: &Path) -> Log {
        self.try_open_on(disk, dir).unwrap()
    }

    fn try_open_on(&self, disk: Arc<dyn Disk>, dir: &Path) -> Result<Log, OpenError> {
        let reaper = Arc::new(crate::reaper::Reaper::start(Arc::clone(&self.files.env)));
        std::fs::create_dir_all(dir).unwrap();
        let (journal, _) = crate::journal::open(&disk, &self.files, dir, Uuid([1; 16]), 0, true).unwrap();
        let files = Arc::clone(&self.files);
        let log_dir = Arc::new(LogDir::new(dir.to_path_buf(), Uuid([1; 16]), disk, files, reaper, journal));
        let partition = dir.join("t-0");
        std::fs::create_dir_all(&partition).unwrap();
        Load {
            log_dir,
            topic: "t".into(),
            partition: 0,
            topic_id: Uuid([2; 16]),
            dir: partition,
            config: self.config.clone(),
            recovery_point: self.recovery_point,
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            clean: self.clean,
            created_now: false,
            cleaned: -1,
            progress: Arc::default(),
            now_ms: NOW,
            journal: Vec::new(),
            journaled: 0,
        }
        .open()
    }
}

/// Small segments and a dense index.
fn small() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 200, ..LogConfig::default() }
}

fn append_bytes(log: &Log, bytes: Bytes, origin: Origin, epoch: i32) -> Result<Appended, AppendError> {
    let (batch, _) = Batch::parse(bytes).unwrap();
    log.append(AppendBatch { header: &batch.header, bytes: &batch.bytes }, origin, epoch, NOW)
}

fn append(log: &Log, values: &[&[u8]]) -> Appended {
    let records: Vec<(i64, &[u8])> = values.iter().map(|value| (NOW, *value)).collect();
    append_bytes(log, batch(esker_protocol::compression::Compression::None, &records), CLIENT, 0).unwrap()
}

/// `(offset, value)` of records in what a read returned, all CRCs checked.
fn records(bytes: &Bytes) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut batches = Batches::new(bytes.clone());
    for batch in &mut batches {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.header.attributes.is_control() {
            continue;
        }
        for record in batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            found.push((record.offset, record.value.unwrap_or_default().to_vec()));
        }
    }
    assert!(batches.rest().is_empty(), "a read returns whole batches");
    found
}

/// Everything from `from` to the end, in reads of `max_bytes`.
fn read_all(log: &Log, mut from: i64, max_bytes: usize) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let info: ReadInfo = log.read(from, max_bytes, i64::MAX, true).unwrap();
        if info.records.is_empty() {
            assert_eq!(from, log.log_end_offset(), "nothing is left out before the end");
            return found;
        }
        assert!(info.next_offset > from);
        found.extend(records(&info.records).into_iter().filter(|(offset, _)| *offset >= from));
        from = info.next_offset;
    }
}

/// Copies a folder as a crash of the process would leave it (all writes are in it).
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
