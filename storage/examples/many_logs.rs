//! Measures the cost of many partitions: `cargo run --release -p esker-storage --example many_logs -- DIR COUNT [BATCHES BYTES]`.
//! Creates logs with one batch each, or with BATCHES, then opens them after a crash and after a clean stop.
#![allow(clippy::disallowed_methods)]

use std::{error::Error, path::PathBuf, time::Instant};

use esker_protocol::{
    compression::Compression,
    primitives::Uuid,
    records::{Batch, BatchBuilder},
};
use esker_storage::{AppendBatch, LogConfig, LogManager, LogManagerConfig, Origin};

const NOW: i64 = 1_700_000_000_000;

/// Resident memory in MiB, open files, maps.
fn usage() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").map(|maps| maps.lines().count()).unwrap_or_default();
    (kib / 1024, files, maps)
}

/// User and system time of this process, in steps of 10 ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: many_logs DIR COUNT")?);
    let count: i32 = args.next().ok_or("usage: many_logs DIR COUNT")?.parse()?;
    let batches: usize = args.next().map_or(Ok(1), |text| text.parse())?;
    let bytes: usize = args.next().map_or(Ok(10), |text| text.parse())?;
    let open = || {
        let config = LogManagerConfig {
            dirs: vec![dir.clone()],
            node_id: 1,
            cluster_id: None,
            load_threads: 0,
            journal_bytes: 0,
            journal_dirs: Vec::new(),
            default_config: LogConfig::default(),
            progress: std::sync::Arc::default(),
        };
        let (start, before) = (Instant::now(), cpu_ms());
        let manager = LogManager::open(config, NOW)?;
        let (ms, cpu) = (start.elapsed().as_millis(), cpu_ms() - before);
        let (resident, files, maps) = usage();
        println!(
            "opened {} logs in {ms} ms, {cpu} ms of CPU (clean: {}); {resident} MiB resident, {files} files, {maps} maps",
            manager.logs().len(),
            manager.was_clean()
        );
        Ok::<_, Box<dyn Error>>(manager)
    };
    let manager = open()?;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(&vec![b'x'; bytes]), &[]);
    let (batch, _) = Batch::parse(builder.build()?)?;
    let start = Instant::now();
    for partition in 0..count {
        let log = manager.create("many", partition, Uuid([1; 16]), LogConfig::default(), NOW)?;
        for _ in 0..batches {
            let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
            log.append(append, Origin::Client { transaction_v2: false }, 0, NOW)?;
        }
    }
    println!("created in {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    manager.flush_checkpoints()?;
    println!("checkpoints in {} ms", start.elapsed().as_millis());
    drop(manager);
    // A crash right after the writes: without the recovery points everything is checked.
    std::fs::remove_file(dir.join("recovery-point-offset-checkpoint"))?;
    let manager = open()?;
    let start = Instant::now();
    manager.shutdown_clean()?;
    println!("stopped in {} ms", start.elapsed().as_millis());
    drop(manager);
    let manager = open()?;
    for log in manager.logs() {
        log.read(0, 1000, i64::MAX, true)?;
    }
    let (resident, files, maps) = usage();
    println!("read all; {resident} MiB resident, {files} files, {maps} maps");
    let start = Instant::now();
    manager.shutdown_clean()?;
    println!("stopped in {} ms", start.elapsed().as_millis());
    Ok(())
}
