//! Committed offsets: which members may commit, what is stored, what is returned.

use std::collections::BTreeMap;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::OffsetCommitKey;
use esker_protocol::primitives::Str;

use super::classic::{CONSUMER, ClassicGroup, State};
use super::committed_offset::Committed;
use super::consumer::{CommitCheck, subscribed_topics};
use super::decision::Effects;
use super::record::GroupRecord;
use super::request::{OffsetCommitRequest, OffsetSelection, TopicOffsets};
use super::state::GroupShard;

impl GroupShard {
    /// Decides a commit: an error for all, or records and a code for each offset. The shard learns the offsets by
    /// `apply`, once their records are written.
    pub fn commit(&self, request: &OffsetCommitRequest, now: i64) -> Result<(Effects, Vec<ErrorCode>), ErrorCode> {
        let mut effects = Effects::default();
        let check = match self.check_consumer_commit(request, false) {
            Some(check) => check?,
            None => self.check_classic_commit(request, now, &mut effects).map(|()| CommitCheck::All)?,
        };
        let (records, codes) = self.offset_records(request, &check, now)?;
        effects.records = records;
        self.create_group_of_offsets(&request.group, now, &mut effects);
        Ok((effects, codes))
    }

    /// Offsets of a group that is not there yet make it: a group of offsets alone.
    pub(super) fn create_group_of_offsets(&self, id: &Str, now: i64, effects: &mut Effects) {
        if !effects.records.is_empty() && !self.groups.contains_key(id) && !self.is_consumer_group(id) {
            effects.update.replace_group(ClassicGroup::new(id.detached(), now));
        }
    }

    /// What a commit that is allowed writes, and a code for each of its offsets.
    pub(super) fn offset_records(
        &self,
        request: &OffsetCommitRequest,
        check: &CommitCheck,
        now: i64,
    ) -> Result<(Vec<GroupRecord>, Vec<ErrorCode>), ErrorCode> {
        let expires_at = request.retention_ms.map(|keep| now.saturating_add(keep));
        let (mut records, mut codes) = (Vec::new(), Vec::new());
        for commit in &request.offsets {
            let metadata = commit.metadata.clone().unwrap_or_default();
            // Called bytes, but Kafka counts what Java counts as the length of a string.
            if metadata.chars().map(char::len_utf16).sum::<usize>() > self.limits.offset_metadata_max_bytes {
                codes.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            // As in Kafka one partition that is not the member's spoils the commit.
            check.allows(commit)?;
            let committed = Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata,
                committed_at: if commit.committed_at >= 0 { commit.committed_at } else { now },
                expires_at,
                topic_id: commit.topic_id,
            };
            let key = OffsetCommitKey {
                group: request.group.clone(),
                topic: commit.topic.clone(),
                partition: commit.partition,
            };
            records.push(GroupRecord::Offset(key, Some(committed.to_record())));
            codes.push(ErrorCode::NONE);
        }
        Ok((records, codes))
    }

    fn check_classic_commit(
        &self,
        request: &OffsetCommitRequest,
        now: i64,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let identity = &request.identity;
        let Some(group) = self.groups.get(&request.group) else {
            if identity.generation >= 0 {
                return Err(if request.not_found_code {
                    ErrorCode::GROUP_ID_NOT_FOUND
                } else {
                    ErrorCode::ILLEGAL_GENERATION
                });
            }
            // A consumer that assigns itself its partitions.
            return Ok(());
        };
        if identity.generation < 0 && group.state == State::Empty {
            return Ok(());
        }
        if identity.generation >= 0 || !identity.member_id.is_empty() || identity.instance_id.is_some() {
            group.check_member(&identity.member_id, identity.instance_id.as_ref())?;
            if identity.generation != group.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        match group.state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Stable | State::PreparingRebalance => {
                if let Some(member) = group.members.get(&identity.member_id) {
                    effects.update.extend_session(&group.id, &member.id, member.session_from(now));
                }
                Ok(())
            }
        }
    }

    /// Returns the requested offsets; `None` where there is none.
    pub fn fetch(&self, group: &str, selection: &OffsetSelection) -> Vec<TopicOffsets> {
        let known = self.offsets.get(group);
        match selection {
            OffsetSelection::Of(topics) => topics
                .iter()
                .map(|(topic, partitions)| {
                    let of = |p: &i32| (*p, known.and_then(|k| k.get(&(topic.clone(), *p))).cloned());
                    (topic.clone(), partitions.iter().map(of).collect())
                })
                .collect(),
            OffsetSelection::All => {
                let mut topics: BTreeMap<Str, Vec<_>> = BTreeMap::new();
                for ((topic, partition), committed) in known.into_iter().flatten() {
                    topics.entry(topic.clone()).or_default().push((*partition, Some(committed.clone())));
                }
                topics.into_iter().collect()
            }
        }
    }

    /// Decides OffsetDelete: an error for all, or records and a code for each partition.
    pub fn delete_offsets(
        &self,
        group_id: &Str,
        wanted: &[(Str, i32)],
    ) -> Result<(Vec<GroupRecord>, Vec<ErrorCode>), ErrorCode> {
        let subscribed = match (self.consumers.group(group_id), self.groups.get(group_id)) {
            (Some(group), _) => Subscribed::To(group.subscribed_names()),
            (None, None) => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            (None, Some(group)) if group.state != State::Empty && group.protocol_type.as_deref() != Some(CONSUMER) => {
                return Err(ErrorCode::NON_EMPTY_GROUP);
            }
            (None, Some(group)) => group.subscribed(),
        };
        let (mut records, mut codes) = (Vec::new(), Vec::new());
        for (topic, partition) in wanted {
            if subscribed.may_contain(topic) {
                codes.push(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
                continue;
            }
            let known = self.offsets.get(group_id).is_some_and(|k| k.contains_key(&(topic.clone(), *partition)));
            // Also where an open transaction has the only one: its commit must not restore it.
            if known || self.pending.has_offset(group_id, topic, *partition) {
                let key = OffsetCommitKey { group: group_id.clone(), topic: topic.clone(), partition: *partition };
                records.push(GroupRecord::Offset(key, None));
            }
            codes.push(ErrorCode::NONE);
        }
        Ok((records, codes))
    }

    /// Offsets of a topic that was deleted at `deleted_at`. Later ones are of another topic of this name.
    pub fn topic_deleted(&self, topic: &str, deleted_at: i64) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (group, offsets) in &self.offsets {
            let of_topic = offsets.iter().filter(|((t, _), c)| **t == *topic && c.committed_at <= deleted_at);
            records.extend(of_topic.map(|((topic, partition), _)| {
                let key = OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition: *partition };
                GroupRecord::Offset(key, None)
            }));
        }
        let staged = self.pending.iter().filter(|(key, c)| *key.topic == *topic && c.committed_at <= deleted_at);
        records.extend(staged.map(|(key, _)| GroupRecord::Offset(key, None)));
        records
    }
}

/// The topics that a classic group's members subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// These.
    To(Vec<Str>),
    /// Not known: a member's subscription cannot be read, or there was no generation yet.
    Unknown,
}

impl Subscribed {
    /// Whether a topic may be among them. What is not known is not given up.
    pub fn may_contain(&self, topic: &Str) -> bool {
        match self {
            Self::To(topics) => topics.contains(topic),
            Self::Unknown => true,
        }
    }
}

impl ClassicGroup {
    /// Topics that members of a consumer group subscribe to.
    pub(super) fn subscribed(&self) -> Subscribed {
        if self.protocol_type.as_deref() != Some(CONSUMER) || self.members.is_empty() {
            return Subscribed::To(Vec::new());
        }
        let Some(protocol) = &self.protocol else { return Subscribed::Unknown };
        let lists = self.members.values().map(|member| subscribed_topics(member.metadata(protocol)));
        match lists.collect::<Option<Vec<_>>>() {
            Some(lists) => Subscribed::To(lists.into_iter().flatten().collect()),
            None => Subscribed::Unknown,
        }
    }
}
