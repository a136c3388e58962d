//! What an old version of Fetch can carry: message formats 0 and 1 below v4, no zstd below v10.
//!
//! A slow path of its own: records are unpacked and written again. From v10 on nothing here touches a byte.

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::records::{Batches, legacy};

use crate::replica::{FetchError, PartitionRead};

/// What one batch may unpack to for an old client.
const MAX_BATCH: usize = 128 << 20;

/// Requests below this version get message formats that are converted.
pub const CONVERTS_BELOW: i16 = 4;

/// `read` as `version` can carry it.
pub fn for_version(mut read: PartitionRead, version: i16, max_bytes: usize) -> Result<PartitionRead, FetchError> {
    if version >= 10 || read.info.records.is_empty() {
        return Ok(read);
    }
    if has_zstd(&read.info.records) {
        return Err(FetchError::UnsupportedCompression);
    }
    if version < CONVERTS_BELOW {
        let magic = if version < 2 { 0 } else { 1 };
        let converted = legacy::down_convert(&read.info.records, magic, read.info.first_offset, MAX_BATCH)
            .map_err(|error| FetchError::Conversion(error.to_string()))?;
        // Old clients accept a message that is cut short, and retry with a larger limit.
        read.info.records = if version < 3 { legacy::truncate_set(&converted, max_bytes) } else { converted };
    }
    Ok(read)
}

fn has_zstd(records: &Bytes) -> bool {
    Batches::new(records.clone()).flatten().any(|batch| matches!(batch.compression(), Ok(Compression::Zstd)))
}
