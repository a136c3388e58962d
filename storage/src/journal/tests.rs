//! The journal, held against its format and its promises (`storage/FORMAT.md`). Bytes are made here from the tables, not by the
//! journal's own encoder.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use esker_protocol::{compression::Compression, records::Batch};
use tempfile::TempDir;

use super::{Found, Journal, JournalStats, format::PAGE, ring::Job, scan::Key};
use crate::{
    AppendBatch, Env, Log, LogConfig, LogManager, LogManagerConfig, OpenError, Origin, Uuid,
    io::{Disk, OsDisk},
    open_files::OpenFiles,
    test_support::{ManualEnv, batch},
};

mod changes;
mod faults;
mod files;
mod folders;
mod format;
mod scans;
mod starts;

const NOW: i64 = 1_700_000_000_000;

/// Log dirs, and what a manager needs besides.
struct World {
    root: TempDir,
    env: Arc<ManualEnv>,
    disk: Arc<dyn Disk>,
    journal_bytes: u64,
    journal_dirs: Vec<PathBuf>,
    dirs: usize,
}

impl World {
    fn new(journal_bytes: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root, env: Arc::default(), disk: Arc::new(OsDisk), journal_bytes, journal_dirs: Vec::new(), dirs: 1 }
    }

    fn dir(&self, number: usize) -> PathBuf {
        self.root.path().join(format!("d{number}"))
    }

    fn try_open(&self) -> Result<LogManager, OpenError> {
        let config = LogManagerConfig {
            dirs: (0..self.dirs).map(|number| self.dir(number)).collect(),
            node_id: 1,
            cluster_id: None,
            load_threads: 1,
            journal_bytes: self.journal_bytes,
            journal_dirs: self.journal_dirs.clone(),
            default_config: LogConfig::default(),
            progress: Arc::default(),
        };
        let env: Arc<dyn Env> = Arc::<ManualEnv>::clone(&self.env);
        LogManager::open_in(env, Arc::clone(&self.disk), config, NOW)
    }

    fn open(&self) -> LogManager {
        self.try_open().unwrap()
    }

    fn file(&self, number: usize) -> PathBuf {
        self.dir(0).join(format!("esker-journal-{number}"))
    }

    /// What a start after a crash would find in the journal.
    fn found(&self, manager: &LogManager) -> Found {
        self.found_in(manager, &self.dir(0))
    }

    fn found_in(&self, manager: &LogManager, dir: &Path) -> Found {
        let id = manager.dirs().iter().find(|info| info.path == dir).unwrap().directory_id;
        let env: Arc<dyn Env> = Arc::<ManualEnv>::clone(&self.env);
        super::open(&self.disk, &OpenFiles::new(env), dir, id, self.journal_bytes, false).unwrap().1
    }

    /// The data of a log's first segment that was written since it had `size` bytes never reached the disk.
    fn lose_from(&self, topic: &str, size: u64) {
        fs::OpenOptions::new().write(true).open(self.segment(topic)).unwrap().set_len(size).unwrap();
    }

    fn segment(&self, topic: &str) -> PathBuf {
        self.dir(0).join(format!("{topic}-0/00000000000000000000.log"))
    }

    fn size(&self, topic: &str) -> u64 {
        fs::metadata(self.segment(topic)).unwrap().len()
    }
}

fn id_of(topic: &str) -> Uuid {
    let mut id = [7; 16];
    id[..topic.len()].copy_from_slice(topic.as_bytes());
    Uuid(id)
}

/// A log whose folder is on disk, with one batch.
fn create(manager: &LogManager, topic: &str) -> Arc<Log> {
    let config = LogConfig { file_delete_delay_ms: 0, ..LogConfig::default() };
    let log = manager.create(topic, 0, id_of(topic), config, NOW).unwrap();
    append(&log, b"first");
    log.flush().unwrap();
    log
}

fn append(log: &Log, value: &[u8]) {
    let (batch, _) = Batch::parse(batch(Compression::None, &[(NOW, value)])).unwrap();
    let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
    log.append(append, Origin::Client { transaction_v2: false }, 0, NOW).unwrap();
}

/// All batches, of all segments.
fn content(log: &Log) -> Vec<u8> {
    let (mut at, mut all) = (log.log_start_offset(), Vec::new());
    while at < log.log_end_offset() {
        let read = log.read(at, 64 << 20, i64::MAX, true).unwrap();
        all.extend_from_slice(&read.records);
        at = read.next_offset;
    }
    all
}

fn keep_up(manager: &LogManager) {
    manager.journals().for_each(|(_, journal)| journal.keep_up());
}

/// Prepares files, and syncs no segments.
fn prepare(journal: &Journal) {
    loop {
        let job = journal.ring.lock().next_job();
        let Some(Job::Prepare { slot, path, new, from, to }) = job else { return };
        journal.prepare(slot, &path, new, from, to).unwrap();
    }
}

fn round(logs: &[Arc<Log>]) -> Vec<usize> {
    LogManager::flush_by_journal(logs).unwrap()
}

/// Rounds of one log until there is no room, with no segment synced; how many there were.
fn fill(log: &Arc<Log>) -> usize {
    let no_room = |_: &usize| {
        prepare(log.journal());
        append(log, b"more");
        !round(&[Arc::clone(log)]).is_empty()
    };
    (0..1000).find(no_room).unwrap()
}

/// Appends to the log and brings it to disk by the journal.
fn append_durably(log: &Arc<Log>, value: &[u8]) {
    append(log, value);
    assert!(round(&[Arc::clone(log)]).is_empty(), "there is no room in the journal");
    assert_eq!(log.durable_offset(), log.log_end_offset());
}

fn stats(manager: &LogManager) -> JournalStats {
    manager.journals().next().unwrap().1.stats()
}

fn overwrite(path: &Path, position: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, position).unwrap();
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.write_all(&crc.to_be_bytes()).unwrap();
    bytes
}

/// The first page of a file.
fn header_page(version: u16, id: Uuid, generation: u64, floor: u64, sequence: u64) -> Vec<u8> {
    let mut bytes = b"esker-jn".to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(id.0);
    [generation, floor, sequence].iter().for_each(|field| bytes.extend(field.to_be_bytes()));
    let mut bytes = sealed(bytes);
    bytes.resize(PAGE as usize, 0);
    bytes
}

/// An entry of partition 0, as FORMAT.md has it.
#[derive(Clone)]
struct Spec {
    kind: u8,
    id: Uuid,
    segment: i64,
    position: u64,
    epoch: i32,
    offsets: (i64, i64),
    bytes: Vec<u8>,
}

impl Spec {
    fn data(first: i64, next: i64, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { kind: 1, id: id_of("t"), segment: 0, position: 0, epoch: 0, offsets: (first, next), bytes }
    }

    fn encode(&self, generation: u64, sequence: u64) -> Vec<u8> {
        let mut bytes = b"EsJe".to_vec();
        bytes.extend([self.kind, 0]);
        bytes.extend(generation.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(self.id.0);
        bytes.extend(0i32.to_be_bytes());
        bytes.extend(self.segment.to_be_bytes());
        bytes.extend(self.position.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.offsets.0.to_be_bytes());
        bytes.extend(self.offsets.1.to_be_bytes());
        bytes.extend((self.bytes.len() as u32).to_be_bytes());
        bytes.extend(crc32c::crc32c(&self.bytes).to_be_bytes());
        let mut bytes = sealed(bytes);
        bytes.extend(&self.bytes);
        bytes
    }
}

/// A round with its padding, and its length without.
fn round_bytes(generation: u64, sequence: u64, position: u64, entries: &[Spec]) -> (Vec<u8>, usize) {
    let encoded: Vec<Vec<u8>> =
        entries.iter().zip(sequence..).map(|(entry, sequence)| entry.encode(generation, sequence)).collect();
    let length = 44 + encoded.iter().map(Vec::len).sum::<usize>();
    let mut bytes = b"EsJr".to_vec();
    [generation, sequence, length as u64, position].iter().for_each(|field| bytes.extend(field.to_be_bytes()));
    bytes.extend((entries.len() as u32).to_be_bytes());
    let mut bytes = sealed(bytes);
    bytes.extend(encoded.concat());
    bytes.resize(length.div_ceil(PAGE as usize) * PAGE as usize, 0);
    (bytes, length)
}

fn key_of(topic: &str) -> Key {
    (id_of(topic), 0)
}
