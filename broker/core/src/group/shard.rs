//! The coordinator as a state machine: records and replay, decisions in force, time; and how groups are deleted.
//!
//! At the top of the module: nothing here may import this file.

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::messages::internal::{GroupKey, GroupMetadataValue, OffsetCommitValue};
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

use super::classic::{ClassicGroup, State};
use super::committed_offset::Committed;
use super::consumer::RegexJob;
use super::decision::{Effects, Reply, Stored, Update};
use super::history::GroupEvent;
use super::record::GroupRecord;
use super::request::{JoinReply, SyncReply};
use super::state::GroupShard;
use crate::coordinator::{Applied, StateMachine, Token, Writer};

impl GroupShard {
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

    fn apply_record(&mut self, record: &GroupRecord, writer: Option<Writer>) {
        match (record, writer) {
            (GroupRecord::Offset(key, Some(value)), None) => {
                self.put_offset(key, Committed::from_record(value.clone()));
            }
            (GroupRecord::Offset(key, Some(value)), Some(writer)) => {
                self.pending.stage_offset(writer.producer_id, key, Committed::from_record(value.clone()));
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
            self.consumers.apply_consequence(consequence);
            self.schedule(consequence.group());
        }
        if let Some((id, now)) = update.ticked {
            if let Some(known) = self.registered.remove(&id) {
                self.deadlines.remove(&(known, id.clone()));
            }
            if let Some(live) = self.consumers.groups.get_mut(&id) {
                live.timers.reschedule_passed(now);
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
                    Some(producer_id) => self.pending.stage_offset(producer_id, &key, committed),
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
        for (key, offset) in self.pending.end_transaction(producer_id, committed) {
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
        decision.events.iter().for_each(|event| self.record_event(event));
        self.forget_histories(decision.records);
    }

    fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Sessions end, rebalances end: of one group.
    fn tick(&self, now: i64) -> Effects {
        let mut effects = Effects::default();
        let Some((_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) else { return effects };
        if let Some(group) = self.groups.get(id).filter(|group| group.next_deadline().is_some_and(|at| at <= now)) {
            let mut group = group.clone();
            group.tick(now, &self.limits, &mut effects);
            self.replace_or_remove_group(group, &mut effects);
        }
        self.tick_consumers(id, now, &mut effects);
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
            group.confirm_assignment(&stored, outcome, now, &mut effects);
            effects.update.replace_group(group);
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
