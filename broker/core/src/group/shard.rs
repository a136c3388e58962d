//! The groups and offsets of one partition of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::messages::internal::{
    GroupKey, GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

use super::classic::{ClassicGroup, State};
use super::consumer::{Consequence, Consumers, Out, RegexJob};
use super::history::{DEFAULT_HISTORY, GroupEvent, History};
use super::join::JoinReply;
use super::offsets::Committed;
use super::pending::PendingOffsets;
use super::sync::SyncReply;
use crate::coordinator::{self, Applied, StateMachine, Token, Writer};

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
    /// Part of a consumer group, or its removal.
    Consumer(ConsumerGroupRecord),
}

impl GroupRecord {
    /// Key and value as they are written.
    pub fn to_bytes(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::Offset(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
            Self::Group(key, value) => Ok((key.to_bytes()?, value.as_ref().map(|v| v.to_bytes()).transpose()?)),
            Self::Consumer(record) => record.to_bytes(),
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

/// What must be told to [`StateMachine::committed`] when the records that came with it are committed (or are not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The group.
    pub group: Str,
    /// The generation whose assignment was written.
    pub generation: i32,
    pub(super) assignments: BTreeMap<Str, Bytes>,
}

/// What a decision changes beside its records: what no record says, and classic groups, whose records say less than the
/// coordinator knows of them.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Update {
    /// Classic groups as they are from now on; `None` for one that is gone.
    classic: Vec<(Str, Option<Box<ClassicGroup>>)>,
    /// Sessions of members of classic groups that begin anew, and when they end: group, member, time.
    sessions: Vec<(Str, Str, i64)>,
    /// The same for consumer groups.
    pub(super) consequences: Vec<Consequence>,
    /// The group that time has passed for, and until when.
    ticked: Option<(Str, i64)>,
}

impl Update {
    /// A classic group is this from now on.
    pub(super) fn put(&mut self, group: ClassicGroup) {
        self.classic.push((group.id.clone(), Some(Box::new(group))));
    }

    /// A member of a classic group lives.
    pub(super) fn session(&mut self, group: &Str, member: &Str, until: i64) {
        self.sessions.push((group.clone(), member.clone(), until));
    }
}

/// What a request leads to.
pub type Effects = coordinator::Effects<GroupRecord, Reply, Stored, RegexJob, Update, GroupEvent>;

/// See the module.
#[derive(Debug)]
pub struct GroupShard {
    pub(super) limits: GroupLimits,
    pub(super) groups: HashMap<Str, ClassicGroup>,
    pub(super) offsets: HashMap<Str, BTreeMap<(Str, i32), Committed>>,
    /// Offsets of open transactions.
    pub(super) pending: PendingOffsets,
    pub(super) consumers: Consumers,
    /// The last rebalances of each group, and how many are kept.
    pub(super) histories: HashMap<Str, History>,
    pub(super) history_size: usize,
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
            pending: PendingOffsets::default(),
            consumers: Consumers::default(),
            histories: HashMap::new(),
            history_size: DEFAULT_HISTORY,
            deadlines: BTreeSet::new(),
            registered: HashMap::new(),
        }
    }

    /// A group's timers may have changed. A deadline that only moved back is found out when it comes.
    pub(super) fn schedule(&mut self, id: &Str) {
        let classic = self.groups.get(id).and_then(ClassicGroup::next_deadline);
        let consumer = self.consumers.groups.get(id).and_then(|live| live.timers.next());
        let next = classic.into_iter().chain(consumer).min();
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

    /// Deletes groups: what to write, and what to answer once that is committed.
    pub fn delete_groups(&self, ids: &[Str], effects: &mut Effects) -> Vec<(Str, ErrorCode)> {
        // A group's own tombstone comes last: while offsets are left there is a group to delete.
        effects.divisible = true;
        let mut answers = Vec::new();
        for id in ids {
            let code = match self.groups.get(id) {
                None if self.is_consumer_group(id) => self.delete_consumer_group(id, effects),
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

    pub(super) fn remove_group(&self, id: &Str, effects: &mut Effects) {
        self.remove_offsets(id, effects);
        effects.records.push(GroupRecord::Group(GroupMetadataKey { group: id.clone() }, None));
    }

    pub(super) fn remove_offsets(&self, id: &Str, effects: &mut Effects) {
        let committed = self.offsets.get(id).into_iter().flat_map(BTreeMap::keys);
        for (topic, partition) in committed {
            let key = OffsetCommitKey { group: id.clone(), topic: topic.clone(), partition: *partition };
            effects.records.push(GroupRecord::Offset(key, None));
        }
        for key in self.pending.keys().filter(|key| key.group == *id) {
            effects.records.push(GroupRecord::Offset(key, None));
        }
    }

    /// A decision about a classic group ends: the group is what became of it. One that never had a generation, has no members
    /// (nor ids given out that may still join) and no offsets was made by a join that came to nothing, and goes.
    pub(super) fn settle(&self, group: ClassicGroup, effects: &mut Effects) {
        let has_offsets = self.offsets.contains_key(&group.id) || self.pending.groups().any(|id| *id == group.id);
        if group.came_to_nothing() && !has_offsets {
            effects.update.classic.push((group.id.clone(), None));
        } else {
            effects.update.put(group);
        }
    }

    fn apply_record(&mut self, record: &GroupRecord, writer: Option<Writer>) {
        match (record, writer) {
            (GroupRecord::Offset(key, Some(value)), None) => {
                self.put_offset(key, Committed::from_record(value.clone()));
            }
            (GroupRecord::Offset(key, Some(value)), Some(writer)) => {
                self.pending.put(writer.producer_id, key, Committed::from_record(value.clone()));
            }
            (GroupRecord::Offset(key, None), _) => self.remove_offset(&key.group, &key.topic, key.partition),
            // One that became a consumer group is gone.
            (GroupRecord::Group(key, None), _) => {
                self.groups.remove(&key.group);
                self.schedule(&key.group);
            }
            // The update has the group.
            (GroupRecord::Group(_, Some(_)), _) => {}
            (GroupRecord::Consumer(record), _) => self.apply_consumer(record),
        }
    }

    fn apply_update(&mut self, update: Update) {
        for (id, group) in update.classic {
            match group {
                Some(group) => self.groups.insert(id.clone(), *group),
                None => self.groups.remove(&id),
            };
            self.schedule(&id);
        }
        for (id, member, until) in update.sessions {
            if let Some(member) = self.groups.get_mut(&id).and_then(|group| group.member_mut(&member)) {
                member.session_deadline = until;
            }
            self.schedule(&id);
        }
        for consequence in &update.consequences {
            self.consumers.follow(consequence);
            self.schedule(consequence.group());
        }
        if let Some((id, now)) = update.ticked {
            if let Some(known) = self.registered.remove(&id) {
                self.deadlines.remove(&(known, id.clone()));
            }
            if let Some(live) = self.consumers.groups.get_mut(&id) {
                live.timers.settle(now);
            }
            self.schedule(&id);
        }
    }

    /// What is known of a group beside its state goes with the group.
    fn forget_histories(&mut self, records: &[GroupRecord]) {
        for record in records {
            let id = match record {
                GroupRecord::Group(key, None) => &key.group,
                GroupRecord::Consumer(record @ ConsumerGroupRecord::Group(_, None)) => record.group_id(),
                _ => continue,
            };
            if !self.groups.contains_key(id) && !self.is_consumer_group(id) {
                self.histories.remove(id);
            }
        }
    }
}

impl StateMachine for GroupShard {
    type Record = GroupRecord;
    type Reply = Reply;
    type Stored = Stored;
    type Action = RegexJob;
    type Update = Update;
    type Event = GroupEvent;

    fn encode(record: &GroupRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        record.to_bytes()
    }

    /// Sessions begin anew at `now`.
    fn replay(&mut self, key: Bytes, value: Option<Bytes>, writer: Option<i64>, now: i64) -> Result<(), DecodeError> {
        match (GroupKey::decode(key.clone())?, value) {
            (GroupKey::Offset(key), None) => self.remove_offset(&key.group, &key.topic, key.partition),
            (GroupKey::Offset(key), Some(value)) => {
                let committed = Committed::from_record(OffsetCommitValue::from_bytes(value)?);
                match writer {
                    Some(producer_id) => self.pending.put(producer_id, &key, committed),
                    None => self.put_offset(&key, committed),
                }
            }
            (GroupKey::Group(key), None) => {
                self.groups.remove(&key.group);
            }
            (GroupKey::Group(key), Some(value)) => {
                let value = GroupMetadataValue::from_bytes(value)?;
                let id = key.group.detached();
                self.groups.insert(id.clone(), ClassicGroup::from_record(id, value, now));
            }
            (GroupKey::Unknown(_), value) => {
                if let Some(record) = ConsumerGroupRecord::decode(key, value)? {
                    self.apply_consumer(&record);
                }
            }
        }
        Ok(())
    }

    fn transaction_ended(&mut self, producer_id: i64, committed: bool, now: i64) {
        for (key, offset) in self.pending.end(producer_id, committed) {
            self.place_offset(&key, offset);
            if !self.is_consumer_group(&key.group) {
                self.groups.entry(key.group.detached()).or_insert_with_key(|id| ClassicGroup::new(id.clone(), now));
            }
        }
    }

    /// Groups that have offsets alone come into being, timers start.
    fn loaded(&mut self, now: i64) -> Effects {
        let with_offsets = self.offsets.keys().cloned().chain(self.pending.groups().cloned());
        for group in with_offsets.filter(|id| !self.consumers.groups.contains_key(id)) {
            self.groups.entry(group.clone()).or_insert_with(|| ClassicGroup::new(group, now));
        }
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        ids.iter().for_each(|id| self.schedule(id));
        self.consumers_loaded(now);
        Effects::default()
    }

    fn apply(&mut self, decision: Applied<'_, Self>) {
        for record in decision.records {
            self.apply_record(record, decision.writer);
        }
        self.apply_update(decision.update);
        decision.events.iter().for_each(|event| self.remember(event));
        self.forget_histories(decision.records);
    }

    fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Sessions end, rebalances end: of one group.
    fn tick(&self, now: i64) -> Effects {
        let (mut effects, mut out) = (Effects::default(), Out::default());
        let Some((_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) else { return effects };
        if let Some(group) = self.groups.get(id).filter(|group| group.next_deadline().is_some_and(|at| at <= now)) {
            let mut group = group.clone();
            group.tick(now, &self.limits, &mut effects);
            self.settle(group, &mut effects);
        }
        self.tick_consumers(id, now, &mut out);
        out.conclude(&mut effects);
        effects.update.ticked = Some((id.clone(), now));
        effects
    }

    fn postpone(&mut self, until: i64) {
        if let Some((_, id)) = self.deadlines.pop_first() {
            self.deadlines.insert((until, id.clone()));
            self.registered.insert(id, until);
        }
    }

    fn committed(&self, stored: Stored, outcome: Result<(), ErrorCode>, now: i64) -> Effects {
        let mut effects = Effects::default();
        if let Some(group) = self.groups.get(&stored.group) {
            let mut group = group.clone();
            group.stored(&stored, outcome, now, &mut effects);
            effects.update.put(group);
        }
        effects
    }

    fn abandon(&mut self, error: ErrorCode) -> Vec<(Token, Reply)> {
        let mut replies = Vec::new();
        for group in self.groups.values_mut() {
            group.each_member(|member| {
                replies.extend(member.join.take().map(|t| (t, Reply::Join(JoinReply::failed(error, &member.id)))));
                replies.extend(member.sync.take().map(|t| (t, Reply::Sync(SyncReply::failed(error)))));
            });
        }
        replies
    }
}
