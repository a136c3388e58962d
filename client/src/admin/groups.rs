//! Groups: list, describe, delete, their offsets.

use std::collections::HashMap;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_group_describe::{ConsumerGroupDescribeRequest, TopicPartitions};
use esker_protocol::messages::delete_groups::DeleteGroupsRequest;
use esker_protocol::messages::describe_groups::DescribeGroupsRequest;
use esker_protocol::messages::list_groups::ListGroupsRequest;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse};
use esker_protocol::primitives::Str;

use super::{Admin, each};
use crate::client::Target;
use crate::consumer::{MemberAssignment, decode_assignment};
use crate::error::Error;
use crate::metadata::TopicPartition;

/// The last versions that name topics instead of giving their ids.
const OFFSETS: i16 = 9;

/// A group, in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Name.
    pub id: Str,
    /// "consumer" for consumer groups.
    pub protocol_type: Str,
    /// State; empty where the broker does not return it.
    pub state: Str,
    /// "classic", "consumer", ...; empty where the broker does not return it.
    pub kind: Str,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Name.
    pub id: Str,
    /// State: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead; of the new protocol Empty, Assigning, Reconciling, Stable.
    pub state: Str,
    /// "consumer" for consumer groups.
    pub protocol_type: Str,
    /// "classic", or "consumer" for the protocol of KIP-848.
    pub kind: Str,
    /// How partitions are shared ("range", ...).
    pub protocol: Str,
    /// Node id of the coordinator.
    pub coordinator: i32,
    /// Members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Member id.
    pub id: Str,
    /// Instance id of a static member.
    pub instance_id: Option<Str>,
    /// Name the client gave itself.
    pub client_id: Str,
    /// Where it connects from.
    pub host: Str,
    /// What it was given (consumer groups).
    pub assignment: MemberAssignment,
}

/// An offset that a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Partition.
    pub partition: TopicPartition,
    /// Offset of the next record to read.
    pub offset: i64,
    /// What the member wrote beside it.
    pub metadata: Str,
    /// Why there is none, if so.
    pub error: ErrorCode,
}

impl Admin {
    /// All groups of all brokers, by name.
    ///
    /// # Errors
    /// A broker does not answer.
    #[boxed]
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        self.client.refresh(&[]).await?;
        let mut groups = Vec::new();
        for node in self.client.cluster().brokers.keys() {
            let attempt = || async {
                let answer = self.client.request(Target::Node(*node), ListGroupsRequest::default()).await?;
                each(|| format!("the groups of broker {node}"), answer.error_code, None)?;
                Ok(answer)
            };
            let answer = self.client.retry("the groups", attempt).await?;
            groups.extend(answer.groups.iter().map(|group| GroupListing {
                id: group.group_id.clone(),
                protocol_type: group.protocol_type.clone(),
                state: group.group_state.clone(),
                kind: group.group_type.clone(),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    /// A group and its members.
    ///
    /// # Errors
    /// There is no such group, or it is of a type without a description here (share groups, streams groups).
    #[boxed]
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, Error> {
        match self.describe_classic_group(Str::copy(group)).await {
            // The group may be one of the new protocol; if not, or if the broker has none of those, the first answer is returned.
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                match self.describe_consumer_group(Str::copy(group)).await {
                    Ok(described) => Ok(described),
                    Err(_) => Err(self.explain_missing_group(group, error).await),
                }
            }
            described => described,
        }
    }

    /// Why a group has no description: `missing`, unless the group is there and of another type.
    async fn explain_missing_group(&self, group: &str, missing: Error) -> Error {
        let groups = self.list_groups().await.unwrap_or_default();
        let kind = groups.iter().find(|listed| listed.id == group).map(|listed| listed.kind.as_str());
        match kind {
            None | Some("" | "classic" | "consumer") => missing,
            Some(kind) => Error::Invalid(format!("group '{group}' is a {kind} group, not a consumer group")),
        }
    }

    async fn describe_consumer_group(&self, group: Str) -> Result<GroupDescription, Error> {
        let attempt = || async {
            let request = ConsumerGroupDescribeRequest { group_ids: vec![group.clone()], ..Default::default() };
            let answer = self.client.request(Target::Coordinator(group.clone()), request).await?;
            let missing = || Error::refused(format!("group '{group}'"), ErrorCode::GROUP_ID_NOT_FOUND, None);
            let found = answer.groups.into_iter().next().ok_or_else(missing)?;
            each(|| format!("group '{group}'"), found.error_code, found.error_message.as_ref())?;
            Ok(found)
        };
        let found = self.coordinated(&group, attempt).await?;
        let assignment = |topics: Vec<TopicPartitions>| {
            let of_topic = |topic: TopicPartitions| {
                let name = topic.topic_name;
                topic.partitions.into_iter().map(move |partition| TopicPartition { topic: name.clone(), partition })
            };
            topics.into_iter().flat_map(of_topic).collect()
        };
        let members = found.members.into_iter().map(|member| GroupMember {
            id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.client_host,
            assignment: assignment(member.assignment.topic_partitions),
        });
        Ok(GroupDescription {
            id: found.group_id,
            state: found.group_state,
            protocol_type: "consumer".into(),
            kind: "consumer".into(),
            protocol: found.assignor_name,
            coordinator: self.client.coordinator(&group).await?,
            members: members.collect(),
        })
    }

    async fn describe_classic_group(&self, group: Str) -> Result<GroupDescription, Error> {
        let attempt = || async {
            let request = DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() };
            let answer = self.client.request(Target::Coordinator(group.clone()), request).await?;
            let missing = || Error::refused(format!("group '{group}'"), ErrorCode::GROUP_ID_NOT_FOUND, None);
            let found = answer.groups.into_iter().next().ok_or_else(missing)?;
            each(|| format!("group '{group}'"), found.error_code, found.error_message.as_ref())?;
            if found.group_state == "Dead" {
                return Err(missing());
            }
            Ok(found)
        };
        let found = self.coordinated(&group, attempt).await?;
        let consumer = found.protocol_type == "consumer";
        let members = found.members.iter().map(|member| GroupMember {
            id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            host: member.client_host.clone(),
            assignment: if consumer { decode_assignment(&member.member_assignment) } else { Vec::new() },
        });
        Ok(GroupDescription {
            id: found.group_id.clone(),
            state: found.group_state.clone(),
            protocol_type: found.protocol_type.clone(),
            kind: "classic".into(),
            protocol: found.protocol_data.clone(),
            coordinator: self.client.coordinator(&group).await?,
            members: members.collect(),
        })
    }

    /// Deletes groups without members, and their offsets.
    ///
    /// # Errors
    /// A coordinator does not answer. Each group has a result of its own.
    #[boxed]
    pub async fn delete_groups(&self, groups: &[Str]) -> Result<Vec<Result<(), Error>>, Error> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let attempt = || async {
                let request = DeleteGroupsRequest { groups_names: vec![group.clone()] };
                let answer = self.client.request(Target::Coordinator(group.clone()), request).await?;
                for result in answer.results {
                    each(|| format!("group '{group}'"), result.error_code, result.error_message.as_ref())?;
                }
                Ok(())
            };
            match self.coordinated(group, attempt).await {
                Err(error) if error.code().is_none() => return Err(error),
                result => results.push(result),
            }
        }
        Ok(results)
    }

    /// All offsets that a group committed, by partition. A group that is not there has none.
    ///
    /// # Errors
    /// The coordinator does not answer.
    #[boxed]
    pub async fn committed_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>, Error> {
        let group = Str::copy(group);
        let request = |version| {
            if version >= 8 {
                let asked = OffsetFetchRequestGroup { group_id: group.clone(), topics: None, ..Default::default() };
                OffsetFetchRequest { groups: vec![asked], ..Default::default() }
            } else {
                OffsetFetchRequest { group_id: group.clone(), topics: None, ..Default::default() }
            }
        };
        let attempt = || async {
            let target = Target::Coordinator(group.clone());
            let answer = self.client.request_up_to(target, OFFSETS, request).await?;
            let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
            each(|| format!("group '{group}'"), code, None)?;
            Ok(answer)
        };
        let mut offsets = committed(&self.coordinated(&group, attempt).await?);
        offsets.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(offsets)
    }

    /// Sets offsets of a group without members.
    ///
    /// # Errors
    /// The group has members, or a partition is not there.
    #[boxed]
    pub async fn alter_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let group = Str::copy(group);
        let mut topics: HashMap<Str, Vec<OffsetCommitRequestPartition>> = HashMap::new();
        for (tp, offset) in offsets {
            topics.entry(tp.topic.clone()).or_default().push(OffsetCommitRequestPartition {
                partition_index: tp.partition,
                committed_offset: *offset,
                ..OffsetCommitRequestPartition::default()
            });
        }
        let topics = topics.into_iter();
        let request = OffsetCommitRequest {
            group_id: group.clone(),
            topics: topics
                .map(|(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() })
                .collect(),
            ..OffsetCommitRequest::default()
        };
        let attempt = || async {
            let target = Target::Coordinator(group.clone());
            let answer = self.client.request_up_to(target, OFFSETS, |_| request.clone()).await?;
            for topic in &answer.topics {
                for part in &topic.partitions {
                    let what = || format!("{}-{} in group '{group}'", topic.name, part.partition_index);
                    each(what, part.error_code, None)?;
                }
            }
            Ok(())
        };
        self.coordinated(&group, attempt).await
    }

    /// Deletes offsets of a group for partitions that no member reads.
    ///
    /// # Errors
    /// There is no such group, or a member reads the topic.
    #[boxed]
    pub async fn delete_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Result<(), Error> {
        let group = Str::copy(group);
        let mut topics: HashMap<Str, Vec<OffsetDeleteRequestPartition>> = HashMap::new();
        for tp in partitions {
            let partition = OffsetDeleteRequestPartition { partition_index: tp.partition };
            topics.entry(tp.topic.clone()).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetDeleteRequestTopic { name, partitions });
        let request = OffsetDeleteRequest { group_id: group.clone(), topics: topics.collect() };
        let attempt = || async {
            let answer = self.client.request(Target::Coordinator(group.clone()), request.clone()).await?;
            each(|| format!("group '{group}'"), answer.error_code, None)?;
            for topic in &answer.topics {
                for part in &topic.partitions {
                    each(|| format!("{}-{}", topic.name, part.partition_index), part.error_code, None)?;
                }
            }
            Ok(())
        };
        self.coordinated(&group, attempt).await
    }
}

fn committed(answer: &OffsetFetchResponse) -> Vec<CommittedOffset> {
    let new = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
        topic.partitions.iter().map(|part| CommittedOffset {
            partition: TopicPartition { topic: topic.name.clone(), partition: part.partition_index },
            offset: part.committed_offset,
            metadata: part.metadata.clone().unwrap_or_default(),
            error: part.error_code,
        })
    });
    let old = answer.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|part| CommittedOffset {
            partition: TopicPartition { topic: topic.name.clone(), partition: part.partition_index },
            offset: part.committed_offset,
            metadata: part.metadata.clone().unwrap_or_default(),
            error: part.error_code,
        })
    });
    new.chain(old).collect()
}
