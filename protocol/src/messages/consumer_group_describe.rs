//! ConsumerGroupDescribe (69): describes consumer groups of the KIP-848 protocol; v1 returns the type of each member (KIP-1099).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of ConsumerGroupDescribe (API key 69).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 69, kind = "request", versions = "0-1", flexible = "0+", response = ConsumerGroupDescribeResponse)]
pub struct ConsumerGroupDescribeRequest {
    pub group_ids: Vec<Str>,
    pub include_authorized_operations: bool,
}

/// The answer of ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupDescribeResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

/// One element of `groups` in [`ConsumerGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub assignor_name: Str,
    pub members: Vec<Member>,
    #[field(default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One element of `members` in [`DescribedGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Member {
    pub member_id: Str,
    #[field(nullable = "0+")]
    pub instance_id: Option<Str>,
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    pub member_epoch: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub subscribed_topic_names: Vec<Str>,
    #[field(nullable = "0+")]
    pub subscribed_topic_regex: Option<Str>,
    pub assignment: Assignment,
    pub target_assignment: Assignment,
    #[field(versions = "1+", default = -1, ignorable)]
    pub member_type: i8,
}

/// Shared by several fields of [`ConsumerGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub topic_name: Str,
    pub partitions: Vec<i32>,
}

/// Shared by several fields of [`ConsumerGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
}
