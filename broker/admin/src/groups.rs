//! Groups: their members, their offsets, and how far these lag behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_recursion::async_recursion as boxed;
use esker_client::admin::{GroupMember, OffsetSpec};
use esker_client::{Admin, TopicPartition};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
use super::offsets::{committed_offsets, existing_offsets};
use super::page::{Page, PartitionKey};

/// A group, in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupSummary {
    /// Its id.
    pub group: String,
    /// Its state.
    pub state: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// `classic`, `consumer`, ...
    #[serde(rename = "type")]
    pub kind: String,
}

/// A group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupReport {
    /// Its id.
    pub group: String,
    /// Its state.
    pub state: String,
    /// `classic`, `consumer`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// How partitions are assigned (`range`, ...).
    pub protocol: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// The node id of the coordinator.
    pub coordinator: i32,
    /// Records between the committed offsets below and the ends of their partitions; null where none of them is known.
    pub lag: Option<i64>,
    /// Its members.
    pub members: Vec<MemberReport>,
    /// Partitions that the group has committed an offset of, or that a member reads.
    pub offsets: Vec<GroupOffset>,
}

/// A member of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MemberReport {
    /// Its id.
    pub id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// The name that the client gave itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Number of partitions that are assigned to it.
    pub partitions: usize,
    /// These partitions.
    pub assignment: Vec<AssignedTopic>,
}

/// The partitions of a topic that are assigned to a member.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AssignedTopic {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// A partition of a group.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record that the group reads; null where it has committed none.
    pub committed: Option<i64>,
    /// The offset after the last record; null where the partition is gone or has no leader.
    pub end: Option<i64>,
    /// Records between the two, where both are known.
    pub lag: Option<i64>,
    /// The member that the partition is assigned to.
    pub member: Option<String>,
}

/// All groups, by id.
#[boxed]
pub async fn list_groups(admin: &Admin) -> Result<Vec<GroupSummary>, AdminError> {
    let summary = |group: &esker_client::admin::GroupListing| GroupSummary {
        group: group.id.to_string(),
        state: group.state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        kind: group.kind.to_string(),
    };
    Ok(admin.list_groups().await?.iter().map(summary).collect())
}

/// A group with a page of its partitions, and the partition to go on after.
#[boxed]
pub async fn read_group(
    admin: &Admin,
    name: &str,
    page: &Page<PartitionKey>,
) -> Result<(GroupReport, Option<PartitionKey>), AdminError> {
    let group = admin.describe_group(name).await?;
    let committed: HashMap<_, _> = committed_offsets(admin, name).await?.into_iter().collect();
    let assigned = |m: &GroupMember| m.assignment.iter().map(|tp| (tp.clone(), m.id.to_string())).collect::<Vec<_>>();
    let owners: BTreeMap<TopicPartition, String> = group.members.iter().flat_map(assigned).collect();
    let partitions: BTreeSet<_> = committed.keys().chain(owners.keys()).cloned().collect();
    let key = |tp: &TopicPartition| PartitionKey { topic: tp.topic.to_string(), partition: tp.partition };
    let (partitions, next) = page.cut(partitions.into_iter().collect(), key);
    let ends = existing_offsets(admin, &partitions, OffsetSpec::Latest).await;
    let offset = |tp: &TopicPartition| {
        let (committed, end) = (committed.get(tp).copied(), ends.get(tp).copied());
        GroupOffset {
            topic: tp.topic.to_string(),
            partition: tp.partition,
            committed,
            end,
            lag: end.zip(committed).map(|(end, committed)| end.saturating_sub(committed).max(0)),
            member: owners.get(tp).cloned(),
        }
    };
    let offsets: Vec<_> = partitions.iter().map(offset).collect();
    let report = GroupReport {
        group: name.to_owned(),
        state: group.state.to_string(),
        kind: group.kind.to_string(),
        protocol: group.protocol.to_string(),
        protocol_type: group.protocol_type.to_string(),
        coordinator: group.coordinator,
        lag: offsets.iter().filter_map(|offset| offset.lag).reduce(i64::saturating_add),
        members: group.members.iter().map(member).collect(),
        offsets,
    };
    Ok((report, next))
}

fn member(member: &GroupMember) -> MemberReport {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for assigned in &member.assignment {
        topics.entry(&assigned.topic).or_default().push(assigned.partition);
    }
    let assigned = |(topic, partitions): (&str, Vec<i32>)| AssignedTopic { topic: topic.to_owned(), partitions };
    MemberReport {
        id: member.id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.host.to_string(),
        partitions: member.assignment.len(),
        assignment: topics.into_iter().map(assigned).collect(),
    }
}
