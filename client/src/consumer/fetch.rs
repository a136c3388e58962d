//! Fetches: one request under way to each broker that leads assigned partitions, for all of them that have room.

use std::collections::HashMap;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::primitives::Str;
use tokio::time::Instant;

use super::assigned::{Consumer, Fetched};
use super::config::{AutoOffsetReset, Isolation, StartAt};
use super::decode::decode;
use crate::client::{Client, Target};
use crate::error::Error;
use crate::metadata::TopicPartition;

/// The last version that names topics instead of giving their ids.
const FETCH: i16 = 12;

impl Consumer {
    /// Sends a fetch to every broker that has none under way and leads partitions with room.
    pub(super) fn send_fetches(&mut self) {
        let cluster = self.client.cluster();
        let now = Instant::now();
        let mut by_node: HashMap<i32, Vec<(TopicPartition, FetchPartition)>> = HashMap::new();
        let mut lost = Vec::new();
        for tp in &self.order {
            let Some(slot) = self.slots.get_mut(tp) else { continue };
            let ready = slot.position.is_some()
                && !slot.paused
                && slot.buffered_bytes < self.config.buffer_bytes
                && slot.not_before.is_none_or(|at| at <= now);
            if !ready {
                continue;
            }
            let partition = cluster.topics.get(&tp.topic).and_then(|topic| topic.partition(tp.partition));
            let Some((leader, epoch)) = partition.and_then(|p| Some((p.leader?, p.leader_epoch))) else {
                slot.not_before = Some(now + self.client.config().retry_backoff);
                lost.push(tp.topic.clone());
                continue;
            };
            if self.busy.contains_key(&leader) {
                continue;
            }
            let ask = FetchPartition {
                partition: tp.partition,
                current_leader_epoch: epoch,
                fetch_offset: slot.fetch_at,
                partition_max_bytes: self.config.partition_max_bytes,
                ..FetchPartition::default()
            };
            by_node.entry(leader).or_default().push((tp.clone(), ask));
        }
        for (node, partitions) in by_node {
            self.send_fetch(node, partitions);
        }
        if !lost.is_empty() {
            self.refresh_topics(lost);
        }
    }

    fn send_fetch(&mut self, node: i32, partitions: Vec<(TopicPartition, FetchPartition)>) {
        let mut topics: HashMap<Str, Vec<FetchPartition>> = HashMap::new();
        let mut asked = HashMap::new();
        for (tp, ask) in partitions {
            let era = self.slots.get(&tp).map_or(0, |slot| slot.era);
            asked.insert(tp.clone(), (era, ask.fetch_offset));
            topics.entry(tp.topic).or_default().push(ask);
        }
        // While records are ready to be returned, `poll` does not wait for the next ones.
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.config.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.min_bytes,
            max_bytes: self.config.max_bytes,
            isolation_level: i8::from(self.config.isolation == Isolation::ReadCommitted),
            topics: topics
                .into_iter()
                .map(|(topic, partitions)| FetchTopic { topic, partitions, ..FetchTopic::default() })
                .collect(),
            rack_id: self.config.rack.clone(),
            ..FetchRequest::default()
        };
        self.busy.insert(node, 1);
        let (client, purpose) = (self.client.clone(), self.purpose);
        let patience = self.client.request_timeout() + self.config.max_wait;
        self.fetches.push(Box::pin(async move {
            let result = async {
                let connection = client.connection(&Target::Node(node), purpose).await?;
                let version = connection.version::<FetchRequest>(FETCH)?;
                Ok(connection.request(version, &request, Some(patience)).await?)
            };
            Fetched { node, asked, result: result.await }
        }));
    }

    /// Takes an answer over into the buffers.
    pub(super) fn take_over(&mut self, fetched: Fetched) -> Result<(), Error> {
        self.busy.remove(&fetched.node);
        let response = match fetched.result {
            Ok(response) if response.error_code.is_error() => Err(Error::refused("a fetch", response.error_code, None)),
            other => other,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, node = fetched.node, "a fetch failed");
                let again = Instant::now() + self.client.config().retry_backoff;
                let topics = fetched.asked.keys().map(|tp| tp.topic.clone()).collect();
                for tp in fetched.asked.keys() {
                    if let Some(slot) = self.slots.get_mut(tp) {
                        slot.not_before = Some(again);
                    }
                }
                self.refresh_topics(topics);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut result = Ok(());
        for topic in response.responses {
            for data in topic.partitions {
                let tp = TopicPartition { topic: topic.topic.clone(), partition: data.partition_index };
                let Some((era, from)) = fetched.asked.get(&tp).copied() else { continue };
                if let Err(error) = self.take_partition(&tp, era, from, data) {
                    result = Err(error);
                }
            }
        }
        result
    }

    fn take_partition(&mut self, tp: &TopicPartition, era: u64, from: i64, data: PartitionData) -> Result<(), Error> {
        let reset = self.config.reset;
        let backoff = self.client.config().retry_backoff;
        // The name in the map does not hold the answer's frame.
        let Some((tp, _)) = self.slots.get_key_value(tp) else { return Ok(()) };
        let tp = tp.clone();
        let Some(slot) = self.slots.get_mut(&tp).filter(|slot| slot.era == era && slot.fetch_at == from) else {
            return Ok(());
        };
        match data.error_code {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let start = match reset {
                    AutoOffsetReset::Earliest => StartAt::Earliest,
                    AutoOffsetReset::Latest => StartAt::Latest,
                    AutoOffsetReset::None => {
                        slot.not_before = Some(Instant::now() + backoff);
                        return Err(Error::NoOffset {
                            topic: tp.topic.to_string(),
                            partition: tp.partition,
                            offset: from,
                        });
                    }
                };
                // What is buffered is sound; the reset begins behind it.
                if slot.buffered.is_empty() {
                    slot.start = start;
                    slot.position = None;
                }
                return Ok(());
            }
            code => {
                slot.not_before = Some(Instant::now() + backoff);
                if code.is_retriable() || code == ErrorCode::FENCED_LEADER_EPOCH {
                    self.refresh_topics(vec![tp.topic]);
                    return Ok(());
                }
                return Err(Error::refused(tp.to_string(), code, None));
            }
        }
        let end = match self.config.isolation {
            Isolation::ReadCommitted => data.last_stable_offset,
            Isolation::ReadUncommitted => data.high_watermark,
        };
        slot.end = Some(end);
        let bytes = data.records.unwrap_or_default();
        let aborted = data.aborted_transactions.unwrap_or_default();
        let size = bytes.len();
        let decoded = match decode(&tp, from, bytes, &aborted, &self.config) {
            Ok(decoded) => decoded,
            Err(error) => {
                slot.not_before = Some(Instant::now() + backoff);
                return Err(error);
            }
        };
        slot.not_before = None;
        if let Some(next) = decoded.next.filter(|next| *next > slot.fetch_at) {
            slot.fetch_at = next;
        }
        slot.at_end = slot.fetch_at >= end;
        if !decoded.records.is_empty() {
            slot.buffered_bytes += size;
            slot.buffered.extend(decoded.records);
        } else if slot.buffered.is_empty() {
            // Only markers and aborted records: nothing to return, but the position moves.
            slot.position = Some(slot.fetch_at);
        }
        Ok(())
    }

    /// Starts a refresh of the leaders of topics, without waiting for it.
    fn refresh_topics(&self, topics: Vec<Str>) {
        let client: Client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.refresh(&topics).await {
                tracing::debug!(%error, "metadata cannot be refreshed");
            }
        });
    }
}
