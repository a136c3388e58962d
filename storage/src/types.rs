//! Arguments and results of a log's operations.

use bytes::Bytes;
use esker_protocol::records::BatchHeader;

/// One whole, validated record batch to append.
#[derive(Debug)]
pub struct AppendBatch<'a> {
    /// The parsed header of `bytes`; `base_offset` and `partition_leader_epoch` in it are replaced.
    pub header: &'a BatchHeader,
    /// The batch from its base offset to its last byte, exactly.
    pub bytes: &'a Bytes,
}

/// Proof that the coordinator is being asked whether a producer's transaction includes this partition (KIP-890). It is valid until
/// a marker ends the transaction there: a batch after the marker must not begin a transaction that no marker would ever end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationGuard(pub(crate) u64);

/// The origin of an append; selects the producer checks (KIP-98 and KIP-890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer: sequences, epochs and transaction state are checked.
    Client {
        /// Produce v12+ in a transaction (transaction version 2): an unknown producer must start at sequence 0.
        transaction_v2: bool,
    },
    /// A producer in a verified transaction (KIP-890): as a client, and a batch that begins the transaction in this log needs a
    /// `guard` that is still valid.
    Transaction {
        /// As for a client.
        transaction_v2: bool,
        /// The guard from [`crate::Log::begin_verification`], created before the coordinator was asked.
        guard: VerificationGuard,
    },
    /// The group coordinator with offsets of such a transaction: only epochs and the guard are checked.
    TransactionalOffsets {
        /// As above.
        guard: VerificationGuard,
    },
    /// A coordinator of this broker (group offsets, transaction markers): only epochs are checked.
    Coordinator {
        /// Markers of transaction version 2 must carry a higher epoch than the producer's last batch.
        transaction_v2: bool,
    },
}

/// The result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record (of the first batch).
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The value for a produce answer: -1, the log append time, or a duplicate's own batch timestamp.
    pub log_append_time: i64,
    /// The batch was in the log already (same producer, epoch and sequences): nothing was written.
    pub duplicate: bool,
    /// The log start offset at that time.
    pub log_start_offset: i64,
    /// `flush.messages` is reached: the caller should call `flush` off its async workers.
    pub flush_due: bool,
}

/// The result of a read. `records` are whole batches; the first may begin below the requested offset.
#[derive(Debug, Clone, Default)]
pub struct ReadInfo {
    /// A slice of the segment's map: no copy was made.
    pub records: Bytes,
    /// Base offset of the first batch in `records` (or the requested offset when empty).
    pub first_offset: i64,
    /// Offset after the last record in `records` (or the requested offset when empty).
    pub next_offset: i64,
    /// A batch was there but larger than `max_bytes`, and `at_least_one` was false.
    pub over_limit: bool,
    /// More readable records exist in a later segment, or behind a damaged range, which this read does not reach. New records do
    /// not extend this read.
    pub ends_early: bool,
}

/// Part of a log that was flushed and cannot be read any more. Data around it is served; reads inside of it fail with
/// [`crate::ReadError::Damaged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// First offset that may be affected.
    pub first_offset: i64,
    /// The first sound offset behind it.
    pub end_offset: i64,
    /// Base offset of the segment.
    pub segment: i64,
    /// Start position in the segment's file, bytes.
    pub position: u64,
    /// Position of the next sound data in the file.
    pub end_position: u64,
    /// Description of the damage.
    pub what: String,
}

impl DamagedRange {
    /// Whether an offset lies in it.
    pub fn contains(&self, offset: i64) -> bool {
        (self.first_offset..self.end_offset).contains(&offset)
    }
}

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp in ms.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// Leader epoch it was written in, -1 if unknown.
    pub leader_epoch: i32,
}

/// End of a leader epoch (KIP-101, KIP-279): the largest known epoch not above the requested one, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// -1 when undefined.
    pub leader_epoch: i32,
    /// Offset after the epoch's last record; -1 when undefined.
    pub end_offset: i64,
}

/// An aborted transaction as a read-committed fetch reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose transaction.
    pub producer_id: i64,
    /// Its first offset in this log.
    pub first_offset: i64,
}

/// A transaction that is open in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Whose transaction.
    pub producer_id: i64,
    /// Its first offset in this log.
    pub first_offset: i64,
    /// Time of the producer's last batch in ms, -1 if none.
    pub last_timestamp: i64,
}

/// An active producer, for DescribeProducers (KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Last sequence, -1 if none.
    pub last_sequence: i32,
    /// Time of the last batch in ms, -1 if none.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that wrote the last marker, -1 if none.
    pub coordinator_epoch: i32,
    /// First offset of the open transaction, -1 if none.
    pub current_txn_start_offset: i64,
}

/// The result of a retention pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionOutcome {
    /// Segments removed.
    pub segments: usize,
    /// Bytes of log removed.
    pub bytes: u64,
}
