//! What many partitions cost: `cargo run --release -p esker-storage --example many_logs -- DIR COUNT`.
//! Creates logs with one batch each, then starts over them after a clean stop and after a crash.

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

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: many_logs DIR COUNT")?);
    let count: i32 = args.next().ok_or("usage: many_logs DIR COUNT")?.parse()?;
    let open = || {
        let config = LogManagerConfig {
            dirs: vec![dir.clone()],
            node_id: 1,
            cluster_id: None,
            load_threads: 0,
            default_config: LogConfig::default(),
            progress: std::sync::Arc::default(),
        };
        let start = Instant::now();
        let manager = LogManager::open(config, NOW)?;
        let ms = start.elapsed().as_millis();
        let (resident, files, maps) = usage();
        println!(
            "opened {} logs in {ms} ms (clean: {}); {resident} MiB resident, {files} files, {maps} maps",
            manager.logs().len(),
            manager.was_clean()
        );
        Ok::<_, Box<dyn Error>>(manager)
    };
    let manager = open()?;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(b"one record"), &[]);
    let (batch, _) = Batch::parse(builder.build()?)?;
    let start = Instant::now();
    for partition in 0..count {
        let log = manager.create("many", partition, Uuid([1; 16]), LogConfig::default(), NOW)?;
        let append = AppendBatch { header: &batch.header, bytes: batch.bytes.clone() };
        log.append(append, Origin::Client { transaction_v2: false }, 0, NOW)?;
    }
    println!("created in {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    manager.flush_checkpoints()?;
    println!("checkpoints in {} ms", start.elapsed().as_millis());
    drop(manager);
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
