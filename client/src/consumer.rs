//! The consumer: reads partitions that it is given, from where it is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::primitives::Str;
use esker_protocol::records::Batches;

use crate::{Client, ClientError};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the log start.
    Start,
    /// Behind the last record.
    End,
    /// At this offset.
    Offset(i64),
    /// So many records before the end.
    Last(i64),
    /// At the first record that is not older than this, in ms since 1970.
    Time(i64),
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// How long a broker may hold a fetch when there is nothing.
    pub max_wait: Duration,
    /// Bytes over all partitions of one fetch.
    pub max_bytes: i32,
    /// Bytes of one partition.
    pub partition_max_bytes: i32,
    /// What one batch may unpack to.
    pub max_batch_bytes: usize,
    /// Records of transactions only once they are committed.
    pub read_committed: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            max_bytes: 16 << 20,
            partition_max_bytes: 4 << 20,
            max_batch_bytes: 256 << 20,
            read_committed: false,
        }
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its time in ms since 1970.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    positions: BTreeMap<(String, i32), i64>,
    buffered: VecDeque<ConsumedRecord>,
    /// Which broker is asked next.
    turn: usize,
}

impl Consumer {
    /// A consumer without partitions.
    pub fn new(client: Client, config: ConsumerConfig) -> Self {
        Self { client, config, positions: BTreeMap::new(), buffered: VecDeque::new(), turn: 0 }
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Adds a partition.
    pub async fn assign(&mut self, topic: &str, partition: i32, start: StartAt) -> Result<(), ClientError> {
        let offset = self.resolve(topic, partition, start).await?;
        self.positions.insert((topic.to_owned(), partition), offset);
        Ok(())
    }

    /// Takes a partition away; records of it that were read ahead are dropped.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.positions.remove(&(topic.to_owned(), partition));
        self.buffered.retain(|r| r.topic != topic || r.partition != partition);
    }

    /// The partitions, with the offset that is read next from each broker.
    pub fn positions(&self) -> &BTreeMap<(String, i32), i64> {
        &self.positions
    }

    /// The offset that `start` means.
    pub async fn resolve(&self, topic: &str, partition: i32, start: StartAt) -> Result<i64, ClientError> {
        match start {
            StartAt::Offset(offset) => Ok(offset),
            StartAt::Start => Ok(self.offset_at(topic, partition, EARLIEST).await?.unwrap_or(0)),
            StartAt::End => Ok(self.offset_at(topic, partition, LATEST).await?.unwrap_or(0)),
            StartAt::Last(count) => {
                let end = self.offset_at(topic, partition, LATEST).await?.unwrap_or(0);
                let first = self.offset_at(topic, partition, EARLIEST).await?.unwrap_or(0);
                Ok(end.saturating_sub(count).max(first))
            }
            StartAt::Time(timestamp) => match self.offset_at(topic, partition, timestamp).await? {
                Some(offset) => Ok(offset),
                None => Ok(self.offset_at(topic, partition, LATEST).await?.unwrap_or(0)),
            },
        }
    }

    /// The first offset at or after a time, or (-1) the end, or (-2) the start of a partition.
    pub async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>, ClientError> {
        let wanted = ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() };
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.config.read_committed),
            topics: vec![ListOffsetsTopic { name: Str::copy(topic), partitions: vec![wanted] }],
            ..ListOffsetsRequest::default()
        };
        let what = format!("offsets of {topic}-{partition}");
        self.client
            .retry(|| async {
                let leader = self.client.leader(topic, partition).await?;
                let response = self.client.request(Some(leader), &request).await?;
                let unknown = || ClientError::broker(&what, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                let answer = response.topics.iter().flat_map(|t| &t.partitions).next().ok_or_else(unknown)?;
                ClientError::check(&what, answer.error_code, None)?;
                Ok(Some(answer.offset).filter(|offset| *offset >= 0))
            })
            .await
    }

    /// The next record; `None` when nothing came for as long as a fetch may wait.
    pub async fn next(&mut self) -> Result<Option<ConsumedRecord>, ClientError> {
        if self.buffered.is_empty() {
            self.fetch().await?;
        }
        Ok(self.buffered.pop_front())
    }

    /// All records that are there, at most one fetch from each broker.
    pub async fn poll(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        if self.buffered.is_empty() {
            self.fetch().await?;
        }
        Ok(self.buffered.drain(..).collect())
    }

    async fn fetch(&mut self) -> Result<(), ClientError> {
        let view = self.client.view();
        let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<FetchPartition>>> = BTreeMap::new();
        let mut lost = Vec::new();
        for ((topic, partition), offset) in &self.positions {
            let known = view.topics.get(topic).and_then(|t| t.partitions.iter().find(|p| p.partition == *partition));
            let Some(leader) = known.map(|p| p.leader).filter(|leader| *leader >= 0) else {
                lost.push(topic.as_str());
                continue;
            };
            by_leader.entry(leader).or_default().entry(topic).or_default().push(FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                partition_max_bytes: self.config.partition_max_bytes,
                ..FetchPartition::default()
            });
        }
        if !lost.is_empty() {
            self.client.refresh(Some(&lost)).await?;
        }
        let count = by_leader.len();
        if count == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(());
        }
        self.turn = (self.turn + 1) % count;
        let Some((leader, topics)) = by_leader.into_iter().nth(self.turn) else { return Ok(()) };
        let topics = topics.into_iter().map(|(topic, partitions)| FetchTopic {
            topic: Str::copy(topic),
            partitions,
            ..FetchTopic::default()
        });
        let wait = if count == 1 { self.config.max_wait } else { self.config.max_wait / 10 };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.config.max_bytes,
            isolation_level: i8::from(self.config.read_committed),
            topics: topics.collect(),
            ..FetchRequest::default()
        };
        // Version 12 is the last that names topics.
        let response = match self.client.request_limited(Some(leader), &request, 12, wait).await {
            Ok(response) => response,
            Err(error) if error.is_retriable() => return self.look_again(&error).await,
            Err(error) => return Err(error),
        };
        ClientError::check("fetch", response.error_code, None)?;
        for topic in response.responses {
            for data in topic.partitions {
                self.take(&topic.topic, data).await?;
            }
        }
        Ok(())
    }

    async fn look_again(&self, error: &ClientError) -> Result<(), ClientError> {
        tracing::debug!(%error, "fetching again");
        tokio::time::sleep(Duration::from_millis(50)).await;
        // If nobody can be reached now, the next fetch finds out.
        let _ = self.client.refresh(Some(&[])).await;
        Ok(())
    }

    async fn take(&mut self, topic: &str, data: PartitionData) -> Result<(), ClientError> {
        let key = (topic.to_owned(), data.partition_index);
        let what = format!("fetch from {topic}-{}", data.partition_index);
        if let Err(error) = ClientError::check(&what, data.error_code, None) {
            return if error.is_retriable() { self.look_again(&error).await } else { Err(error) };
        }
        let Some(position) = self.positions.get_mut(&key) else { return Ok(()) };
        let damaged = |offset: i64, reason: String| ClientError::Records {
            topic: topic.to_owned(),
            partition: data.partition_index,
            offset,
            reason,
        };
        let aborted: Vec<(i64, i64)> =
            data.aborted_transactions.iter().flatten().map(|a| (a.producer_id, a.first_offset)).collect();
        for batch in Batches::new(data.records.unwrap_or_default()) {
            // What does not fit whole at the end comes again.
            let Ok(batch) = batch else { break };
            let header = batch.header;
            batch.verify_crc().map_err(|e| damaged(header.base_offset, e.to_string()))?;
            let gone = header.attributes.is_transactional()
                && aborted.iter().any(|(id, first)| *id == header.producer_id && *first <= header.base_offset);
            if !header.attributes.is_control() && !(self.config.read_committed && gone) {
                let records = batch
                    .records(self.config.max_batch_bytes)
                    .map_err(|e| damaged(header.base_offset, e.to_string()))?;
                for record in records {
                    let record = record.map_err(|e| damaged(header.base_offset, e.to_string()))?;
                    if record.offset < *position {
                        continue;
                    }
                    let headers = record
                        .headers
                        .iter()
                        .filter_map(|h| h.ok())
                        .map(|h| (h.name().into_owned(), h.value.map(Bytes::copy_from_slice)));
                    self.buffered.push_back(ConsumedRecord {
                        topic: topic.to_owned(),
                        partition: data.partition_index,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        headers: headers.collect(),
                        key: record.key,
                        value: record.value,
                    });
                }
            }
            *position = (*position).max(header.next_offset());
        }
        Ok(())
    }
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
