//! Offsets of partitions: the first, the last, by time.

use std::collections::HashMap;

use async_recursion::async_recursion as boxed;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::primitives::Str;

use super::{Admin, each};
use crate::ErrorCode;
use crate::client::Target;
use crate::error::Error;
use crate::metadata::TopicPartition;

/// Which offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// Of the first record that is there.
    Earliest,
    /// After the last record.
    Latest,
    /// Of the record with the largest time (KIP-734).
    MaxTimestamp,
    /// Of the first record of this time (ms since 1970) or later.
    Timestamp(i64),
}

impl OffsetSpec {
    fn number(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(at) => at.max(0),
        }
    }
}

/// A requested offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 where no record is that late.
    pub offset: i64,
    /// Time of its record; -1 for the first and last offsets.
    pub timestamp: i64,
    /// Epoch of the leader that wrote it; -1 where that is not known.
    pub leader_epoch: i32,
}

impl Admin {
    /// Offsets of partitions, records of open transactions included.
    ///
    /// # Errors
    /// A partition is not there, or has no leader until the request timeout.
    #[boxed]
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<HashMap<TopicPartition, ListedOffset>, Error> {
        self.list_offsets_with(asked, false).await
    }

    /// As [`Admin::list_offsets`]; with `committed`, as a consumer with read committed sees them.
    ///
    /// # Errors
    /// As [`Admin::list_offsets`].
    #[boxed]
    pub async fn list_offsets_with(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
        committed: bool,
    ) -> Result<HashMap<TopicPartition, ListedOffset>, Error> {
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        self.client.retry("the offsets", || self.try_list(asked, committed, false)).await
    }

    /// As [`Admin::list_offsets`]; a partition that has no leader is left out, and nothing waits for one.
    ///
    /// # Errors
    /// A partition is not there, or its leader does not answer.
    #[boxed]
    pub async fn list_led_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<HashMap<TopicPartition, ListedOffset>, Error> {
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        self.client.retry("the offsets", || self.try_list(asked, false, true)).await
    }

    async fn try_list(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
        committed: bool,
        only_led: bool,
    ) -> Result<HashMap<TopicPartition, ListedOffset>, Error> {
        let mut by_node: HashMap<i32, HashMap<Str, Vec<ListOffsetsPartition>>> = HashMap::new();
        for (tp, spec) in asked {
            let leader = match self.leader(tp).await {
                Err(error) if only_led && error.code() == Some(ErrorCode::LEADER_NOT_AVAILABLE) => continue,
                leader => leader?,
            };
            let partition = ListOffsetsPartition {
                partition_index: tp.partition,
                timestamp: spec.number(),
                ..ListOffsetsPartition::default()
            };
            by_node.entry(leader).or_default().entry(tp.topic.clone()).or_default().push(partition);
        }
        let mut found = HashMap::new();
        for (node, topics) in by_node {
            let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions });
            let request = ListOffsetsRequest {
                replica_id: -1,
                isolation_level: i8::from(committed),
                topics: topics.collect(),
                timeout_ms: self.timeout_ms(),
            };
            let answer = self.client.request(Target::Node(node), request).await?;
            for topic in answer.topics {
                for part in topic.partitions {
                    let tp = TopicPartition { topic: topic.name.detached(), partition: part.partition_index };
                    each(|| tp.to_string(), part.error_code, None)?;
                    let listed = ListedOffset {
                        offset: part.offset,
                        timestamp: part.timestamp,
                        leader_epoch: part.leader_epoch,
                    };
                    found.insert(tp, listed);
                }
            }
        }
        Ok(found)
    }
}
