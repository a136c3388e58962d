//! Compacts the logs of a data folder, and prints the records of one: for comparisons with Kafka's cleaner.
//! `cargo run -p esker-storage --example compact_folder -- clean DIR SEGMENT_BYTES DELETE_RETENTION_MS NOW_MS`
//! `cargo run -p esker-storage --example compact_folder -- dump PARTITION_FOLDER`

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use esker_protocol::records::Batches;
use esker_storage::{Cleaner, CleanerConfig, LogConfig, LogManager, LogManagerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["clean", dir, segment_bytes, delete_retention_ms, now_ms] => {
            clean(dir.into(), segment_bytes.parse()?, delete_retention_ms.parse()?, now_ms.parse()?)
        }
        ["dump", dir] => dump(Path::new(dir)),
        _ => Err("usage: compact_folder clean DIR SEGMENT_BYTES DELETE_RETENTION_MS NOW_MS | dump FOLDER".into()),
    }
}

fn clean(dir: PathBuf, segment_bytes: u32, delete_retention_ms: i64, now_ms: i64) -> Result<(), Box<dyn Error>> {
    let config = LogConfig {
        segment_bytes,
        delete_retention_ms,
        compact: true,
        delete: false,
        min_cleanable_dirty_ppm: 0,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    let open = LogManagerConfig {
        dirs: vec![dir],
        node_id: 1,
        cluster_id: None,
        load_threads: 0,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: config,
        progress: Arc::default(),
    };
    let logs = LogManager::open(open, now_ms)?;
    for log in logs.logs() {
        log.advance_high_watermark(i64::MAX);
    }
    let io_bytes_per_second = f64::MAX;
    let cleaner = Cleaner::new(CleanerConfig { threads: 1, dedupe_buffer_bytes: 128 << 20, io_bytes_per_second });
    while cleaner.run_pass(&logs, now_ms) {}
    let uncleanable = cleaner.stats().uncleanable_partitions;
    if uncleanable > 0 {
        return Err(format!("{uncleanable} logs cannot be compacted").into());
    }
    for log in logs.logs() {
        println!("{}-{} start {} end {}", log.topic(), log.partition(), log.log_start_offset(), log.log_end_offset());
    }
    Ok(logs.shutdown_clean()?)
}

/// One line a batch, one a record.
fn dump(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    for path in files {
        println!("segment {}", path.file_stem().unwrap_or_default().to_string_lossy());
        for batch in Batches::new(Bytes::from(fs::read(&path)?)) {
            let batch = batch?;
            batch.verify_crc()?;
            let h = &batch.header;
            println!(
                "batch {} {} epoch {} producer {} {} {} transactional {} control {} codec {:?} max {} horizon {} count {}",
                h.base_offset,
                h.last_offset(),
                h.partition_leader_epoch,
                h.producer_id,
                h.producer_epoch,
                h.base_sequence,
                h.attributes.is_transactional(),
                h.attributes.is_control(),
                h.attributes.compression(),
                h.max_timestamp,
                h.delete_horizon().map_or(-1, |at| at),
                h.records_count,
            );
            for record in batch.records(1 << 30)? {
                let record = record?;
                let text =
                    |bytes: Option<&Bytes>| bytes.map_or("null".to_owned(), |b| format!("{}:{:x}", b.len(), sum(b)));
                println!(
                    "record {} {} {} {} {}",
                    record.offset,
                    record.timestamp,
                    text(record.key.as_ref()),
                    text(record.value.as_ref()),
                    record.headers.len(),
                );
            }
        }
    }
    Ok(())
}

/// FNV-1a: enough to distinguish values.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
