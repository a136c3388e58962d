//! One partition's log: append beside a bare loop of `pwrite` of the same batches, and read. Throughput is in bytes of batches.
//!
//! Files are on the disk of the temporary folder (`TMPDIR`); start over before they push each other out of memory.

#![allow(clippy::unwrap_used)] // A benchmark that cannot make its input may say so by ending.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esker_benches::sample_batch;
use esker_protocol::compression::Compression;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::Batch;
use esker_storage::validate::{ValidateRules, validate};
use esker_storage::{AppendBatch, LogConfig, LogManager, LogManagerConfig, Origin};
use tempfile::TempDir;

const NOW: i64 = 1_700_000_000_000;
const CLIENT: Origin = Origin::Client { transaction_v2: false };
/// A log or file is begun anew at this size, outside the time measured.
const LARGEST: u64 = 512 << 20;

fn batch(bytes: usize) -> Batch {
    Batch::parse(sample_batch(Compression::None, 1024.min(bytes / 2), bytes, NOW).unwrap().0).unwrap().0
}

fn open(dir: &TempDir) -> LogManager {
    let config = LogManagerConfig {
        dirs: vec![dir.path().join("log")],
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        default_config: LogConfig::default(),
        progress: std::sync::Arc::default(),
    };
    LogManager::open(config, NOW).unwrap()
}

/// Runs `append` as often as asked; `reset` whenever `LARGEST` bytes are written, off the clock.
fn bounded(times: u64, size: usize, mut append: impl FnMut(u64), mut reset: impl FnMut()) -> Duration {
    let (mut elapsed, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let run = left.min(LARGEST / size as u64);
        reset();
        let start = Instant::now();
        for index in 0..run {
            append(index);
        }
        elapsed += start.elapsed();
        left -= run;
    }
    elapsed
}

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&dir);
    let mut group = c.benchmark_group("append");
    for size in [1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let batch = batch(size);
        let size = batch.bytes.len();
        group.throughput(Throughput::Bytes(size as u64));
        let file = File::create(dir.path().join("bare")).unwrap();
        group.bench_function(BenchmarkId::new("bare pwrite", size), |b| {
            b.iter_custom(|times| {
                let write = |index| file.write_all_at(&batch.bytes, index * size as u64).unwrap();
                bounded(times, size, write, || file.set_len(0).unwrap())
            })
        });
        let log = manager.create("append", size as i32, Uuid::ZERO, LogConfig::default(), NOW).unwrap();
        let reset = || log.truncate_fully_and_start_at(0).unwrap();
        group.bench_function(BenchmarkId::new("append", size), |b| {
            b.iter_custom(|times| {
                let write = |_| {
                    let batch = AppendBatch { header: &batch.header, bytes: batch.bytes.clone() };
                    log.append(batch, CLIENT, 0, NOW).unwrap();
                };
                bounded(times, size, write, reset)
            })
        });
        // The largest batch is over the default limit by its header.
        let rules = ValidateRules { max_message_bytes: 2 << 20, ..ValidateRules::default() };
        group.bench_function(BenchmarkId::new("validate and append", size), |b| {
            b.iter_custom(|times| {
                let write = |_| {
                    let sound = validate(Some(batch.bytes.clone()), &rules, NOW).unwrap();
                    let batch = AppendBatch { header: &sound.header, bytes: sound.bytes };
                    log.append(batch, CLIENT, 0, NOW).unwrap();
                };
                bounded(times, size, write, reset)
            })
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&dir);
    let log = manager.create("read", 0, Uuid::ZERO, LogConfig::default(), NOW).unwrap();
    let batch = batch(16 << 10);
    while log.size_bytes() < 256 << 20 {
        let batch = AppendBatch { header: &batch.header, bytes: batch.bytes.clone() };
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

criterion_group!(benches, append, read);
criterion_main!(benches);
