//! StreamsGroupDescribe (89): describes streams groups (KIP-1071).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of StreamsGroupDescribe (API key 89).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 89, kind = "request", versions = "0-1", flexible = "0+", response = StreamsGroupDescribeResponse)]
pub struct StreamsGroupDescribeRequest {
    pub group_ids: Vec<Str>,
    pub include_authorized_operations: bool,
    #[field(versions = "1+")]
    pub include_topology_description: bool,
}

/// The answer of StreamsGroupDescribe.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "0+")]
pub struct StreamsGroupDescribeResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
}

/// One element of `groups` in [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    #[field(nullable = "0+")]
    pub topology: Option<Topology>,
    pub members: Vec<Member>,
    #[field(default = i32::MIN)]
    pub authorized_operations: i32,
    #[field(versions = "1+", nullable = "1+")]
    pub topology_description: Option<TopologyDescription>,
    #[field(versions = "1+")]
    pub topology_description_status: i8,
    #[field(versions = "1+", nullable = "1+", ignorable)]
    pub assignor_name: Option<Str>,
}

/// `topology` of [`DescribedGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Topology {
    pub epoch: i32,
    #[field(nullable = "0+")]
    pub subtopologies: Option<Vec<Subtopology>>,
}

/// One element of `subtopologies` in [`Topology`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub repartition_sink_topics: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_source_topics: Vec<TopicInfo>,
}

/// One element of `members` in [`DescribedGroup`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Member {
    pub member_id: Str,
    pub member_epoch: i32,
    #[field(nullable = "0+")]
    pub instance_id: Option<Str>,
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topology_epoch: i32,
    pub process_id: Str,
    #[field(nullable = "0+")]
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Vec<KeyValue>,
    pub task_offsets: Vec<TaskOffset>,
    pub task_end_offsets: Vec<TaskOffset>,
    pub assignment: Assignment,
    pub target_assignment: Assignment,
    pub is_classic: bool,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TaskOffset {
    pub subtopology_id: Str,
    pub partition: i32,
    pub offset: i64,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Assignment {
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct KeyValue {
    pub key: Str,
    pub value: Str,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopicInfo {
    pub name: Str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub topic_configs: Vec<KeyValue>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopologyDescription {
    #[field(versions = "1+")]
    pub subtopologies: Vec<TopologyDescriptionSubtopology>,
    #[field(versions = "1+")]
    pub global_stores: Vec<TopologyDescriptionGlobalStore>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopologyDescriptionSubtopology {
    #[field(versions = "1+")]
    pub subtopology_id: Str,
    #[field(versions = "1+")]
    pub nodes: Vec<TopologyDescriptionNode>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopologyDescriptionNode {
    #[field(versions = "1+")]
    pub name: Str,
    #[field(versions = "1+")]
    pub node_type: i8,
    #[field(versions = "1+")]
    pub source_topics: Vec<Str>,
    #[field(versions = "1+", nullable = "1+")]
    pub sink_topic: Option<Str>,
    #[field(versions = "1+")]
    pub stores: Vec<Str>,
    #[field(versions = "1+")]
    pub successors: Vec<Str>,
}

/// Shared by several fields of [`StreamsGroupDescribeResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TopologyDescriptionGlobalStore {
    #[field(versions = "1+")]
    pub source: TopologyDescriptionNode,
    #[field(versions = "1+")]
    pub processor: TopologyDescriptionNode,
}
