//! Bit rot: a flipped bit in a batch that is on disk for certain, by the broker's own recovery point checkpoint.
//!
//! Above that point a broker cannot tell rot from a torn write. Only the topic's data rots, and only where a batch's CRC covers it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use esker_protocol::records::{Batch, crc32c};

use crate::disk::SimDisk;
use crate::rng::Rng;

/// Where a batch's CRC lies, and from where on it covers the batch.
const CRC_AT: usize = 17;
const COVERED_FROM: usize = 21;
/// Where its records begin.
const RECORDS_AT: usize = 61;

/// A batch that lies on the disk.
#[derive(Debug)]
struct Stored {
    file: PathBuf,
    position: usize,
    bytes: Vec<u8>,
    records: BTreeMap<i64, String>,
}

fn recovery_point(dir: &Path, topic: &str, partition: usize) -> i64 {
    let text = std::fs::read_to_string(dir.join("recovery-point-offset-checkpoint")).unwrap_or_default();
    let wanted = format!("{topic} {partition} ");
    text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

/// The sound batches of a partition below its recovery point.
fn stored(dir: &Path, topic: &str, partition: usize) -> Vec<Stored> {
    let point = recovery_point(dir, topic, partition);
    let Ok(entries) = std::fs::read_dir(dir.join(format!("{topic}-{partition}"))) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "log"));
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let content = Bytes::from(std::fs::read(&file).unwrap());
        let mut rest = content.clone();
        while let Ok((batch, behind)) = Batch::parse(rest.clone()) {
            let position = content.len() - rest.len();
            let bytes = rest[..rest.len() - behind.len()].to_vec();
            rest = behind;
            if batch.verify_crc().is_err() || bytes.len() <= RECORDS_AT {
                continue;
            }
            let Some(records) = crate::workload::values_of(&batch) else { continue };
            if records.last_key_value().is_some_and(|(last, _)| *last < point) {
                found.push(Stored { file: file.clone(), position, bytes, records });
            }
        }
    }
    found
}

/// Flips a bit of one batch, if there is one that is certain; returns the records that were in it. With `unnoticed` its CRC fits afterwards: a broker that serves rot.
pub fn strike(
    disk: &SimDisk,
    dir: &Path,
    topic: &str,
    partition: usize,
    rng: &mut Rng,
    unnoticed: bool,
) -> Option<BTreeMap<i64, String>> {
    let mut batches = stored(dir, topic, partition);
    if batches.is_empty() {
        return None;
    }
    let mut batch = batches.swap_remove(rng.below(batches.len()));
    let value = batch.records.first_key_value()?.1.clone();
    // Planted rot must leave records that can be decoded.
    let in_value = batch.bytes.windows(value.len()).rposition(|part| part == value.as_bytes())?;
    let at = if unnoticed { in_value } else { RECORDS_AT + rng.below(batch.bytes.len() - RECORDS_AT) };
    batch.bytes[at] ^= if unnoticed { 1 } else { 1 << rng.below(8) };
    if unnoticed {
        let crc = crc32c(&batch.bytes[COVERED_FROM..]);
        batch.bytes[CRC_AT..COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    }
    disk.corrupt(&batch.file, batch.position as u64, &batch.bytes);
    Some(batch.records)
}
