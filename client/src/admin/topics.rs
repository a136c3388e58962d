//! Topics: list, describe, create, delete, grow; deleting records.

use std::collections::HashMap;
use std::sync::Arc;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use esker_protocol::primitives::{Str, Uuid};

use super::{Admin, each};
use crate::client::Target;
use crate::error::Error;
use crate::metadata::{Topic, TopicPartition};

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Name.
    pub name: Str,
    /// Partitions; -1 leaves it to the broker (num.partitions).
    pub partitions: i32,
    /// Replicas; -1 leaves it to the broker (default.replication.factor).
    pub replication: i16,
    /// Configs of its own.
    pub configs: Vec<(Str, Str)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    #[must_use]
    pub fn new(name: impl Into<Str>) -> Self {
        Self { name: name.into(), partitions: -1, replication: -1, configs: Vec::new() }
    }
}

/// What was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; all zero where the broker does not return it.
    pub id: Uuid,
    /// Partitions; -1 where the broker does not return them.
    pub partitions: i32,
    /// Replicas; likewise.
    pub replication: i16,
}

impl Admin {
    /// All topics, by name.
    ///
    /// # Errors
    /// No broker answers.
    #[boxed]
    pub async fn topics(&self) -> Result<Vec<Arc<Topic>>, Error> {
        let answer = self.client.retry("the topics", || self.client.metadata(None, false)).await?;
        let cluster = self.client.cluster();
        let known = answer.topics.iter().filter_map(|topic| cluster.topics.get(topic.name.as_deref()?).cloned());
        let mut topics: Vec<_> = known.collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Describes one topic, without the cache.
    ///
    /// # Errors
    /// It is not there.
    #[boxed]
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let answer = self.client.refresh(&[Str::copy(name)]).await?;
        let code = answer.topics.first().map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error_code);
        each(|| format!("topic '{name}'"), code, None)?;
        let missing = || Error::refused(format!("topic '{name}'"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
        self.client.cluster().topics.get(name).cloned().ok_or_else(missing)
    }

    /// Creates topics; with `validate_only`, only checks the request.
    ///
    /// # Errors
    /// No broker answers. Each topic has a result of its own.
    #[boxed]
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<Result<CreatedTopic, Error>>, Error> {
        let creatable = |topic: &NewTopic| CreatableTopic {
            name: topic.name.clone(),
            num_partitions: topic.partitions,
            replication_factor: topic.replication,
            configs: topic
                .configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) })
                .collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let answer = self.at_controller("create topics", || self.client.request(Target::Controller, request.clone()));
        let answer = answer.await?;
        let result = |topic: &NewTopic| {
            let missing = || Error::Invalid(format!("the broker left topic '{}' out of its answer", topic.name));
            let found = answer.topics.iter().find(|found| found.name == topic.name).ok_or_else(missing)?;
            each(|| format!("topic '{}'", topic.name), found.error_code, found.error_message.as_ref())?;
            Ok(CreatedTopic {
                id: found.topic_id,
                partitions: found.num_partitions,
                replication: found.replication_factor,
            })
        };
        Ok(topics.iter().map(result).collect())
    }

    /// Deletes topics by name.
    ///
    /// # Errors
    /// No broker answers. Each topic has a result of its own.
    #[boxed]
    pub async fn delete_topics(&self, names: &[Str]) -> Result<Vec<Result<(), Error>>, Error> {
        let timeout_ms = self.timeout_ms();
        let request = |version| {
            if version >= 6 {
                let state = |name: &Str| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
                DeleteTopicsRequest { topics: names.iter().map(state).collect(), timeout_ms, ..Default::default() }
            } else {
                DeleteTopicsRequest { topic_names: names.to_vec(), timeout_ms, ..Default::default() }
            }
        };
        let answer =
            self.at_controller("delete topics", || self.client.request_with(Target::Controller, request)).await?;
        let result = |name: &Str| {
            let missing = || Error::Invalid(format!("the broker left topic '{name}' out of its answer"));
            let found = answer.responses.iter().find(|found| found.name.as_ref() == Some(name)).ok_or_else(missing)?;
            each(|| format!("topic '{name}'"), found.error_code, found.error_message.as_ref())
        };
        let results = names.iter().map(result).collect();
        let _ = self.client.refresh(names).await;
        Ok(results)
    }

    /// Gives a topic more partitions: `count` in all.
    ///
    /// # Errors
    /// The topic is not there, or has as many already.
    #[boxed]
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), Error> {
        let name = Str::copy(topic);
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: name.clone(), count, assignments: None }],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let answer = self.at_controller("add partitions", || self.client.request(Target::Controller, request.clone()));
        for result in answer.await?.results {
            each(|| format!("topic '{topic}'"), result.error_code, result.error_message.as_ref())?;
        }
        self.client.refresh(&[name]).await.map(drop)
    }

    /// Deletes the records before an offset in each partition (-1: all that are there). The result is the new first offset.
    ///
    /// # Errors
    /// A partition is not there or has no leader, or the offset lies past its end.
    #[boxed]
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let mut low = HashMap::new();
        for (tp, offset) in before {
            let attempt = || async {
                let leader = self.leader(tp).await?;
                let partition = DeleteRecordsPartition { partition_index: tp.partition, offset: *offset };
                let topic = DeleteRecordsTopic { name: tp.topic.clone(), partitions: vec![partition] };
                let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: self.timeout_ms() };
                let answer = self.client.request(Target::Node(leader), request).await?;
                let part = answer.topics.first().and_then(|topic| topic.partitions.first());
                let missing = || Error::Invalid(format!("the broker left {tp} out of its answer"));
                let part = part.ok_or_else(missing)?;
                each(|| tp.to_string(), part.error_code, None)?;
                Ok(part.low_watermark)
            };
            low.insert(tp.clone(), self.client.retry("delete records", attempt).await?);
        }
        Ok(low)
    }

    pub(super) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.request_timeout().as_millis()).unwrap_or(i32::MAX)
    }

    /// The leader of a partition that must be there.
    pub(super) async fn leader(&self, tp: &TopicPartition) -> Result<i32, Error> {
        let topic = self.client.topic(&tp.topic, false).await?;
        let partition = topic.partition(tp.partition).ok_or_else(|| {
            let count = topic.partitions.len();
            Error::Invalid(format!(
                "topic '{}' has no partition {}; it has {count}, counted from 0",
                tp.topic, tp.partition
            ))
        })?;
        partition.leader.ok_or_else(|| Error::refused(tp.to_string(), ErrorCode::LEADER_NOT_AVAILABLE, None))
    }

    /// Sends to the controller until one is found. A connection that broke is not tried again: the change may have been made.
    async fn at_controller<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match attempt().await {
            Err(Error::Connection(crate::ConnectionError::Connect { .. })) => self.client.retry(what, attempt).await,
            other => other,
        }
    }
}
