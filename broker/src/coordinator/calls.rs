//! What handlers ask of the coordinator. Every call finds the group's shard, or says with Kafka's code why it cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_core::group::{
    Effects, GroupDescription, GroupSummary, Identity, JoinReply, JoinRequest, LeaveReply, OffsetCommitRequest,
    OffsetWish, Reply, SyncReply, SyncRequest, partition_for,
};
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::shard::ShardHandle;
use super::{GroupCoordinator, OFFSETS_TOPIC};
use crate::clock::now_ms;
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
    /// Records behind the high watermark, if the partition is here.
    pub lag: Option<i64>,
}

impl GroupCoordinator {
    /// The partition of `__consumer_offsets` that a group belongs to, once the topic exists.
    pub fn partition_of(image: &MetadataImage, group: &str) -> Option<i32> {
        let topic = image.topic(OFFSETS_TOPIC)?;
        Some(partition_for(group, i32::try_from(topic.partitions.len()).ok()?))
    }

    fn shard(&self, image: &MetadataImage, group: &str) -> Result<Arc<ShardHandle>, CoordinatorError> {
        let partition = Self::partition_of(image, group).ok_or(ErrorCode::NOT_COORDINATOR)?;
        self.shards.load().get(&partition).cloned().ok_or(ErrorCode::NOT_COORDINATOR)
    }

    /// JoinGroup.
    pub async fn join(&self, image: &MetadataImage, request: JoinRequest) -> JoinReply {
        let member_id = request.member_id.clone();
        let asked = self.shard(image, &request.group).and_then(|s| s.ask(|s, token| s.join(request, token, now_ms())));
        match asked {
            Err(error) => JoinReply::failed(error, &member_id),
            Ok(answer) => match answer.await {
                Ok(Reply::Join(reply)) => reply,
                _ => JoinReply::failed(ErrorCode::NOT_COORDINATOR, &member_id),
            },
        }
    }

    /// SyncGroup.
    pub async fn sync(&self, image: &MetadataImage, request: SyncRequest) -> SyncReply {
        let asked = self.shard(image, &request.group).and_then(|s| s.ask(|s, token| s.sync(request, token, now_ms())));
        match asked {
            Err(error) => SyncReply::failed(error),
            Ok(answer) => match answer.await {
                Ok(Reply::Sync(reply)) => reply,
                _ => SyncReply::failed(ErrorCode::NOT_COORDINATOR),
            },
        }
    }

    /// Heartbeat. While groups load a member is told that all is well.
    pub fn heartbeat(&self, image: &MetadataImage, group: &str, who: &Identity) -> ErrorCode {
        match self.shard(image, group).and_then(|s| s.read(|s| s.heartbeat(group, who, now_ms()))) {
            Ok(code) => code,
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE,
            Err(code) => code,
        }
    }

    /// LeaveGroup.
    pub async fn leave(
        &self,
        image: &MetadataImage,
        group: &Str,
        members: &[(Str, Option<Str>)],
    ) -> Result<Vec<LeaveReply>, CoordinatorError> {
        let shard = self.shard(image, group)?;
        let (replies, position) = shard.write(|s| {
            let (replies, effects) = s.leave(group, members, now_ms());
            Ok((effects, replies))
        })?;
        shard.committed(position).await?;
        replies
    }

    /// OffsetCommit: a code for each offset of the request.
    pub async fn commit(
        &self,
        image: &MetadataImage,
        request: OffsetCommitRequest,
    ) -> Result<Vec<ErrorCode>, CoordinatorError> {
        let shard = self.shard(image, &request.group)?;
        let (codes, position) = shard.write(|s| {
            let (records, codes) = s.commit(&request, now_ms())?;
            Ok((Effects { records, ..Effects::default() }, codes))
        })?;
        shard.committed(position).await?;
        Ok(codes)
    }

    /// OffsetFetch.
    pub fn fetch(&self, image: &MetadataImage, group: &str, wish: &OffsetWish) -> Result<Fetched, CoordinatorError> {
        self.shard(image, group)?.read(|s| s.fetch(group, wish))
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
        shard.committed(position).await?;
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
        shard.committed(position).await?;
        if code.is_error() { Err(code) } else { Ok(()) }
    }

    /// DescribeGroups, for one group: `None` if it is not there.
    pub fn describe(&self, image: &MetadataImage, group: &str) -> Result<Option<GroupDescription>, CoordinatorError> {
        self.shard(image, group)?.read(|s| s.describe(group))
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

    /// How far every group is behind, for metrics.
    pub fn lags(&self, replicas: &ReplicaManager) -> Vec<GroupLag> {
        let mut rows = Vec::new();
        for shard in self.shards() {
            // A shard that is loading has nothing to tell yet.
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
