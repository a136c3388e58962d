//! The calls of handlers to the group coordinator. Every call finds the group's shard, or returns Kafka's code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_core::controller::Refusal;
use esker_core::coordinator::Writer;
use esker_core::group::consumer::{ConsumerDescription, HeartbeatReply, HeartbeatRequest};
use esker_core::group::{
    Effects, GroupDescription, GroupShard, GroupSummary, Identity, JoinReply, JoinRequest, LeaveReply, Leaving,
    OffsetCommitRequest, OffsetSelection, Rebalance, Reply, SyncReply, SyncRequest,
};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use esker_protocol::records::NO_SEQUENCE;
use esker_storage::{Origin, VerificationGuard};

use super::GroupCoordinator;
use super::shard::ShardHandle;
use crate::replica::{ReplicaManager, TopicRef};

/// Kafka's code for why a group's coordinator cannot answer.
pub type CoordinatorError = ErrorCode;

/// What [`GroupCoordinator::fetch`] finds: topics with partitions and their offsets.
pub type Fetched = Vec<(Str, Vec<(i32, Option<esker_core::group::Committed>)>)>;

/// How far a group is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLag {
    /// The group.
    pub group: Str,
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// Its committed offset.
    pub committed: i64,
    /// Records behind the high watermark, where that is known.
    pub lag: Option<i64>,
}

impl GroupCoordinator {
    /// JoinGroup.
    pub async fn join(&self, image: &MetadataImage, request: JoinRequest) -> JoinReply {
        // As in Kafka the member's id is not repeated.
        let failed = |error| JoinReply::failed(error, &Str::default());
        let parked = self
            .shard_at(image, &request.group)
            .and_then(|s| s.park_request(|s, token| s.join(request, token, self.node.now_ms())));
        match parked {
            Err(error) => failed(error),
            Ok(parked) => match parked.wait_for_reply().await {
                Ok(Reply::Join(reply)) => reply,
                Err(error) => failed(error),
                Ok(Reply::Sync(_)) => failed(ErrorCode::UNKNOWN_SERVER_ERROR),
            },
        }
    }

    /// SyncGroup.
    pub async fn sync(&self, image: &MetadataImage, request: SyncRequest) -> SyncReply {
        let parked = self
            .shard_at(image, &request.group)
            .and_then(|s| s.park_request(|s, token| s.sync(request, token, self.node.now_ms())));
        match parked {
            Err(error) => SyncReply::failed(error),
            Ok(parked) => match parked.wait_for_reply().await {
                Ok(Reply::Sync(reply)) => reply,
                Err(error) => SyncReply::failed(error),
                Ok(Reply::Join(_)) => SyncReply::failed(ErrorCode::UNKNOWN_SERVER_ERROR),
            },
        }
    }

    /// Heartbeat. While groups load, the answer is NONE, as in Kafka.
    pub fn heartbeat(&self, image: &MetadataImage, group: &str, identity: &Identity) -> ErrorCode {
        match self
            .shard_at(image, group)
            .and_then(|s| s.write(|s| Ok(s.heartbeat(group, identity, self.node.now_ms()))))
        {
            Ok((code, _)) => code,
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE,
            Err(code) => code,
        }
    }

    /// LeaveGroup.
    pub async fn leave(
        &self,
        image: &MetadataImage,
        group: &Str,
        members: &[Leaving],
    ) -> Result<Vec<LeaveReply>, CoordinatorError> {
        let shard = self.shard_at(image, group)?;
        let (replies, position) = shard.write(|s| {
            let (replies, effects) = s.leave_with_reasons(group, members, self.node.now_ms());
            Ok((effects, replies))
        })?;
        shard.wait_committed(position).await?;
        replies
    }

    /// OffsetCommit: a code for each offset of the request.
    pub async fn commit(
        &self,
        image: &MetadataImage,
        request: OffsetCommitRequest,
    ) -> Result<Vec<ErrorCode>, CoordinatorError> {
        let shard = self.shard(image, &request.group)?;
        let (codes, position) = shard.write(|s| s.commit(&request, self.node.now_ms()))?;
        shard.wait_committed(position).await?;
        self.metrics.committed(codes.iter().filter(|code| !code.is_error()).count());
        Ok(codes)
    }

    /// TxnOffsetCommit is about to come: the guard that it needs, `None` where its transaction wrote offsets already.
    pub fn begin_verification(
        &self,
        image: &MetadataImage,
        group: &str,
        writer: Writer,
    ) -> Result<Option<VerificationGuard>, CoordinatorError> {
        let log = self.shard(image, group)?.partition().log();
        Ok(log.begin_verification(writer.producer_id, writer.producer_epoch, NO_SEQUENCE))
    }

    /// TxnOffsetCommit: a code for each offset of the request.
    pub async fn commit_in_transaction(
        &self,
        image: &MetadataImage,
        request: OffsetCommitRequest,
        writer: Writer,
        guard: Option<VerificationGuard>,
    ) -> Result<Vec<ErrorCode>, CoordinatorError> {
        let shard = self.shard(image, &request.group)?;
        let origin = match guard {
            Some(guard) => Origin::TransactionalOffsets { guard },
            None => Origin::Coordinator { transaction_v2: false },
        };
        let (codes, position) =
            shard.write_as(origin, |s| s.commit_in_transaction(&request, writer, self.node.now_ms()))?;
        shard.wait_committed(position).await?;
        self.metrics.committed(codes.iter().filter(|code| !code.is_error()).count());
        Ok(codes)
    }

    /// OffsetFetch, by a member if `member` names it and its epoch. Where stable offsets are required, also the partitions that open
    /// transactions may still change.
    pub async fn fetch(
        &self,
        image: &MetadataImage,
        group: &Str,
        member: (Option<&str>, i32),
        selection: &OffsetSelection,
        stable: bool,
    ) -> Result<(Fetched, Vec<(Str, i32)>), CoordinatorError> {
        let shard = self.shard(image, group)?;
        // Both under one lock: a marker in between would make an old offset look stable.
        let (found, position) = shard.write(|s| {
            s.check_fetch(group, member.0, member.1)?;
            let topics = s.fetch(group, selection);
            let all = topics.iter().flat_map(|(topic, list)| list.iter().map(move |(p, _)| (topic, *p)));
            let open = all.filter(|(topic, partition)| stable && s.is_unstable(group, topic, *partition));
            let open = open.map(|(topic, partition)| (topic.clone(), partition)).collect();
            Ok((Effects::default(), (topics, open)))
        })?;
        // A commit that is not answered yet may be lost: no consumer may continue from there.
        shard.wait_committed(position).await?;
        Ok(found)
    }

    /// ConsumerGroupHeartbeat.
    pub async fn consumer_heartbeat(
        &self,
        image: &MetadataImage,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatReply, Refusal> {
        let refused = |code| Refusal { code, message: Str::default() };
        let shard = self.shard_at(image, &request.group).map_err(refused)?;
        let decide = |s: &GroupShard| match s.consumer_heartbeat(request, self.node.now_ms()) {
            Ok((effects, reply)) => Ok((effects, Ok(reply))),
            Err(refusal) => Ok((Effects::default(), Err(refusal))),
        };
        let (reply, position) = shard.write(decide).map_err(refused)?;
        let reply = reply?;
        shard.wait_committed(position).await.map_err(refused)?;
        Ok(reply)
    }

    /// ConsumerGroupDescribe, for one group: `None` if there is no such group, or it is of another kind.
    pub fn describe_consumer(
        &self,
        image: &MetadataImage,
        group: &str,
    ) -> Result<Option<ConsumerDescription>, CoordinatorError> {
        self.shard_at(image, group)?.read(|s| s.describe_consumer(group))
    }

    /// Whether `group.coordinator.rebalance.protocols` has consumer groups.
    pub fn serves_consumer_groups(&self) -> bool {
        self.config.consumer_groups
    }

    /// The shard of a group, which has the cluster's metadata as it is now.
    fn shard_at(&self, image: &MetadataImage, group: &str) -> Result<Arc<ShardHandle<GroupShard>>, CoordinatorError> {
        let shard = self.shard(image, group)?;
        self.update_shard_image(image, &shard)?;
        Ok(shard)
    }

    /// Gives a shard the cluster's metadata as it is now.
    pub(super) fn update_shard_image(
        &self,
        image: &MetadataImage,
        shard: &ShardHandle<GroupShard>,
    ) -> Result<(), CoordinatorError> {
        shard.update(|s| self.config.update_shard_image(s, image))
    }

    /// OffsetDelete: a code for each partition of the request.
    pub async fn delete_offsets(
        &self,
        image: &MetadataImage,
        group: &Str,
        wanted: &[(Str, i32)],
    ) -> Result<Vec<ErrorCode>, CoordinatorError> {
        let shard = self.shard(image, group)?;
        let (codes, position) = shard.write(|s| {
            let (records, codes) = s.delete_offsets(group, wanted)?;
            Ok((Effects { records, ..Effects::default() }, codes))
        })?;
        shard.wait_committed(position).await?;
        Ok(codes)
    }

    /// DeleteGroups, for one group.
    pub async fn delete_group(&self, image: &MetadataImage, group: &Str) -> Result<(), CoordinatorError> {
        let shard = self.shard(image, group)?;
        let (code, position) = shard.write(|s| {
            let mut effects = Effects::default();
            let answers = s.delete_groups(std::slice::from_ref(group), &mut effects);
            Ok((effects, answers.first().map_or(ErrorCode::NONE, |(_, code)| *code)))
        })?;
        shard.wait_committed(position).await?;
        if code.is_error() { Err(code) } else { Ok(()) }
    }

    /// DescribeGroups, for one group: `None` if it is not there.
    pub fn describe(&self, image: &MetadataImage, group: &str) -> Result<Option<GroupDescription>, CoordinatorError> {
        self.shard(image, group)?.read(|s| s.describe(group))
    }

    /// Why a group rebalanced lately, oldest first; `None` if there is no such group.
    pub fn rebalances(&self, image: &MetadataImage, group: &str) -> Result<Option<Vec<Rebalance>>, CoordinatorError> {
        self.shard(image, group)?.read(|s| s.rebalances(group))
    }

    /// ListGroups: the groups here, and whether some are still loading.
    pub fn list(&self) -> (Vec<GroupSummary>, bool) {
        let (mut groups, mut loading) = (Vec::new(), false);
        for shard in self.shards() {
            match shard.read(|s| s.list()) {
                Ok(list) => groups.extend(list),
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => loading = true,
                Err(_) => {}
            }
        }
        (groups, loading)
    }

    /// Groups by state, for metrics.
    pub fn count_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for group in self.list().0 {
            *counts.entry(group.state).or_default() += 1;
        }
        counts
    }

    /// Partitions that groups have committed offsets of, and that have no replica here.
    pub fn partitions_elsewhere(&self, replicas: &ReplicaManager) -> BTreeSet<(Str, i32)> {
        let mut found = BTreeSet::new();
        for shard in self.shards() {
            // A shard that is loading has no data yet.
            let _ = shard.read(|s| {
                for (_, topic, partition, _) in s.all_offsets() {
                    if replicas.partition(&TopicRef::by_name(topic), partition).is_err() {
                        found.insert((topic.clone(), partition));
                    }
                }
            });
        }
        found
    }

    /// How far every group is behind, for metrics, as far as this broker has the partitions.
    pub fn lags(&self, replicas: &ReplicaManager) -> Vec<GroupLag> {
        let mut rows = Vec::new();
        for shard in self.shards() {
            // A shard that is loading has no data yet.
            let _ = shard.read(|s| {
                rows.extend(s.all_offsets().map(|(group, topic, partition, committed)| GroupLag {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition,
                    committed,
                    lag: None,
                }));
            });
        }
        for row in &mut rows {
            let partition = replicas.partition(&TopicRef::by_name(&row.topic), row.partition).ok();
            row.lag = partition.map(|p| (p.log().high_watermark() - row.committed).max(0));
        }
        rows
    }
}
