//! The part of a topic's configuration that a log needs, already resolved and validated by the caller.
//!
//! Names and defaults are Kafka's. Only what storage acts on is here.

/// The topic configs that storage acts on. Sizes are bytes, times milliseconds, `-1` is "no limit" as in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it would grow past this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its first record is older than this, even if it is not full.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: a random part of at most this is taken off `segment_ms`, so that logs do not roll at once.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: size at which an index counts as full and the segment is rolled.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes of log between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`: closed segments whose newest record is older are deleted. `-1` keeps all.
    pub retention_ms: i64,
    /// `retention.bytes`: oldest segments are deleted while the rest is at least this big. `-1` keeps all.
    pub retention_bytes: i64,
    /// `cleanup.policy` contains `delete`: retention by time and bytes applies.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio` in millionths: a log is compacted when more than this part of it is dirty.
    pub min_cleanable_dirty_ppm: u32,
    /// `min.compaction.lag.ms`: a segment with a record younger than this is not compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a record older than this makes a compaction due, however clean the log is.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and transaction markers stay after their first compaction.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`: how long deleted files stay on the disk; 0 removes them at once.
    pub file_delete_delay_ms: i64,
    /// `preallocate`: a segment's disk space is reserved when it is first written to, not in steps.
    pub preallocate: bool,
    /// `flush.messages`: records after which the log requests a flush ([`crate::Appended::flush_due`]).
    pub flush_messages: i64,
    /// `flush.ms`: age of the oldest unflushed append at which [`crate::Log::flush_due`] says yes.
    pub flush_ms: i64,
    /// `producer.id.expiration.ms` (broker): the state of a producer that wrote nothing for this long is removed.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            delete: true,
            compact: false,
            min_cleanable_dirty_ppm: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            file_delete_delay_ms: 60_000,
            preallocate: false,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            producer_id_expiration_ms: 24 * 3_600_000,
        }
    }
}
