//! A topic's configuration in the form that the replica manager uses, resolved once when the image changes.

use esker_core::config::{CompressionChoice, Scope, Statics, TopicConfig, lookup, resolve_broker};
use esker_core::internal_topics::is_internal;
use esker_core::metadata::MetadataImage;
use esker_core::replication::ThrottledReplicas;
use esker_protocol::compression::Compression;
use esker_storage::LogConfig;
use esker_storage::validate::{CompressionTarget, TimestampType, ValidateRules};

#[cfg(test)]
mod tests;

/// The resolved configuration of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// The configuration of the log.
    pub log: LogConfig,
    /// The rules for produced batches; the request's version is set per request.
    pub rules: ValidateRules,
    /// `durability=flush`: `acks=all` is answered when the batch is flushed.
    pub flush_before_ack: bool,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `leader.replication.throttled.replicas`: those of this broker.
    pub throttled_as_leader: ThrottledReplicas,
    /// `follower.replication.throttled.replicas`: those of this broker.
    pub throttled_as_follower: ThrottledReplicas,
}

impl TopicSettings {
    /// Resolves the settings of `topic` in `image` on the broker `node_id`, which was started with `statics`.
    pub fn resolve(image: &MetadataImage, topic: &str, node_id: i32, statics: &Statics) -> Self {
        let c = TopicConfig::resolve(image, node_id, statics, topic);
        let size = |value: i32| usize::try_from(value).unwrap_or_default();
        let broker_value = |name: &str| -> Option<i64> {
            let resolved = resolve_broker(image, node_id, statics, lookup(Scope::Broker, name)?);
            resolved.value()?.trim().parse().ok()
        };
        Self {
            log: LogConfig {
                segment_bytes: u32::try_from(c.segment_bytes).unwrap_or(1 << 30),
                segment_ms: c.segment_ms,
                segment_jitter_ms: c.segment_jitter_ms,
                segment_index_bytes: u32::try_from(c.segment_index_bytes).unwrap_or(10 << 20),
                index_interval_bytes: u32::try_from(c.index_interval_bytes).unwrap_or(4096),
                retention_ms: c.retention_ms,
                retention_bytes: c.retention_bytes,
                delete: c.delete && !is_internal(topic),
                compact: c.compact,
                min_cleanable_dirty_ppm: c.min_cleanable_dirty_ppm,
                min_compaction_lag_ms: c.min_compaction_lag_ms,
                max_compaction_lag_ms: c.max_compaction_lag_ms,
                delete_retention_ms: c.delete_retention_ms,
                file_delete_delay_ms: c.file_delete_delay_ms,
                preallocate: c.preallocate,
                flush_messages: c.flush_messages,
                flush_ms: c.flush_ms,
                producer_id_expiration_ms: broker_value("producer.id.expiration.ms").unwrap_or(24 * 3_600_000),
            },
            rules: ValidateRules {
                max_message_bytes: size(c.max_message_bytes),
                max_decompressed_bytes: size(c.max_decompressed_message_bytes),
                compacted: c.compact,
                timestamp_type: if c.log_append_time { TimestampType::LogAppend } else { TimestampType::Create },
                timestamp_before_max_ms: c.message_timestamp_before_max_ms,
                timestamp_after_max_ms: c.message_timestamp_after_max_ms,
                compression: match c.compression {
                    CompressionChoice::Producer => CompressionTarget::Producer,
                    CompressionChoice::Codec(codec) => CompressionTarget::Codec {
                        codec: Compression::from_id(codec).unwrap_or(Compression::None),
                        level: match codec {
                            1 => Some(c.gzip_level).filter(|level| *level > 0),
                            3 => Some(c.lz4_level),
                            4 => Some(c.zstd_level),
                            _ => None,
                        },
                    },
                },
                full: false,
                produce_version: 0,
            },
            flush_before_ack: c.flush_before_ack,
            min_insync_replicas: size(c.min_insync_replicas).max(1),
            throttled_as_leader: ThrottledReplicas::parse(&c.leader_throttled_replicas, node_id),
            throttled_as_follower: ThrottledReplicas::parse(&c.follower_throttled_replicas, node_id),
        }
    }
}
