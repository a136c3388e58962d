//! Commits of a group's offsets.

use std::collections::HashMap;

use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::primitives::Str;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::assigned::Consumer;
use super::config::GroupConfig;
use super::group::is_rebalance_error;
use crate::client::{Client, Target, coordinator_moved};
use crate::error::Error;
use crate::metadata::TopicPartition;

/// The last version that names topics instead of giving their ids.
const OFFSET_COMMIT: i16 = 9;

/// An offset to commit: the next record to read, and the epoch of the leader that wrote the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    pub(super) epoch: i32,
}

/// The committing member.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    pub(super) group: GroupConfig,
    pub(super) generation: i32,
    pub(super) member_id: Str,
}

impl Consumer {
    /// Commits the positions of all assigned partitions, and waits for it.
    ///
    /// # Errors
    /// No group is set; the group has moved on (a rebalance), so that the partitions are another member's now.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let (committer, positions) = (self.committer()?, self.positions());
        commit(&self.client, &committer, positions).await
    }

    /// As [`Consumer::commit`], without waiting; the handle returns the result.
    ///
    /// # Errors
    /// No group is set.
    pub fn commit_async(&mut self) -> Result<JoinHandle<Result<(), Error>>, Error> {
        let (client, committer, positions) = (self.client.clone(), self.committer()?, self.positions());
        Ok(tokio::spawn(async move { commit(&client, &committer, positions).await }))
    }

    /// Commits these offsets: each is that of the next record to read.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<(), Error> {
        let committer = self.committer()?;
        let offsets = offsets.into_iter().map(|(tp, offset)| (tp, Position { offset, epoch: -1 })).collect();
        commit(&self.client, &committer, offsets).await
    }

    pub(super) fn positions(&self) -> HashMap<TopicPartition, Position> {
        let known = self.slots.iter().filter_map(|(tp, slot)| {
            slot.position.map(|offset| (tp.clone(), Position { offset, epoch: slot.last_epoch }))
        });
        known.collect()
    }

    pub(super) fn committer(&self) -> Result<Committer, Error> {
        let Some(group) = self.config.group.clone() else {
            return Err(Error::Invalid("to commit, set a group in the consumer's config".to_owned()));
        };
        // Without membership this is a "simple" commit, as of a consumer that assigns itself.
        let (generation, member_id) = match &self.membership {
            Some(membership) => membership.identity(),
            None => (-1, Str::default()),
        };
        Ok(Committer { group, generation, member_id })
    }

    /// Commits when it is time to.
    pub(super) async fn auto_commit(&mut self) -> Result<(), Error> {
        let Some(interval) = self.config.group.as_ref().and_then(|group| group.auto_commit) else { return Ok(()) };
        if self.membership.is_none() || Instant::now() < self.next_commit {
            return Ok(());
        }
        self.next_commit = Instant::now() + interval;
        match self.commit().await {
            // A rebalance is under way; records that are not committed are read again by the next owner.
            Err(error) if is_rebalance_error(&error) || error.is_retriable() => {
                tracing::debug!(%error, "automatic commit put off");
                Ok(())
            }
            other => other,
        }
    }
}

pub(super) async fn commit(
    client: &Client,
    committer: &Committer,
    positions: HashMap<TopicPartition, Position>,
) -> Result<(), Error> {
    if positions.is_empty() {
        return Ok(());
    }
    let group = &committer.group.id;
    let mut topics: HashMap<Str, Vec<OffsetCommitRequestPartition>> = HashMap::new();
    for (tp, position) in positions {
        topics.entry(tp.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: tp.partition,
            committed_offset: position.offset,
            committed_leader_epoch: position.epoch,
            ..OffsetCommitRequestPartition::default()
        });
    }
    let request = OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: committer.generation,
        member_id: committer.member_id.clone(),
        group_instance_id: committer.group.instance_id.clone(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() })
            .collect(),
        ..OffsetCommitRequest::default()
    };
    let attempt = || async {
        let sent = async {
            let target = Target::Coordinator(group.clone());
            let answer = client.request_up_to(target, OFFSET_COMMIT, |_| request.clone()).await?;
            for topic in &answer.topics {
                for part in &topic.partitions {
                    let what = || format!("commit of {}-{} in group '{group}'", topic.name, part.partition_index);
                    Error::check(what, part.error_code, None)?;
                }
            }
            Ok(())
        };
        let result: Result<(), Error> = sent.await;
        if let Err(error) = &result
            && coordinator_moved(error)
        {
            client.forget_coordinator(group);
        }
        result
    };
    client.retry(&format!("commit in group '{group}'"), attempt).await
}
