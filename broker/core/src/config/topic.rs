//! What a topic is configured to, typed.

use super::resolve::{Statics, resolve_topic};
use super::table::{Scope, lookup};
use super::validate::list_items;
use crate::metadata::MetadataImage;

/// `compression.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionChoice {
    /// As the producer sent it.
    Producer,
    /// Kafka's number of the codec, 0 for none.
    Codec(u8),
}

/// The configs of one topic that a broker acts on. Names and units are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TopicConfig {
    pub compact: bool,
    pub delete: bool,
    /// `min.cleanable.dirty.ratio` in millionths.
    pub min_cleanable_dirty_ppm: u32,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub compression: CompressionChoice,
    pub gzip_level: i32,
    pub lz4_level: i32,
    pub zstd_level: i32,
    pub flush_before_ack: bool,
    pub follower_throttled_replicas: String,
    pub leader_throttled_replicas: String,
    pub file_delete_delay_ms: i64,
    pub preallocate: bool,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_decompressed_message_bytes: i32,
    pub max_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub log_append_time: bool,
    pub min_insync_replicas: i32,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
}

impl TopicConfig {
    /// Resolves every config of `topic`. Values were validated when they were set; one that is not readable all the same
    /// counts as its default.
    pub fn resolve(image: &MetadataImage, node_id: i32, statics: &Statics, topic: &str) -> Self {
        let text = |name: &str| {
            lookup(Scope::Topic, name)
                .and_then(|key| resolve_topic(image, node_id, statics, topic, key).value().map(str::to_owned))
                .unwrap_or_default()
        };
        let long = |name: &str| -> i64 {
            let default = || lookup(Scope::Topic, name).and_then(|k| k.default).and_then(|d| d.parse().ok());
            text(name).trim().parse().ok().or_else(default).unwrap_or_default()
        };
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let policy = text("cleanup.policy");
        Self {
            compact: list_items(&policy).any(|p| p == "compact"),
            delete: list_items(&policy).any(|p| p == "delete"),
            min_cleanable_dirty_ppm: text("min.cleanable.dirty.ratio")
                .trim()
                .parse()
                .map_or(500_000, |ratio: f64| (ratio.clamp(0.0, 1.0) * 1e6).round() as u32),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            delete_retention_ms: long("delete.retention.ms"),
            compression: match text("compression.type").as_str() {
                "uncompressed" => CompressionChoice::Codec(0),
                "gzip" => CompressionChoice::Codec(1),
                "snappy" => CompressionChoice::Codec(2),
                "lz4" => CompressionChoice::Codec(3),
                "zstd" => CompressionChoice::Codec(4),
                _ => CompressionChoice::Producer,
            },
            gzip_level: int("compression.gzip.level"),
            lz4_level: int("compression.lz4.level"),
            zstd_level: int("compression.zstd.level"),
            flush_before_ack: text("durability") != "page-cache",
            follower_throttled_replicas: text("follower.replication.throttled.replicas"),
            leader_throttled_replicas: text("leader.replication.throttled.replicas"),
            file_delete_delay_ms: long("file.delete.delay.ms"),
            preallocate: text("preallocate") == "true",
            flush_messages: long("flush.messages"),
            flush_ms: long("flush.ms"),
            index_interval_bytes: int("index.interval.bytes"),
            max_decompressed_message_bytes: int("max.decompressed.message.bytes"),
            max_message_bytes: int("max.message.bytes"),
            message_timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            min_insync_replicas: int("min.insync.replicas"),
            retention_bytes: long("retention.bytes"),
            retention_ms: long("retention.ms"),
            segment_bytes: int("segment.bytes"),
            segment_index_bytes: int("segment.index.bytes"),
            segment_jitter_ms: long("segment.jitter.ms"),
            segment_ms: long("segment.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::resolve(&MetadataImage::default(), 1, &Statics::default(), "t");
        assert!(config.delete && !config.compact && !config.log_append_time);
        assert_eq!(config.compression, CompressionChoice::Producer);
        assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 604_800_000));
        assert_eq!((config.retention_ms, config.retention_bytes), (604_800_000, -1));
        assert_eq!((config.max_message_bytes, config.min_insync_replicas), (1_048_588, 1));
        assert_eq!((config.min_cleanable_dirty_ppm, config.min_compaction_lag_ms), (500_000, 0));
        assert_eq!((config.max_compaction_lag_ms, config.delete_retention_ms), (i64::MAX, 86_400_000));
        assert_eq!(config.flush_messages, i64::MAX);
        assert!(config.flush_before_ack, "acknowledged means on disk");
    }
}
