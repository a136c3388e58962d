//! What a group coordinator writes to `__consumer_offsets`.

use bytes::Bytes;
use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::messages::internal::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use esker_protocol::primitives::EncodeError;

/// A record for the log, before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRecord {
    /// An offset, or its removal.
    Offset(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A group, or its removal.
    Group(GroupMetadataKey, Option<GroupMetadataValue>),
    /// Part of a consumer group, or its removal.
    Consumer(ConsumerGroupRecord),
}

impl GroupRecord {
    /// Key and value as they are written.
    pub fn to_bytes(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::Offset(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
            Self::Group(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
            Self::Consumer(record) => record.to_bytes(),
        }
    }
}
