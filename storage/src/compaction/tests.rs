//! Compaction of real logs: against a model, and with a power cut at each step.

mod crash;
mod model;
mod order;
mod progress;
mod race;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use esker_protocol::{
    compression::Compression,
    records::{Batch, BatchBuilder, Batches, EndTxnMarker, end_txn_batch},
};

use super::*;
use crate::{AppendBatch, LogConfig, LogManagerConfig, Origin, Uuid, io::Disk, io::OsDisk};

const NOW: i64 = 1_700_000_000_000;
const RETENTION: i64 = 1000;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 3000,
        index_interval_bytes: 200,
        compact: true,
        delete: false,
        min_cleanable_dirty_ppm: 0,
        delete_retention_ms: RETENTION,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> LogManager {
    let config = LogManagerConfig {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: config(),
        progress: Arc::default(),
    };
    LogManager::open_on(disk, config, NOW).unwrap()
}

fn open(dir: &Path) -> LogManager {
    open_on(Arc::new(OsDisk), dir)
}

fn create(logs: &LogManager) -> Arc<Log> {
    logs.create("t", 0, Uuid([3; 16]), config(), NOW).unwrap()
}

fn cleaner(memory: usize) -> Cleaner {
    Cleaner::new(CleanerConfig { threads: 1, dedupe_buffer_bytes: memory, io_bytes_per_second: f64::MAX })
}

fn append(log: &Log, bytes: Bytes, origin: Origin) -> i64 {
    let (batch, _) = Batch::parse(bytes).unwrap();
    let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
    let base = log.append(append, origin, 0, NOW).unwrap().base_offset;
    log.advance_high_watermark(i64::MAX);
    base
}

const CLIENT: Origin = Origin::Client { transaction_v2: false };

/// Appends keyed records; `None` is a tombstone.
fn append_keyed(log: &Log, codec: Compression, records: &[(&str, Option<&str>)]) -> i64 {
    let mut builder = BatchBuilder::new(codec);
    for (delta, (key, value)) in records.iter().enumerate() {
        builder.append(delta as i32, NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    append(log, builder.build().unwrap(), CLIENT)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    offset: i64,
    key: String,
    value: Option<String>,
}

/// All batches of the log, with every checksum verified.
fn batches(log: &Log) -> Vec<Batch> {
    let mut found = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let info = log.read(from, 700, i64::MAX, true).unwrap();
        if info.records.is_empty() {
            assert_eq!(from, log.log_end_offset(), "a reader gets to the end");
            return found;
        }
        for batch in Batches::new(info.records.clone()) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            found.push(batch);
        }
        assert!(info.next_offset > from);
        from = info.next_offset;
    }
}

/// All data records; with `committed` as a read-committed consumer sees them.
fn read_records(log: &Log, committed: bool) -> Vec<Seen> {
    let aborted = match committed {
        true => log.aborted_transactions(0, i64::MAX).unwrap(),
        false => Vec::new(),
    };
    let mut running = std::collections::HashSet::new();
    let mut coming: std::collections::VecDeque<_> = aborted.into();
    coming.make_contiguous().sort_by_key(|txn| txn.first_offset);
    let mut found = Vec::new();
    for batch in batches(log) {
        let header = &batch.header;
        while let Some(txn) = coming.pop_front_if(|txn| txn.first_offset <= header.last_offset()) {
            running.insert(txn.producer_id);
        }
        if header.attributes.is_control() {
            running.remove(&header.producer_id);
            continue;
        }
        if header.attributes.is_transactional() && running.contains(&header.producer_id) {
            continue;
        }
        for record in batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            found.push(Seen {
                offset: record.offset,
                key: record.key.as_ref().map(text).unwrap_or_default(),
                value: record.value.as_ref().map(text),
            });
        }
    }
    found
}

fn marker(log: &Log, producer: i64, committed: bool) {
    let batch = end_txn_batch(producer, 0, EndTxnMarker { committed, coordinator_epoch: 0 }, NOW).unwrap();
    append(log, batch, Origin::Coordinator { transaction_v2: false });
}

#[test]
fn a_compacted_segment_is_as_old_as_what_it_was_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path());
    let log = create(&logs);
    for i in 0..60 {
        append_keyed(&log, Compression::None, &[(&format!("k{}", i % 20), Some(&"x".repeat(130)))]);
    }
    let old = 1_600_000_000_000;
    let files = || std::fs::read_dir(log.dir()).unwrap().map(|entry| entry.unwrap().path());
    let data = || files().filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let open = |path: &Path| OsDisk.open(path, crate::io::Open::Existing).unwrap();
    data().for_each(|path| open(&path).set_modified_ms(old));
    assert!(cleaner(1 << 20).run_pass(&logs, NOW));
    let closed =
        data().filter(|path| !path.ends_with(format!("{:020}.log", log.segments().last().unwrap().base_offset)));
    let times: Vec<_> = closed.map(|path| open(&path).modified_ms().unwrap()).collect();
    assert!(!times.is_empty() && times.iter().all(|time| *time == old), "{times:?}");
}
