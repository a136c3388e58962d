//! Offsets of consumer groups: which members may commit and fetch, which offsets expire, and how a group is deleted.

use std::collections::BTreeMap;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::OffsetCommitKey;
use esker_protocol::primitives::{Str, Uuid};

use super::group::ConsumerGroup;
use super::member::ConsumerMember;
use crate::group::committed_offset::Committed;
use crate::group::decision::Effects;
use crate::group::record::GroupRecord;
use crate::group::request::{OffsetCommit, OffsetCommitRequest};
use crate::group::state::GroupShard;

/// Which offsets a commit may hold.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::group) enum CommitCheck {
    /// All.
    All,
    /// The member is in an older epoch: of partitions that it had then already (KIP-1251), and has not revoked.
    Since {
        /// The epoch that it believes in.
        epoch: i32,
        /// The epoch at which the member got each partition that it owns or must revoke.
        epochs: BTreeMap<(Uuid, i32), i32>,
        /// The error for other partitions.
        refused: ErrorCode,
    },
}

impl CommitCheck {
    /// Whether an offset is taken.
    pub fn allows(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        match self {
            Self::All => Ok(()),
            Self::Since { epoch, epochs, refused } => {
                let since = epochs.get(&(commit.topic_id, commit.partition));
                if since.is_some_and(|since| epoch >= since) { Ok(()) } else { Err(*refused) }
            }
        }
    }
}

/// The error for a member with a wrong epoch: members of the classic protocol have generations.
fn wrong_epoch(member: &ConsumerMember) -> ErrorCode {
    if member.is_classic() { ErrorCode::ILLEGAL_GENERATION } else { ErrorCode::STALE_MEMBER_EPOCH }
}

impl ConsumerGroup {
    /// Topics that a member subscribes to.
    pub(in crate::group) fn subscribed_names(&self) -> Vec<Str> {
        self.topics.keys().cloned().collect()
    }
}

impl GroupShard {
    /// `None` if the group is no consumer group.
    pub(in crate::group) fn check_consumer_commit(
        &self,
        request: &OffsetCommitRequest,
        transactional: bool,
    ) -> Option<Result<CommitCheck, ErrorCode>> {
        self.consumers.group(&request.group).map(|group| check_commit(group, request, transactional))
    }

    /// Whether a member may fetch offsets; one that gives neither an id nor an epoch may.
    pub fn check_fetch(&self, group: &str, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(group) = self.consumers.group(group) else { return Ok(()) };
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| group.member(id)).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == epoch { Ok(()) } else { Err(wrong_epoch(member)) }
    }

    pub(in crate::group) fn delete_consumer_group(&self, id: &Str, effects: &mut Effects) -> ErrorCode {
        match self.consumers.group(id) {
            None => ErrorCode::GROUP_ID_NOT_FOUND,
            Some(group) if group.members().next().is_some() => ErrorCode::NON_EMPTY_GROUP,
            Some(group) => {
                let tombstones = group.tombstones();
                self.remove_offsets(id, effects);
                effects.records.extend(tombstones.into_iter().map(GroupRecord::Consumer));
                ErrorCode::NONE
            }
        }
    }

    /// Expires offsets of topics that no member subscribes to, and empty groups without offsets.
    pub(in crate::group) fn expire_consumers(&self, now: i64, effects: &mut Effects) {
        let keep = self.limits.offsets_retention_ms;
        let mut gone = Vec::new();
        for (id, live) in &self.consumers.groups {
            let offsets = self.offsets.get(id);
            let lapsed = |committed: &Committed| match committed.expires_at {
                Some(at) => now >= at,
                None => now.saturating_sub(committed.committed_at) >= keep,
            };
            let lapsed_keys: Vec<_> = offsets
                .into_iter()
                .flatten()
                .filter(|((topic, _), committed)| !live.group.is_subscribed(topic) && lapsed(committed))
                .map(|((topic, partition), _)| (topic.clone(), *partition))
                .collect();
            let empty = live.group.members().next().is_none();
            let pending = self.pending.groups().any(|group| group == id);
            if empty && !pending && lapsed_keys.len() == offsets.map_or(0, BTreeMap::len) {
                gone.push(id.clone());
                continue;
            }
            effects.records.extend(lapsed_keys.into_iter().map(|(topic, partition)| {
                GroupRecord::Offset(OffsetCommitKey { group: id.clone(), topic, partition }, None)
            }));
        }
        for id in &gone {
            self.delete_consumer_group(id, effects);
        }
    }
}

fn check_commit(
    group: &ConsumerGroup,
    request: &OffsetCommitRequest,
    transactional: bool,
) -> Result<CommitCheck, ErrorCode> {
    let identity = &request.identity;
    if identity.generation < 0 && group.members().next().is_none() {
        return Ok(CommitCheck::All);
    }
    // Producers of old know nothing of groups.
    if transactional && identity.generation == -1 && identity.member_id.is_empty() && identity.instance_id.is_none() {
        return Ok(CommitCheck::All);
    }
    let member = group.member(&identity.member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    if !transactional && !member.is_classic() && !request.not_found_code {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    // Older versions of TxnOffsetCommit know no stale epochs.
    let refused = if request.not_found_code { wrong_epoch(member) } else { ErrorCode::ILLEGAL_GENERATION };
    if identity.generation == member.epoch {
        return Ok(CommitCheck::All);
    }
    if identity.generation > member.epoch {
        return Err(refused);
    }
    let mut epochs = BTreeMap::new();
    for (topic, partitions) in member.revoking.iter().chain(&member.assigned) {
        epochs.extend(partitions.iter().map(|(partition, since)| ((*topic, *partition), *since)));
    }
    Ok(CommitCheck::Since { epoch: identity.generation, epochs, refused })
}
