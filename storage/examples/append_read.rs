//! Compares append and read with bare system calls: `cargo run --release -p esker-storage --example append_read -- DIR`. Prints CPU
//! seconds a GB (user and system) and the ratio to `pwritev` of the same batches into a file with reserved space.
#![allow(clippy::disallowed_methods)]

use std::{error::Error, fs::File, io::IoSlice, path::PathBuf, time::Instant};

use bytes::Bytes;
use esker_protocol::{
    compression::Compression,
    primitives::Uuid,
    records::{Batch, BatchBuilder},
};
use esker_storage::{
    AppendBatch, Log, LogConfig, LogManager, LogManagerConfig, Origin,
    validate::{ValidateRules, validate},
};
use rustix::fs::FallocateFlags;

const NOW: i64 = 1_700_000_000_000;
const CLIENT: Origin = Origin::Client { transaction_v2: false };

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn batch(size: usize) -> Result<Bytes, Box<dyn Error>> {
    let mut builder = BatchBuilder::new(Compression::None);
    let (value, mut delta) = (vec![b'x'; 100], 0);
    while builder.size() < size {
        builder.append(delta, NOW, None, Some(&value), &[]);
        delta += 1;
    }
    Ok(builder.build()?)
}

struct Measured {
    seconds: f64,
    cpu: f64,
}

fn measure(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Measured, Box<dyn Error>> {
    let (start, before) = (Instant::now(), cpu());
    work()?;
    Ok(Measured { seconds: start.elapsed().as_secs_f64(), cpu: cpu() - before })
}

fn bare(dir: &std::path::Path, bytes: &Bytes, count: usize) -> Result<(), Box<dyn Error>> {
    let path = dir.join("bare");
    let file = File::create(&path)?;
    let (head, rest) = bytes.split_at(16);
    let (mut at, mut reserved) = (0, 0);
    for _ in 0..count {
        if at + bytes.len() as u64 > reserved {
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, reserved, 16 << 20)?;
            reserved += 16 << 20;
        }
        rustix::io::pwritev(&file, &[IoSlice::new(head), IoSlice::new(rest)], at)?;
        at += bytes.len() as u64;
    }
    Ok(std::fs::remove_file(path)?)
}

fn append(log: &Log, bytes: &Bytes, count: usize, checked: bool) -> Result<(), Box<dyn Error>> {
    let (known, _) = Batch::parse(bytes.clone())?;
    for _ in 0..count {
        if checked {
            let valid = validate(Some(bytes.clone()), &ValidateRules::default(), NOW)?;
            log.append(AppendBatch { header: &valid.header, bytes: &valid.bytes }, CLIENT, 0, NOW)?;
        } else {
            log.append(AppendBatch { header: &known.header, bytes }, CLIENT, 0, NOW)?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: append_read DIR")?);
    std::fs::create_dir_all(&dir)?;
    let total: usize = 1 << 30;
    for size in [512, 4 << 10, 64 << 10, 1_000_000] {
        let bytes = batch(size)?;
        let count = (total / bytes.len()).min(400_000);
        let gb = (count * bytes.len()) as f64 / 1e9;
        for round in 0..3 {
            let logs = LogManager::open(
                LogManagerConfig {
                    dirs: vec![dir.join("logs")],
                    node_id: 1,
                    cluster_id: None,
                    load_threads: 0,
                    journal_bytes: 0,
                    journal_dirs: Vec::new(),
                    default_config: LogConfig::default(),
                    progress: std::sync::Arc::default(),
                },
                NOW,
            )?;
            let create = |partition| logs.create("bench", partition, Uuid([1; 16]), LogConfig::default(), NOW);
            let floor = measure(|| bare(&dir, &bytes, count))?;
            let log = create(0)?;
            let plain = measure(|| append(&log, &bytes, count, false))?;
            let read = |max: usize| {
                let (log, mut reads) = (&log, 0u64);
                let measured = measure(|| {
                    let mut from = 0;
                    while from < log.log_end_offset() {
                        let info = log.read(from, max, i64::MAX, true)?;
                        from = info.next_offset;
                        reads += 1;
                    }
                    Ok(())
                });
                measured.map(|measured| (measured, reads))
            };
            let (cold, _) = read(1 << 20)?;
            let (warm, reads) = read(1 << 20)?;
            let (small, small_reads) = read(64 << 10)?;
            logs.delete("bench", 0)?;
            let log = create(1)?;
            let checked = measure(|| append(&log, &bytes, count, true))?;
            logs.delete("bench", 1)?;
            logs.shutdown_clean()?;
            println!(
                "batch {:>7} round {round}: CPU s/GB pwritev {:.3} append {:.3} (x{:.2}) with validate {:.3}; us/batch {:.2} {:.2} {:.2}; \
                 read us/1MiB first {:.1} again {:.1}, us/64KiB {:.1}",
                bytes.len(),
                floor.cpu / gb,
                plain.cpu / gb,
                plain.cpu / floor.cpu,
                checked.cpu / gb,
                floor.seconds * 1e6 / count as f64,
                plain.seconds * 1e6 / count as f64,
                checked.seconds * 1e6 / count as f64,
                cold.seconds * 1e6 / reads as f64,
                warm.seconds * 1e6 / reads as f64,
                small.seconds * 1e6 / small_reads as f64,
            );
        }
    }
    Ok(())
}
