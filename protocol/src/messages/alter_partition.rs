//! AlterPartition (56): a leader proposes a new in-sync set to the controller (KIP-497, KIP-704).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Uuid;

/// The request of AlterPartition (API key 56).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 56, kind = "request", versions = "2-3", flexible = "0+", response = AlterPartitionResponse)]
pub struct AlterPartitionRequest {
    pub broker_id: i32,
    #[field(default = -1)]
    pub broker_epoch: i64,
    pub topics: Vec<TopicData>,
}

/// One element of `topics` in [`AlterPartitionRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicData {
    #[field(versions = "2+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
}

/// One element of `partitions` in [`TopicData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionData {
    pub partition_index: i32,
    pub leader_epoch: i32,
    #[field(versions = "0-2")]
    pub new_isr: Vec<i32>,
    #[field(versions = "3+")]
    pub new_isr_with_epochs: Vec<BrokerState>,
    #[field(versions = "1+")]
    pub leader_recovery_state: i8,
    pub partition_epoch: i32,
}

/// One element of `new_isr_with_epochs` in [`PartitionData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct BrokerState {
    #[field(versions = "3+")]
    pub broker_id: i32,
    #[field(versions = "3+", default = -1)]
    pub broker_epoch: i64,
}

/// The answer of AlterPartition.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "2-3", flexible = "0+")]
pub struct AlterPartitionResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub topics: Vec<TopicDataResult>,
}

/// One element of `topics` in [`AlterPartitionResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicDataResult {
    #[field(versions = "2+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionDataResult>,
}

/// One element of `partitions` in [`TopicDataResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct PartitionDataResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub isr: Vec<i32>,
    #[field(versions = "1+", ignorable)]
    pub leader_recovery_state: i8,
    pub partition_epoch: i32,
}
