//! Admin: topics, configs, groups, offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::delete_groups::DeleteGroupsRequest;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::list_groups::{ListGroupsRequest, ListedGroup};
use esker_protocol::messages::offset_fetch::OffsetFetchRequest;
use esker_protocol::primitives::Str;

use crate::{Client, ClientError};

/// A topic to make.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; the broker's default if none.
    pub partitions: Option<i32>,
    /// Replicas of each; the broker's default if none.
    pub replication_factor: Option<i16>,
    /// Configs.
    pub configs: Vec<(String, String)>,
}

/// A topic's configs that are not defaults, beside what metadata tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicDetail {
    /// Name and value.
    pub configs: BTreeMap<String, String>,
}

/// A committed offset of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Kafka's number for a topic as a resource with configs.
const TOPIC: i8 = 2;
/// Kafka's numbers for operations on configs, and for the source "set on the topic".
const SET: i8 = 0;
const DELETE: i8 = 1;
const SET_ON_TOPIC: i8 = 1;

impl Client {
    /// Makes a topic.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Str::copy(name),
            value: Some(Str::copy(value)),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::copy(&topic.name),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                assignments: Vec::new(),
                configs: topic.configs.iter().map(config).collect(),
            }],
            ..CreateTopicsRequest::default()
        };
        let response = self.request(None, &request).await?;
        for answer in &response.topics {
            ClientError::check(
                &format!("create topic {}", answer.name),
                answer.error_code,
                answer.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let by_state = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(Str::copy(name)), ..DeleteTopicState::default() }],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let response = match self.request(None, &by_state).await {
            Err(ClientError::Encode(_)) => {
                let by_name = DeleteTopicsRequest { topic_names: vec![Str::copy(name)], topics: vec![], ..by_state };
                self.request_limited(None, &by_name, 5, Duration::ZERO).await?
            }
            outcome => outcome?,
        };
        for answer in &response.responses {
            ClientError::check(&format!("delete topic {name}"), answer.error_code, answer.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Grows a topic to `count` partitions.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: Str::copy(name), count, assignments: None }],
            timeout_ms: 30_000,
            validate_only: false,
        };
        let response = self.request(None, &request).await?;
        for answer in &response.results {
            ClientError::check(&format!("grow topic {name}"), answer.error_code, answer.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Sets (`Some`) and removes (`None`) configs of a topic.
    pub async fn alter_topic(&self, name: &str, changes: &[(String, Option<String>)]) -> Result<(), ClientError> {
        let change = |(config, value): &(String, Option<String>)| AlterableConfig {
            name: Str::copy(config),
            config_operation: if value.is_some() { SET } else { DELETE },
            value: value.as_ref().map(|v| Str::copy(v)),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: Str::copy(name),
                configs: changes.iter().map(change).collect(),
            }],
            validate_only: false,
        };
        let response = self.request(None, &request).await?;
        for answer in &response.responses {
            ClientError::check(&format!("configure topic {name}"), answer.error_code, answer.error_message.as_deref())?;
        }
        Ok(())
    }

    /// What was configured on a topic.
    pub async fn topic_detail(&self, name: &str) -> Result<TopicDetail, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: Str::copy(name),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let response = self.request(None, &request).await?;
        let mut detail = TopicDetail::default();
        for answer in response.results {
            ClientError::check(&format!("configs of {name}"), answer.error_code, answer.error_message.as_deref())?;
            let own = answer.configs.into_iter().filter(|c| c.config_source == SET_ON_TOPIC);
            detail.configs.extend(own.map(|c| (c.name.to_string(), c.value.unwrap_or_default().to_string())));
        }
        Ok(detail)
    }

    /// Deletes records below `offset` (-1: all that are committed). Returns the new log start offset.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ClientError> {
        let leader = self.leader(topic, partition).await?;
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: Str::copy(topic),
                partitions: vec![DeleteRecordsPartition { partition_index: partition, offset }],
            }],
            timeout_ms: 30_000,
        };
        let response = self.request(Some(leader), &request).await?;
        let mut low = -1;
        for answer in response.topics.iter().flat_map(|t| &t.partitions) {
            ClientError::check(&format!("delete records of {topic}-{partition}"), answer.error_code, None)?;
            low = answer.low_watermark;
        }
        Ok(low)
    }

    /// All groups of all brokers.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let view = self.refresh(Some(&[])).await?;
        let mut groups = Vec::new();
        for node in view.nodes.keys() {
            let response = self.request(Some(*node), &ListGroupsRequest::default()).await?;
            ClientError::check("list groups", response.error_code, None)?;
            groups.extend(response.groups);
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// One classic group.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, ClientError> {
        let node = self.coordinator(group).await?;
        let request = DescribeGroupsRequest { groups: vec![Str::copy(group)], ..DescribeGroupsRequest::default() };
        let what = format!("group {group}");
        self.retry(|| async {
            let response = self.request(Some(node), &request).await?;
            let answer = response.groups.into_iter().next().unwrap_or_default();
            ClientError::check(&what, answer.error_code, answer.error_message.as_deref())?;
            Ok(answer)
        })
        .await
    }

    /// What a group has committed.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, ClientError> {
        let node = self.coordinator(group).await?;
        let request = OffsetFetchRequest { group_id: Str::copy(group), topics: None, ..OffsetFetchRequest::default() };
        let what = format!("offsets of group {group}");
        self.retry(|| async {
            // Version 7 is the last for one group.
            let response = self.request_limited(Some(node), &request, 7, Duration::ZERO).await?;
            ClientError::check(&what, response.error_code, None)?;
            let mut offsets = Vec::new();
            for topic in response.topics {
                offsets.extend(topic.partitions.iter().filter(|p| p.committed_offset >= 0).map(|p| GroupOffset {
                    topic: topic.name.to_string(),
                    partition: p.partition_index,
                    offset: p.committed_offset,
                }));
            }
            Ok(offsets)
        })
        .await
    }

    /// Deletes an empty group.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let node = self.coordinator(group).await?;
        let request = DeleteGroupsRequest { groups_names: vec![Str::copy(group)] };
        let response = self.request(Some(node), &request).await?;
        for answer in &response.results {
            ClientError::check(&format!("delete group {group}"), answer.error_code, answer.error_message.as_deref())?;
        }
        Ok(())
    }
}
