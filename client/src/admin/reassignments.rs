//! Reassignments of partitions (KIP-455) and elections of preferred leaders (KIP-460).

use std::collections::BTreeMap;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use esker_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use esker_protocol::primitives::Str;

use super::{Admin, each};
use crate::client::Target;
use crate::error::Error;
use crate::metadata::TopicPartition;

/// Kafka's number for elections of preferred leaders.
const PREFERRED: i8 = 0;

/// A reassignment in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The partition.
    pub partition: TopicPartition,
    /// All its replicas, those that are added or removed among them.
    pub replicas: Vec<i32>,
    /// Replicas that are added.
    pub adding: Vec<i32>,
    /// Replicas that are removed.
    pub removing: Vec<i32>,
}

impl Admin {
    /// Begins reassignments to these replicas; `None` cancels the reassignment that is in progress. Returns a result for each.
    ///
    /// # Errors
    /// No broker answers, or the cluster has no active controller.
    #[boxed]
    pub async fn alter_reassignments(
        &self,
        targets: &[(TopicPartition, Option<Vec<i32>>)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut topics: BTreeMap<Str, Vec<ReassignablePartition>> = BTreeMap::new();
        for (tp, replicas) in targets {
            let partition = ReassignablePartition { partition_index: tp.partition, replicas: replicas.clone() };
            topics.entry(tp.topic.clone()).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| ReassignableTopic { name, partitions }).collect();
        let request =
            AlterPartitionReassignmentsRequest { timeout_ms: self.timeout_ms(), topics, ..Default::default() };
        // The same request again changes nothing, so that it may be repeated after a lost connection.
        let attempt = || async {
            let answer = self.client.request(Target::Any, request.clone()).await?;
            each(|| "reassignments".to_owned(), answer.error_code, answer.error_message.as_ref())?;
            Ok(answer)
        };
        let answer = self.client.retry("reassignments", attempt).await?;
        let result = |(tp, _): &(TopicPartition, Option<Vec<i32>>)| {
            let topic = answer.responses.iter().find(|topic| topic.name == tp.topic);
            let found = topic.and_then(|topic| topic.partitions.iter().find(|p| p.partition_index == tp.partition));
            let missing = || Error::Invalid(format!("the broker left {tp} out of its answer"));
            let found = found.ok_or_else(missing)?;
            each(|| tp.to_string(), found.error_code, found.error_message.as_ref())
        };
        Ok(targets.iter().map(result).collect())
    }

    /// All reassignments in progress.
    ///
    /// # Errors
    /// No broker answers.
    #[boxed]
    pub async fn list_reassignments(&self) -> Result<Vec<Reassignment>, Error> {
        let request = ListPartitionReassignmentsRequest { timeout_ms: self.timeout_ms(), topics: None };
        let attempt = || async {
            let answer = self.client.request(Target::Any, request.clone()).await?;
            each(|| "reassignments".to_owned(), answer.error_code, answer.error_message.as_ref())?;
            Ok(answer)
        };
        let answer = self.client.retry("reassignments", attempt).await?;
        let all = answer.topics.into_iter().flat_map(|topic| {
            topic.partitions.into_iter().map(move |found| Reassignment {
                partition: TopicPartition { topic: topic.name.clone(), partition: found.partition_index },
                replicas: found.replicas,
                adding: found.adding_replicas,
                removing: found.removing_replicas,
            })
        });
        Ok(all.collect())
    }

    /// Makes the preferred replicas of these partitions their leaders. A partition that needs no election is no error. Returns a result for
    /// each partition of the answer.
    ///
    /// # Errors
    /// No broker answers, or the cluster has no active controller.
    #[boxed]
    pub async fn elect_preferred_leaders(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Result<(), Error>)>, Error> {
        let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
        for tp in partitions {
            topics.entry(tp.topic.clone()).or_default().push(tp.partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect();
        let request = ElectLeadersRequest {
            election_type: PREFERRED,
            topic_partitions: Some(topics),
            timeout_ms: self.timeout_ms(),
        };
        let attempt = || async {
            let answer = self.client.request(Target::Any, request.clone()).await?;
            each(|| "elections".to_owned(), answer.error_code, None)?;
            Ok(answer)
        };
        let answer = self.client.retry("elections", attempt).await?;
        let results = answer.replica_election_results.into_iter().flat_map(|topic| {
            topic.partition_result.into_iter().map(move |found| {
                let tp = TopicPartition { topic: topic.topic.clone(), partition: found.partition_id };
                let result = match found.error_code {
                    ErrorCode::ELECTION_NOT_NEEDED => Ok(()),
                    code => each(|| tp.to_string(), code, found.error_message.as_ref()),
                };
                (tp, result)
            })
        });
        Ok(results.collect())
    }
}
