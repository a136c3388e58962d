//! A consumer in a group: joins, is assigned partitions, keeps alive, commits (classic protocol, assignor `range`).
//!
//! [`GroupConsumer::poll`] drives everything: it heartbeats when it is time, joins again when the group rebalances, and
//! fetches. Call it at least once per session time-out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_protocol::{
    AssignedPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use esker_protocol::messages::heartbeat::HeartbeatRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use esker_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_protocol::primitives::{Reader, Str, Writer};
use tokio::time::Instant;

use crate::{Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, StartAt};

/// How a member behaves.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The group.
    pub group: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long it may take to rejoin.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_every: Duration,
    /// Where to begin when the group has no offset.
    pub reset: StartAt,
    /// Where records are fetched with.
    pub fetch: ConsumerConfig,
}

impl GroupConfig {
    /// Defaults for a group and its topics.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            group: group.into(),
            topics,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_every: Duration::from_secs(3),
            reset: StartAt::End,
            fetch: ConsumerConfig::default(),
        }
    }
}

/// A member of a group.
#[derive(Debug)]
pub struct GroupConsumer {
    config: GroupConfig,
    consumer: Consumer,
    member_id: Str,
    generation: i32,
    coordinator: Option<i32>,
    next_heartbeat: Instant,
    /// Offset after the last record that was given out, by partition.
    done: BTreeMap<(String, i32), i64>,
}

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

impl GroupConsumer {
    /// A member that has not joined yet.
    pub fn new(client: Client, config: GroupConfig) -> Self {
        let consumer = Consumer::new(client, config.fetch.clone());
        Self {
            config,
            consumer,
            member_id: Str::default(),
            generation: -1,
            coordinator: None,
            next_heartbeat: Instant::now(),
            done: BTreeMap::new(),
        }
    }

    /// The partitions it has now.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.consumer.positions().keys().cloned().collect()
    }

    /// Records that are there; joins first if need be. An empty list is nothing for now.
    pub async fn poll(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        if self.generation < 0 {
            self.join().await?;
        }
        if Instant::now() >= self.next_heartbeat {
            self.heartbeat().await?;
            if self.generation < 0 {
                return Ok(Vec::new());
            }
        }
        if self.consumer.positions().is_empty() {
            let pause = self.config.fetch.max_wait.min(self.config.heartbeat_every);
            tokio::time::sleep(pause).await;
            return Ok(Vec::new());
        }
        let records = self.consumer.poll().await?;
        for record in &records {
            self.done.insert((record.topic.clone(), record.partition), record.offset + 1);
        }
        Ok(records)
    }

    /// Commits what was given out.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        if self.done.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in &self.done {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                ..OffsetCommitRequestPartition::default()
            });
        }
        let request = OffsetCommitRequest {
            group_id: Str::copy(&self.config.group),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.clone(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| OffsetCommitRequestTopic {
                    name: Str::copy(name),
                    partitions,
                    ..OffsetCommitRequestTopic::default()
                })
                .collect(),
            ..OffsetCommitRequest::default()
        };
        let node = self.node().await?;
        // Version 9 is the last that names topics.
        let response = self.consumer.client().request_limited(Some(node), &request, 9, Duration::ZERO).await?;
        for p in response.topics.iter().flat_map(|t| &t.partitions) {
            ClientError::check("commit", p.error_code, None)?;
        }
        self.done.clear();
        Ok(())
    }

    /// Leaves the group, so that others need not wait for the session to end.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        if self.generation < 0 {
            return Ok(());
        }
        let node = self.node().await?;
        let member = MemberIdentity { member_id: self.member_id.clone(), ..MemberIdentity::default() };
        let request = LeaveGroupRequest {
            group_id: Str::copy(&self.config.group),
            members: vec![member],
            ..LeaveGroupRequest::default()
        };
        let response = self.consumer.client().request(Some(node), &request).await?;
        ClientError::check("leave group", response.error_code, None)
    }

    async fn node(&mut self) -> Result<i32, ClientError> {
        if let Some(node) = self.coordinator {
            return Ok(node);
        }
        let node = self.consumer.client().coordinator(&self.config.group).await?;
        self.coordinator = Some(node);
        Ok(node)
    }

    async fn heartbeat(&mut self) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: Str::copy(&self.config.group),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: None,
        };
        let node = self.node().await?;
        self.next_heartbeat = Instant::now() + self.config.heartbeat_every;
        match self.consumer.client().request(Some(node), &request).await {
            Ok(response) if !response.error_code.is_error() => Ok(()),
            Ok(response) => self.lost(response.error_code),
            Err(error) if error.is_retriable() => {
                self.coordinator = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The group moved on: what to do about it.
    fn lost(&mut self, code: ErrorCode) -> Result<(), ClientError> {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS => self.generation = -1,
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
                self.generation = -1;
                self.member_id = Str::default();
            }
            code if code.is_retriable() => self.coordinator = None,
            code => return Err(ClientError::broker(format!("group {}", self.config.group), code)),
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), ClientError> {
        loop {
            let node = self.node().await?;
            let request = self.join_request()?;
            let wait = self.config.rebalance_timeout;
            let joined = match self.consumer.client().request_limited(Some(node), &request, i16::MAX, wait).await {
                Ok(joined) => joined,
                Err(error) if error.is_retriable() => {
                    self.coordinator = None;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match joined.error_code {
                ErrorCode::NONE => {
                    self.member_id = joined.member_id.clone();
                    if self.sync(node, &joined).await? {
                        return Ok(());
                    }
                }
                ErrorCode::MEMBER_ID_REQUIRED => self.member_id = joined.member_id,
                code => {
                    self.lost(code)?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn join_request(&self) -> Result<JoinGroupRequest, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.config.topics.iter().map(|t| Str::copy(t)).collect(),
            ..ConsumerProtocolSubscription::default()
        };
        Ok(JoinGroupRequest {
            group_id: Str::copy(&self.config.group),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: vec![JoinGroupRequestProtocol { name: ASSIGNOR.into(), metadata: versioned(&subscription)? }],
            ..JoinGroupRequest::default()
        })
    }

    /// Brings or fetches the assignment; false if the group rebalances again.
    async fn sync(&mut self, node: i32, joined: &JoinGroupResponse) -> Result<bool, ClientError> {
        let assignments = if joined.leader == joined.member_id { self.assign(joined).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: Str::copy(&self.config.group),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(ASSIGNOR.into()),
            assignments,
            ..SyncGroupRequest::default()
        };
        let wait = self.config.rebalance_timeout;
        let synced = self.consumer.client().request_limited(Some(node), &request, i16::MAX, wait).await?;
        if synced.error_code.is_error() {
            self.lost(synced.error_code)?;
            return Ok(false);
        }
        self.generation = joined.generation_id;
        self.next_heartbeat = Instant::now() + self.config.heartbeat_every;
        self.take(synced.assignment).await?;
        Ok(true)
    }

    /// As leader: ranges of each topic's partitions to those who want it.
    async fn assign(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut wanted: BTreeMap<Str, BTreeSet<Str>> = BTreeMap::new();
        for member in &joined.members {
            let mut r = Reader::new(member.metadata.clone());
            let version = r.i16()?.clamp(0, ConsumerProtocolSubscription::SCHEMA.versions.last);
            for topic in ConsumerProtocolSubscription::decode(&mut r, version)?.topics {
                wanted.entry(topic).or_default().insert(member.member_id.clone());
            }
        }
        let mut given: BTreeMap<Str, Vec<AssignedPartitions>> = BTreeMap::new();
        for (topic, members) in &wanted {
            let Ok(view) = self.consumer.client().topic(topic).await else { continue };
            for (member, partitions) in
                ranges(view.partitions.len(), members.len()).into_iter().zip(members).map(|(r, m)| (m, r))
            {
                given.entry(member.clone()).or_default().push(AssignedPartitions { topic: topic.clone(), partitions });
            }
        }
        let assignment = |member: &Str| {
            let assigned_partitions = given.get(member).cloned().unwrap_or_default();
            let assignment =
                ConsumerProtocolAssignment { assigned_partitions, ..ConsumerProtocolAssignment::default() };
            Ok(SyncGroupRequestAssignment { member_id: member.clone(), assignment: versioned(&assignment)? })
        };
        joined.members.iter().map(|m| assignment(&m.member_id)).collect()
    }

    async fn take(&mut self, assignment: Bytes) -> Result<(), ClientError> {
        let mut mine = BTreeSet::new();
        if !assignment.is_empty() {
            let mut r = Reader::new(assignment);
            let version = r.i16()?.clamp(0, ConsumerProtocolAssignment::SCHEMA.versions.last);
            for topic in ConsumerProtocolAssignment::decode(&mut r, version)?.assigned_partitions {
                mine.extend(topic.partitions.iter().map(|p| (topic.topic.to_string(), *p)));
            }
        }
        for (topic, partition) in self.assignment() {
            self.consumer.unassign(&topic, partition);
        }
        self.done.clear();
        let committed = self.consumer.client().group_offsets(&self.config.group).await?;
        for (topic, partition) in mine {
            let known = committed.iter().find(|o| o.topic == topic && o.partition == partition);
            let start = known.map_or(self.config.reset, |o| StartAt::Offset(o.offset));
            self.consumer.assign(&topic, partition, start).await?;
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A message of the consumer protocol, version 0 in front.
fn versioned<M: Message>(message: &M) -> Result<Bytes, ClientError> {
    let mut w = Writer::new();
    w.put_i16(0);
    message.encode(&mut w, 0)?;
    Ok(w.finish().into_bytes())
}

/// `partitions` in as many neighbouring ranges as there are members; the first ones get what does not divide.
fn ranges(partitions: usize, members: usize) -> Vec<Vec<i32>> {
    let (each, more) = (partitions / members.max(1), partitions % members.max(1));
    let mut next = 0i32;
    (0..members)
        .map(|at| {
            let count = i32::try_from(each + usize::from(at < more)).unwrap_or(i32::MAX);
            let range = (next..next + count).collect();
            next += count;
            range
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_cover_everything_once() {
        assert_eq!(super::ranges(5, 2), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(super::ranges(1, 3), [vec![0], vec![], vec![]]);
        for (partitions, members) in [(0, 1), (7, 3), (3, 7), (12, 4)] {
            let all: Vec<i32> = super::ranges(partitions, members).concat();
            assert_eq!(all, (0..partitions as i32).collect::<Vec<_>>());
        }
    }
}
