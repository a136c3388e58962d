//! Writes a data folder with one of everything, for Kafka's own tools to read:
//! `cargo run -p esker-storage --example write_folder -- DIR`, then `DumpLogSegments --deep-iteration --files ...`.

use std::{error::Error, path::PathBuf};

use esker_protocol::{
    compression::Compression,
    primitives::Uuid,
    records::{Batch, BatchBuilder, EndTxnMarker, RecordHeader, end_txn_batch},
};
use esker_storage::{AppendBatch, Log, LogConfig, LogManager, LogManagerConfig, Origin};

const NOW: i64 = 1_700_000_000_000;

fn append(log: &Log, bytes: bytes::Bytes, origin: Origin, epoch: i32) -> Result<i64, Box<dyn Error>> {
    let (batch, _) = Batch::parse(bytes)?;
    Ok(log.append(AppendBatch { header: &batch.header, bytes: &batch.bytes }, origin, epoch, NOW)?.base_offset)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: write_folder DIR")?);
    let config = LogConfig { segment_bytes: 64 << 10, index_interval_bytes: 1024, ..LogConfig::default() };
    let manager = LogManager::open(
        LogManagerConfig {
            dirs: vec![dir],
            node_id: 1,
            cluster_id: None,
            load_threads: 0,
            journal_bytes: 0,
            journal_dirs: Vec::new(),
            default_config: config.clone(),
            progress: std::sync::Arc::default(),
        },
        NOW,
    )?;
    let log = manager.create("everything", 0, Uuid([7; 16]), config, NOW)?;
    let client = Origin::Client { transaction_v2: false };
    let coordinator = Origin::Coordinator { transaction_v2: false };
    let mut sequence = 0;
    for round in 0..200i32 {
        let codec = *Compression::ALL.iter().cycle().nth(round as usize % 5).unwrap_or(&Compression::None);
        let epoch = round / 50;
        let time = NOW + i64::from(round % 7) * 1000 + i64::from(round) * 100;
        let mut builder = BatchBuilder::new(codec).producer(11, 0, sequence);
        for delta in 0..10 {
            let value = vec![b'a' + (round % 26) as u8; 100 + delta as usize * 20];
            let headers = [RecordHeader::new("round", Some(b"and round"))];
            builder.append(delta, time + i64::from(delta), Some(b"key"), Some(&value), &headers);
        }
        append(&log, builder.build()?, client, epoch)?;
        sequence += 10;
        if round % 20 == 10 {
            for (producer_id, committed) in [(21, true), (22, false)] {
                let mut builder = BatchBuilder::new(codec).producer(producer_id, 0, round / 20).transactional(true);
                builder.append(0, time, None, Some(b"in a transaction"), &[]);
                append(&log, builder.build()?, client, epoch)?;
                let marker = EndTxnMarker { committed, coordinator_epoch: 5 };
                append(&log, end_txn_batch(producer_id, 0, marker, time)?, coordinator, epoch)?;
            }
        }
    }
    log.advance_high_watermark(log.log_end_offset());
    println!("{} segments, {} bytes, end {}", log.segment_count(), log.size_bytes(), log.log_end_offset());
    manager.shutdown_clean()?;
    Ok(())
}
