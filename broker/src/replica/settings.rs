//! A topic's configuration in the shape that the replica manager acts on, worked out once when the image changes.

use esker_core::config::TopicConfig;
use esker_storage::LogConfig;
use esker_storage::validate::{CompressionTarget, TimestampType, ValidateRules};

/// The resolved configuration of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// What the log needs.
    pub log: LogConfig,
    /// What a produced batch is held against; the request's version is filled in per request.
    pub rules: ValidateRules,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
}
