//! Groups: their members, their offsets, and how far these lag behind.

use std::collections::{BTreeMap, HashMap};

use esker_client::Admin;
use esker_client::admin::{CommittedOffset, GroupDescription, GroupMember, OffsetSpec};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
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
    /// How partitions are assigned (`range`, ...).
    pub protocol: String,
    /// The node id of the coordinator.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<MemberReport>,
    /// Its committed offsets.
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

/// The committed offset of a group in a partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record that the group reads.
    pub committed: i64,
    /// The offset after the last record; null where the partition is gone or has no leader.
    pub end: Option<i64>,
    /// Records between the two.
    pub lag: Option<i64>,
    /// The member that the partition is assigned to.
    pub member: Option<String>,
}

/// All groups, by id.
pub async fn list_groups(admin: &Admin) -> Result<Vec<GroupSummary>, AdminError> {
    let summary = |group: &esker_client::admin::GroupListing| GroupSummary {
        group: group.id.to_string(),
        state: group.state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        kind: group.kind.to_string(),
    };
    Ok(admin.list_groups().await?.iter().map(summary).collect())
}

/// A group with a page of its offsets, and the partition to go on after.
pub async fn read_group(
    admin: &Admin,
    name: &str,
    page: &Page<PartitionKey>,
) -> Result<(GroupReport, Option<PartitionKey>), AdminError> {
    let group = admin.describe_group(name).await?;
    let committed = admin.committed_offsets(name).await?;
    let key = |offset: &CommittedOffset| PartitionKey {
        topic: offset.partition.topic.to_string(),
        partition: offset.partition.partition,
    };
    let (committed, next) = page.cut(committed, key);
    let mut ends = HashMap::new();
    for topic in committed.chunk_by(|a, b| a.partition.topic == b.partition.topic) {
        let asked: Vec<_> = topic.iter().map(|offset| (offset.partition.clone(), OffsetSpec::Latest)).collect();
        // A topic that is gone has no end.
        ends.extend(admin.list_offsets(&asked).await.unwrap_or_default());
    }
    let offset = |offset: &CommittedOffset| {
        let end = ends.get(&offset.partition).map(|listed| listed.offset);
        GroupOffset {
            topic: offset.partition.topic.to_string(),
            partition: offset.partition.partition,
            committed: offset.offset,
            end,
            lag: end.map(|end| end.saturating_sub(offset.offset).max(0)),
            member: owner(&group, offset),
        }
    };
    let report = GroupReport {
        group: name.to_owned(),
        state: group.state.to_string(),
        protocol: group.protocol.to_string(),
        coordinator: group.coordinator,
        members: group.members.iter().map(member).collect(),
        offsets: committed.iter().map(offset).collect(),
    };
    Ok((report, next))
}

fn owner(group: &GroupDescription, offset: &CommittedOffset) -> Option<String> {
    let owner = group.members.iter().find(|member| member.assignment.contains(&offset.partition));
    owner.map(|member| member.id.to_string())
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
