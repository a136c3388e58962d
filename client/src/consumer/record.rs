//! A record that was read.

use bytes::Bytes;
use esker_protocol::primitives::Str;
use esker_protocol::records::Headers;

/// A record that was read. Key, value and headers share the memory of the answer they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Topic.
    pub topic: Str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// Whether the broker set the time, at append.
    pub log_append_time: bool,
    /// Epoch of the leader that wrote it; -1 where that is not known.
    pub leader_epoch: i32,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}
