//! One partition's log: append beside a bare loop of `pwritev` of the same batches, the CRC check beside a read of memory, and read.
//!
//! Files are on the disk of the temporary folder (`TMPDIR`); start over before they push each other out of memory.

// A benchmark that cannot make its input may say so by ending.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod append;
mod cpu;
mod crc;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use esker_benches::sample_batch;
use esker_protocol::compression::Compression;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::Batch;
use esker_storage::{AppendBatch, LogConfig, LogManager, LogManagerConfig, Origin};
use tempfile::TempDir;

const NOW: i64 = 1_700_000_000_000;
const CLIENT: Origin = Origin::Client { transaction_v2: false };

/// One batch of nearly so many bytes: of records of a KiB, or of one that fills it.
fn batch(bytes: usize) -> Batch {
    let value = if bytes < 4 << 10 { bytes - 80 } else { 990 };
    Batch::parse(sample_batch(Compression::None, value, bytes, NOW).unwrap().0).unwrap().0
}

fn open(dir: &TempDir) -> LogManager {
    let config = LogManagerConfig {
        dirs: vec![dir.path().join("log")],
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: LogConfig::default(),
        progress: std::sync::Arc::default(),
    };
    LogManager::open(config, NOW).unwrap()
}

fn read(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&dir);
    let log = manager.create("read", 0, Uuid::ZERO, LogConfig::default(), NOW).unwrap();
    let batch = batch(16 << 10);
    while log.size_bytes() < 256 << 20 {
        let batch = AppendBatch { header: &batch.header, bytes: &batch.bytes };
        log.append(batch, CLIENT, 0, NOW).unwrap();
    }
    let mut group = c.benchmark_group("read");
    for max in [16 << 10, 1 << 20] {
        // Every 7919th offset: no order that a cache could guess.
        let mut offset = 0;
        group.bench_function(BenchmarkId::new("find and slice", max), |b| {
            b.iter(|| {
                offset = (offset + 7919) % log.log_end_offset();
                black_box(log.read(offset, max, i64::MAX, true).unwrap())
            })
        });
    }
    group.finish();
}

criterion_group!(
    name = by_cpu;
    config = Criterion::default().with_measurement(cpu::CpuTime);
    targets = append::run, crc::run
);
criterion_group!(by_time, read);
criterion_main!(by_cpu, by_time);
