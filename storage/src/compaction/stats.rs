//! What the cleaner reports of its work.

use super::progress::RunningPasses;

/// What one compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Keys in the offset map.
    pub map_entries: u64,
    /// How full the offset map's memory was, in percent: full at 100, and then it takes another pass.
    pub map_percent: u64,
    /// Bytes of the segments read.
    pub bytes_read: u64,
    /// Bytes of the compacted segments.
    pub bytes_written: u64,
    /// Records read, those of markers included.
    pub records_read: u64,
    /// Records that stayed.
    pub records_kept: u64,
    /// Records dropped because they had no key.
    pub without_key: u64,
}

/// The statistics of a cleaner, in Kafka's terms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CleanerStats {
    /// Compactions that came to their end.
    pub compactions: u64,
    /// The last one of them.
    pub last: CleanStats,
    /// How long it took, in seconds.
    pub last_seconds: f64,
    /// Dirty part of the dirtiest log at the last check, in percent.
    pub max_dirty_percent: u64,
    /// How far the most overdue log was past `max.compaction.lag.ms`, in seconds.
    pub max_delay_seconds: u64,
    /// Time of the last check, wall clock ms; 0 if there was none.
    pub last_look_ms: i64,
    /// Logs that are not compacted because they are damaged or cannot be parsed.
    pub uncleanable_partitions: u64,
    /// Bytes of these.
    pub uncleanable_bytes: u64,
    /// The running passes.
    pub running: RunningPasses,
}
