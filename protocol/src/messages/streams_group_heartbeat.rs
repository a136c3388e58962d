//! StreamsGroupHeartbeat (88): keeps a member of a streams group alive (KIP-1071).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of StreamsGroupHeartbeat (API key 88).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 88, kind = "request", versions = "0-1", flexible = "0+", response = StreamsGroupHeartbeatResponse)]
pub struct StreamsGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub endpoint_information_epoch: i32,
    #[field(nullable = "0+")]
    pub instance_id: Option<Str>,
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    #[field(default = -1)]
    pub rebalance_timeout_ms: i32,
    #[field(nullable = "0+")]
    pub topology: Option<Topology>,
    #[field(nullable = "0+")]
    pub active_tasks: Option<Vec<TaskIds>>,
    #[field(nullable = "0+")]
    pub standby_tasks: Option<Vec<TaskIds>>,
    #[field(nullable = "0+")]
    pub warmup_tasks: Option<Vec<TaskIds>>,
    #[field(nullable = "0+")]
    pub process_id: Option<Str>,
    #[field(nullable = "0+")]
    pub user_endpoint: Option<Endpoint>,
    #[field(nullable = "0+")]
    pub client_tags: Option<Vec<KeyValue>>,
    #[field(nullable = "0+")]
    pub task_offsets: Option<Vec<TaskOffset>>,
    #[field(nullable = "0+")]
    pub task_end_offsets: Option<Vec<TaskOffset>>,
    pub shutdown_application: bool,
}

/// `topology` of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
}

/// One element of `subtopologies` in [`Topology`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub source_topic_regex: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_sink_topics: Vec<Str>,
    pub repartition_source_topics: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// One element of `copartition_groups` in [`Subtopology`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
}

/// Shared by several fields of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct KeyValue {
    pub key: Str,
    pub value: Str,
}

/// Shared by several fields of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicInfo {
    pub name: Str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub topic_configs: Vec<KeyValue>,
}

/// Shared by several fields of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
}

/// Shared by several fields of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TaskOffset {
    pub subtopology_id: Str,
    pub partition: i32,
    pub offset: i64,
}

/// Shared by several fields of [`StreamsGroupHeartbeatRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
}

/// The answer of StreamsGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct StreamsGroupHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    pub member_id: Str,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    #[field(versions = "0")]
    pub acceptable_recovery_lag_legacy: i32,
    pub task_offset_interval_ms: i32,
    #[field(versions = "1+", default = -1, ignorable)]
    pub acceptable_recovery_lag: i64,
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub status: Option<Vec<Status>>,
    #[field(nullable = "0+")]
    pub active_tasks: Option<Vec<TaskIdsResult>>,
    #[field(nullable = "0+")]
    pub standby_tasks: Option<Vec<TaskIdsResult>>,
    #[field(nullable = "0+")]
    pub warmup_tasks: Option<Vec<TaskIdsResult>>,
    #[field(versions = "1+")]
    pub topology_description_required: bool,
    pub endpoint_information_epoch: i32,
    #[field(nullable = "0+")]
    pub partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
}

/// One element of `partitions_by_user_endpoint` in [`StreamsGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EndpointToPartitions {
    pub user_endpoint: EndpointResult,
    pub active_partitions: Vec<TopicPartition>,
    pub standby_partitions: Vec<TopicPartition>,
}

/// Shared by several fields of [`StreamsGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Status {
    pub status_code: i8,
    pub status_detail: Str,
}

/// Shared by several fields of [`StreamsGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicPartition {
    pub topic: Str,
    pub partitions: Vec<i32>,
}

/// Shared by several fields of [`StreamsGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TaskIdsResult {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
}

/// Shared by several fields of [`StreamsGroupHeartbeatResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EndpointResult {
    pub host: Str,
    pub port: u16,
}
