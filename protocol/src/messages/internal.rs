//! The records of `__consumer_offsets`, byte for byte as Kafka writes them: tools such as lag monitors read this topic.
//!
//! A key begins with its type as an `i16` (0 and 1 both mean an offset), a value with its version; a null value is a
//! tombstone.

pub mod consumer_groups;

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::Message as _;
use crate::primitives::{DecodeError, EncodeError, Reader, Str, Uuid, Writer};

/// Key types 0 and 1: a committed offset.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "none")]
pub struct OffsetCommitKey {
    /// The group.
    pub group: Str,
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct OffsetCommitValue {
    /// The offset.
    pub offset: i64,
    /// Leader epoch of the last record consumed, -1 if unknown.
    #[field(versions = "3+", default = -1, ignorable)]
    pub leader_epoch: i32,
    /// What the client stored beside it.
    pub metadata: Str,
    /// When it was committed, in ms.
    pub commit_timestamp: i64,
    /// When it expires, in ms; for commits that named a retention time.
    #[field(versions = "1", default = -1, ignorable)]
    pub expire_timestamp: i64,
    /// The topic's id.
    #[field(versions = "4+", tag = 0, tagged = "4+", ignorable)]
    pub topic_id: Uuid,
}

/// Key type 2: a classic group.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "2", flexible = "none")]
pub struct GroupMetadataKey {
    /// The group.
    pub group: Str,
}

/// A classic group after a rebalance.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct GroupMetadataValue {
    /// E.g. `consumer`.
    pub protocol_type: Str,
    /// Its generation.
    pub generation: i32,
    /// The protocol that was chosen.
    #[field(nullable = "0+")]
    pub protocol: Option<Str>,
    /// Member id of the leader.
    #[field(nullable = "0+")]
    pub leader: Option<Str>,
    /// When the group entered its state, in ms.
    #[field(versions = "2+", default = -1, ignorable)]
    pub current_state_timestamp: i64,
    /// Its members.
    pub members: Vec<MemberMetadata>,
}

/// One element of `members` in [`GroupMetadataValue`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct MemberMetadata {
    /// Member id.
    pub member_id: Str,
    /// `group.instance.id` of a static member.
    #[field(versions = "3+", nullable = "3+", ignorable)]
    pub group_instance_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// Rebalance time-out in ms.
    #[field(versions = "1+", ignorable)]
    pub rebalance_timeout: i32,
    /// Session time-out in ms.
    pub session_timeout: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// A key of `__consumer_offsets` that Esker understands.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupKey {
    /// An offset.
    Offset(OffsetCommitKey),
    /// A classic group.
    Group(GroupMetadataKey),
    /// Written by something later: left alone.
    Unknown(i16),
}

/// The version in which offsets are written, with or without a retention time.
const OFFSET_VERSION: i16 = 4;
const OFFSET_WITH_RETENTION_VERSION: i16 = 1;
/// The version in which groups are written.
const GROUP_VERSION: i16 = 3;

impl GroupKey {
    /// Reads a key.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.i16()? {
            kind @ 0..=1 => OffsetCommitKey::decode(&mut r, kind).map(Self::Offset),
            2 => GroupMetadataKey::decode(&mut r, 2).map(Self::Group),
            kind => Ok(Self::Unknown(kind)),
        }
    }
}

impl OffsetCommitKey {
    /// The key's bytes.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        prefixed(self, 1)
    }
}

impl GroupMetadataKey {
    /// The key's bytes.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        prefixed(self, 2)
    }
}

impl OffsetCommitValue {
    /// The value's bytes.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        prefixed(self, if self.expire_timestamp >= 0 { OFFSET_WITH_RETENTION_VERSION } else { OFFSET_VERSION })
    }

    /// Reads a value.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        Self::decode(&mut r, version)
    }
}

impl GroupMetadataValue {
    /// The value's bytes.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        prefixed(self, GROUP_VERSION)
    }

    /// Reads a value.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        Self::decode(&mut r, version)
    }
}

pub(super) fn prefixed<M: crate::Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.put_i16(version);
    message.encode(&mut w, version)?;
    Ok(w.finish().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kafkas() {
        let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 };
        assert_eq!(&key.to_bytes().unwrap()[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        let key = GroupMetadataKey { group: "g".into() };
        assert_eq!(&key.to_bytes().unwrap()[..], b"\0\x02\0\x01g");
        let value = OffsetCommitValue { offset: 5, metadata: "m".into(), commit_timestamp: 7, ..Default::default() };
        let bytes = value.to_bytes().unwrap();
        assert_eq!(&bytes[..], b"\0\x04\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\x02m\0\0\0\0\0\0\0\x07\0");
        assert_eq!(OffsetCommitValue::from_bytes(bytes).unwrap(), value);
        let retained = OffsetCommitValue { expire_timestamp: 9, ..value };
        assert_eq!(&retained.to_bytes().unwrap()[..2], b"\0\x01");
    }
}
