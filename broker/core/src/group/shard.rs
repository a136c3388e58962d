//! The groups and offsets of one partition of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::{
    GroupKey, GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

use super::classic::{ClassicGroup, State};
use super::join::JoinReply;
use super::offsets::Committed;
use super::sync::SyncReply;

/// Names a request that is parked; chosen by the shell.
pub type Token = u64;

/// The rules that the broker's config sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLimits {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in ms.
    pub offsets_retention_ms: i64,
}

/// A record for the log: what it says, before it is bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRecord {
    /// An offset, or its removal.
    Offset(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A group, or its removal.
    Group(GroupMetadataKey, Option<GroupMetadataValue>),
}

impl GroupRecord {
    /// Key and value as they are written.
    pub fn to_bytes(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::Offset(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
            Self::Group(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
        }
    }
}

/// An answer to a parked request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To a join.
    Join(JoinReply),
    /// To a sync.
    Sync(SyncReply),
}

/// What must be told to [`GroupShard::committed`] when the records that came with it are committed (or are not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The group.
    pub group: Str,
    /// The generation whose assignment was written.
    pub generation: i32,
    pub(super) assignments: BTreeMap<Str, Bytes>,
}

/// What a request leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// To be appended, in order.
    pub records: Vec<GroupRecord>,
    /// To be given at once.
    pub replies: Vec<(Token, Reply)>,
    /// To be told once the records are committed.
    pub stored: Option<Stored>,
    /// Why groups were called to rebalance, for logs and metrics.
    pub rebalances: Vec<(Str, &'static str)>,
}

/// See the module.
#[derive(Debug)]
pub struct GroupShard {
    pub(super) limits: GroupLimits,
    pub(super) groups: HashMap<Str, ClassicGroup>,
    pub(super) offsets: HashMap<Str, BTreeMap<(Str, i32), Committed>>,
    deadlines: BTreeSet<(i64, Str)>,
    registered: HashMap<Str, i64>,
}

impl GroupShard {
    /// An empty shard.
    pub fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            groups: HashMap::new(),
            offsets: HashMap::new(),
            deadlines: BTreeSet::new(),
            registered: HashMap::new(),
        }
    }

    /// Applies one record of the log while loading. `now` is when loading happens: sessions begin anew.
    pub fn replay(&mut self, key: Bytes, value: Option<Bytes>, now: i64) -> Result<(), DecodeError> {
        match (GroupKey::decode(key)?, value) {
            (GroupKey::Offset(key), None) => {
                self.remove_offset(&key.group, &key.topic, key.partition);
            }
            (GroupKey::Offset(key), Some(value)) => {
                let value = OffsetCommitValue::from_bytes(value)?;
                self.put_offset(&key, Committed::from_record(value));
            }
            (GroupKey::Group(key), None) => {
                self.groups.remove(&key.group);
            }
            (GroupKey::Group(key), Some(value)) => {
                let value = GroupMetadataValue::from_bytes(value)?;
                let id = key.group.detached();
                self.groups.insert(id.clone(), ClassicGroup::from_record(id, value, now));
            }
            (GroupKey::Unknown(_), _) => {}
        }
        Ok(())
    }

    /// Loading is over: groups that have offsets alone come into being, timers start.
    pub fn loaded(&mut self, now: i64) {
        for group in self.offsets.keys() {
            self.groups.entry(group.clone()).or_insert_with(|| ClassicGroup::new(group.clone(), now));
        }
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        ids.iter().for_each(|id| self.schedule(id));
    }

    /// When [`GroupShard::tick`] must be called next.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A group's timers may have changed. A deadline that only moved back is found out when it comes.
    pub(super) fn schedule(&mut self, id: &Str) {
        let next = self.groups.get(id).and_then(ClassicGroup::next_deadline);
        let known = self.registered.get(id).copied();
        match (next, known) {
            (Some(next), Some(known)) if known <= next => {}
            (Some(next), known) => {
                if let Some(known) = known {
                    self.deadlines.remove(&(known, id.clone()));
                }
                self.deadlines.insert((next, id.clone()));
                self.registered.insert(id.clone(), next);
            }
            (None, Some(known)) => {
                self.deadlines.remove(&(known, id.clone()));
                self.registered.remove(id);
            }
            (None, None) => {}
        }
    }

    /// Time has passed: sessions end, rebalances end.
    pub fn tick(&mut self, now: i64) -> Effects {
        let mut effects = Effects::default();
        while let Some((at, id)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, id.clone()));
            self.registered.remove(&id);
            if let Some(group) = self.groups.get_mut(&id) {
                group.tick(now, &self.limits, &mut effects);
            }
            self.schedule(&id);
        }
        effects
    }

    /// The records that came with `stored` are committed, or (`Err`) were not.
    pub fn committed(&mut self, stored: Stored, outcome: Result<(), ErrorCode>, now: i64) -> Effects {
        let mut effects = Effects::default();
        if let Some(group) = self.groups.get_mut(&stored.group) {
            group.stored(&stored, outcome, now, &mut effects);
        }
        self.schedule(&stored.group);
        effects
    }

    /// Takes back every parked request, e.g. because leadership is gone.
    pub fn abandon(&mut self, error: ErrorCode) -> Vec<(Token, Reply)> {
        let mut replies = Vec::new();
        for group in self.groups.values_mut() {
            for member in group.members.values_mut() {
                replies.extend(member.join.take().map(|t| (t, Reply::Join(JoinReply::failed(error, &member.id)))));
                replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(error)))));
            }
        }
        replies
    }

    /// Deletes groups: what to write, and what to answer once that is committed.
    pub fn delete_groups(&mut self, ids: &[Str], effects: &mut Effects) -> Vec<(Str, ErrorCode)> {
        let mut answers = Vec::new();
        for id in ids {
            let code = match self.groups.get(id) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(group) if group.state != State::Empty || !group.pending.is_empty() => ErrorCode::NON_EMPTY_GROUP,
                Some(_) => {
                    self.remove_group(id, effects);
                    ErrorCode::NONE
                }
            };
            answers.push((id.clone(), code));
        }
        answers
    }

    pub(super) fn remove_group(&mut self, id: &Str, effects: &mut Effects) {
        for (topic, partition) in self.offsets.remove(id).unwrap_or_default().into_keys() {
            let key = OffsetCommitKey { group: id.clone(), topic, partition };
            effects.records.push(GroupRecord::Offset(key, None));
        }
        self.groups.remove(id);
        effects.records.push(GroupRecord::Group(GroupMetadataKey { group: id.clone() }, None));
        self.schedule(id);
    }
}
