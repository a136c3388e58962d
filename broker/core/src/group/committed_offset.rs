//! A committed offset, and the record that holds it.

use esker_protocol::messages::internal::OffsetCommitValue;
use esker_protocol::primitives::{Str, Uuid};

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset.
    pub offset: i64,
    /// Leader epoch of the last record consumed, -1 if unknown.
    pub leader_epoch: i32,
    /// What the client stored beside it.
    pub metadata: Str,
    /// When it was committed.
    pub committed_at: i64,
    /// When the offset expires, if the commit set a time.
    pub expires_at: Option<i64>,
    /// The topic's id, zero if unknown.
    pub topic_id: Uuid,
}

impl Committed {
    pub(super) fn from_record(value: OffsetCommitValue) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.detached(),
            committed_at: value.commit_timestamp,
            expires_at: Some(value.expire_timestamp).filter(|at| *at >= 0),
            topic_id: value.topic_id,
        }
    }

    pub(super) fn to_record(&self) -> OffsetCommitValue {
        OffsetCommitValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            commit_timestamp: self.committed_at,
            expire_timestamp: self.expires_at.unwrap_or(-1),
            topic_id: self.topic_id,
        }
    }
}
