//! Steps over stored batches by their headers, of all three formats (a data folder of Kafka's may hold magic 0 and 1).
//!
//! It parses only the fields that a log needs, never records.

use esker_protocol::records::{BATCH_OVERHEAD, BatchHeader, LOG_OVERHEAD};

/// Enough bytes to step over any format.
pub(crate) const STEP_BYTES: usize = BATCH_OVERHEAD;

/// The header fields of one batch (or legacy message) that a log needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Whole size with overhead, at least the format's minimum.
    pub size: usize,
    pub magic: i8,
    /// -1 where the format has none.
    pub max_timestamp: i64,
    /// -1 where the format has none.
    pub leader_epoch: i32,
    /// -1 for none.
    pub producer_id: i64,
    /// Transaction marker or other control batch.
    pub control: bool,
}

/// Why stepping failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepError {
    /// Fewer bytes than a header has.
    Short,
    /// Bytes that no batch begins with.
    Bad(&'static str),
}

impl StepError {
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Short => "the file ends inside a batch",
            Self::Bad(what) => what,
        }
    }
}

pub(crate) fn be<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn be_i64(buf: &[u8], at: usize) -> Option<i64> {
    be(buf, at).map(i64::from_be_bytes)
}

pub(crate) fn be_i32(buf: &[u8], at: usize) -> Option<i32> {
    be(buf, at).map(i32::from_be_bytes)
}

pub(crate) fn be_i16(buf: &[u8], at: usize) -> Option<i16> {
    be(buf, at).map(i16::from_be_bytes)
}

const ATTR_CONTROL: i16 = 0x20;

/// Reads the header at the start of `buf`; the rest of the batch need not be there.
pub(crate) fn step(buf: &[u8]) -> Result<Step, StepError> {
    let base_offset = be_i64(buf, 0).ok_or(StepError::Short)?;
    let length = be_i32(buf, 8).ok_or(StepError::Short)?;
    let magic = *buf.get(16).ok_or(StepError::Short)? as i8;
    let length = usize::try_from(length).map_err(|_| StepError::Bad("negative batch length"))?;
    let size = length.checked_add(LOG_OVERHEAD).ok_or(StepError::Bad("batch length overflows"))?;
    if base_offset < 0 {
        return Err(StepError::Bad("negative base offset"));
    }
    match magic {
        2 => {
            if size < BATCH_OVERHEAD {
                return Err(StepError::Bad("batch is shorter than its header"));
            }
            let attributes = be_i16(buf, 21).ok_or(StepError::Short)?;
            let delta = be_i32(buf, 23).ok_or(StepError::Short)?;
            let last_offset = base_offset.checked_add(i64::from(delta)).filter(|last| *last >= base_offset);
            Ok(Step {
                base_offset,
                last_offset: last_offset.ok_or(StepError::Bad("last offset lies before base offset"))?,
                size,
                magic,
                max_timestamp: be_i64(buf, 35).ok_or(StepError::Short)?,
                leader_epoch: be_i32(buf, 12).ok_or(StepError::Short)?,
                producer_id: be_i64(buf, 43).ok_or(StepError::Short)?,
                control: attributes & ATTR_CONTROL != 0,
            })
        }
        0 | 1 => {
            let minimum = if magic == 0 { 26 } else { 34 };
            if size < minimum {
                return Err(StepError::Bad("message is shorter than its header"));
            }
            let max_timestamp = if magic == 1 { be_i64(buf, 18).ok_or(StepError::Short)? } else { -1 };
            Ok(Step {
                base_offset,
                last_offset: base_offset,
                size,
                magic,
                max_timestamp,
                leader_epoch: -1,
                producer_id: -1,
                control: false,
            })
        }
        _ => Err(StepError::Bad("unknown magic")),
    }
}

/// CRC of a whole batch or legacy message.
pub(crate) fn crc_matches(batch: &[u8], magic: i8) -> bool {
    if magic == 2 {
        match (be::<4>(batch, 17), batch.get(21..)) {
            (Some(stored), Some(rest)) => u32::from_be_bytes(stored) == crc32c::crc32c(rest),
            _ => false,
        }
    } else {
        match (be::<4>(batch, 12), batch.get(16..)) {
            (Some(stored), Some(rest)) => u32::from_be_bytes(stored) == crc32fast::hash(rest),
            _ => false,
        }
    }
}

/// The base offset, length and leader epoch of a batch about to be written: the 16 bytes that lie before its CRC's range.
pub(crate) fn stamp(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut head = [0u8; 16];
    let (offset, rest) = head.split_at_mut(8);
    let (length, epoch) = rest.split_at_mut(4);
    offset.copy_from_slice(&base_offset.to_be_bytes());
    length.copy_from_slice(&header.batch_length.to_be_bytes());
    epoch.copy_from_slice(&leader_epoch.to_be_bytes());
    head
}
