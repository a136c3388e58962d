//! The consumer protocol: what members of a classic consumer group put into JoinGroup and SyncGroup. Opaque to a broker but for
//! deleting and expiring offsets; each is preceded by its version as an `i16`.

#![allow(missing_docs)]

use bytes::Bytes;
use esker_protocol_derive::Message;

use crate::primitives::Str;

/// What a member of a classic consumer group subscribes to.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "none")]
pub struct ConsumerProtocolSubscription {
    pub topics: Vec<Str>,
    #[field(nullable = "0+")]
    pub user_data: Option<Bytes>,
    #[field(versions = "1+", ignorable)]
    pub owned_partitions: Vec<OwnedPartitions>,
    #[field(versions = "2+", default = -1, ignorable)]
    pub generation_id: i32,
    #[field(versions = "3+", nullable = "3+", ignorable)]
    pub rack_id: Option<Str>,
}

/// One element of `owned_partitions` in [`ConsumerProtocolSubscription`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OwnedPartitions {
    #[field(versions = "1+")]
    pub topic: Str,
    #[field(versions = "1+")]
    pub partitions: Vec<i32>,
}

/// What a member of a classic consumer group is assigned.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "none")]
pub struct ConsumerProtocolAssignment {
    pub assigned_partitions: Vec<AssignedPartitions>,
    #[field(nullable = "0+")]
    pub user_data: Option<Bytes>,
}

/// One element of `assigned_partitions` in [`ConsumerProtocolAssignment`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AssignedPartitions {
    pub topic: Str,
    pub partitions: Vec<i32>,
}
