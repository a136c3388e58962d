//! The consumer groups of a shard, and what they are decided with: the cluster's topics, the limits, clocks.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::primitives::Str;

use super::assignor::Assignor;
use super::group::ConsumerGroup;
use super::hash::TopicHashes;
use super::limits::{ConsumerLimits, of_group};
use super::member::MemberState;
use super::timers::{Clock, Timers};
use crate::group::classic::ClassicGroup;
use crate::group::history::{Cause, GroupEvent, Kind, Reason};
use crate::group::shard::{Effects, GroupShard};
use crate::metadata::{MetadataImage, TopicImage};

/// What follows from a request and is in no record. In force once the records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) enum Consequence {
    /// A member's clock is set, or stopped.
    Clock(Str, Str, Clock, Option<i64>),
    /// The group has seen its topics as they are; that holds until a time and from an epoch on.
    Refreshed(Str, i64, i32),
    /// Its regular expressions are being looked up, or are not any more.
    Resolving(Str, bool),
}

impl Consequence {
    pub(in crate::group) fn group(&self) -> &Str {
        match self {
            Self::Clock(group, ..) | Self::Refreshed(group, ..) | Self::Resolving(group, _) => group,
        }
    }
}

/// What a decision about consumer groups leads to: as [`Effects`], and what is in no record.
#[derive(Debug, Default)]
pub(in crate::group) struct Out {
    pub effects: Effects,
    pub consequences: Vec<Consequence>,
    /// A classic group that takes the place of a consumer group.
    pub install: Option<ClassicGroup>,
}

impl Out {
    /// Something leads a group from an epoch to another.
    pub fn tell(&mut self, group: &Str, (kind, from, to): (Kind, i32, i32), cause: Cause, now: i64) {
        let begins = !self.effects.events.iter().any(|event| event.group == *group && event.to == to);
        let group = group.clone();
        self.effects.events.push(GroupEvent { group, kind, from, to, at: now, begins, cause });
    }
}

impl Out {
    /// The decision is made: what it leads to is part of `effects`.
    pub fn conclude(mut self, effects: &mut Effects) {
        effects.records.append(&mut self.effects.records);
        effects.replies.append(&mut self.effects.replies);
        effects.on_commit.append(&mut self.effects.on_commit);
        effects.actions.append(&mut self.effects.actions);
        effects.events.append(&mut self.effects.events);
        effects.update.consequences.append(&mut self.consequences);
        if let Some(group) = self.install {
            effects.update.put(group);
        }
    }
}

impl Deref for Out {
    type Target = Effects;

    fn deref(&self) -> &Effects {
        &self.effects
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Effects {
        &mut self.effects
    }
}

/// A group with what is in no record.
#[derive(Debug, Clone)]
pub(in crate::group) struct Live {
    pub group: ConsumerGroup,
    pub timers: Timers,
    refreshed: (i64, i32),
    pub resolving: bool,
    /// What became of its topics since it last looked.
    pub news: Option<Cause>,
}

impl Live {
    fn new(group: ConsumerGroup) -> Self {
        Self { group, timers: Timers::default(), refreshed: (0, 0), resolving: false, news: None }
    }

    /// Whether it must look at its topics again.
    pub fn needs_refresh(&self, now: i64) -> bool {
        let (until, epoch) = self.refreshed;
        now >= until || self.group.epoch < epoch
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::group) struct Consumers {
    pub groups: HashMap<Str, Live>,
    pub image: MetadataImage,
    pub limits: ConsumerLimits,
    pub hashes: TopicHashes,
    /// The version of the metadata that last brought a topic.
    pub new_topics_at: u64,
}

impl Consumers {
    pub fn heartbeat_interval_ms(&self, group: &Str) -> i32 {
        of_group(&self.image, group, "consumer.heartbeat.interval.ms", self.limits.heartbeat_interval_ms)
    }

    pub fn session_timeout_ms(&self, group: &Str) -> i64 {
        of_group(&self.image, group, "consumer.session.timeout.ms", self.limits.session_timeout_ms).into()
    }

    pub fn assignment_interval_ms(&self, group: &Str) -> i64 {
        of_group(&self.image, group, "consumer.assignment.interval.ms", self.limits.assignment_interval_ms).into()
    }

    /// The assignor that a group uses.
    pub fn assignor_of(&self, group: &ConsumerGroup) -> Assignor {
        let wished = group.preferred_assignor().and_then(|name| Assignor::of_name(name));
        let default = || self.limits.assignors.first().and_then(|name| Assignor::of_name(name));
        wished.or_else(default).unwrap_or(Assignor::Uniform)
    }

    /// What became of a group's topics since it last looked.
    pub fn news_of(&self, id: &str) -> Cause {
        let news = self.groups.get(id).and_then(|live| live.news.clone());
        news.unwrap_or_else(|| Cause::new(Reason::TopicsChanged))
    }

    pub fn group(&self, id: &str) -> Option<&ConsumerGroup> {
        self.groups.get(id).map(|live| &live.group)
    }

    /// Puts a record in force.
    pub fn apply(&mut self, record: &ConsumerGroupRecord) {
        let id = record.group_id();
        if let ConsumerGroupRecord::Group(_, None) = record {
            self.groups.remove(id);
            return;
        }
        if !self.groups.contains_key(id) {
            if record.is_tombstone() {
                return;
            }
            let id = id.detached();
            self.groups.insert(id.clone(), Live::new(ConsumerGroup::new(id)));
        }
        let Some(live) = self.groups.get_mut(id) else { return };
        live.group.apply(record);
        if let ConsumerGroupRecord::Member(key, None) = record {
            live.timers.remove(&key.member_id);
        }
    }

    /// Puts in force what no record says.
    pub fn follow(&mut self, consequence: &Consequence) {
        let Some(live) = self.groups.get_mut(consequence.group()) else { return };
        match consequence {
            Consequence::Clock(_, member, clock, at) => {
                // A member that is gone meanwhile needs no clock.
                if live.group.member(member).is_some() {
                    live.timers.set(member, *clock, *at);
                }
            }
            Consequence::Refreshed(_, until, epoch) => {
                live.refreshed = (*until, *epoch);
                live.news = None;
            }
            Consequence::Resolving(_, resolving) => live.resolving = *resolving,
        }
    }
}

/// How many members go at once: their records are one batch.
const MOST_AT_ONCE: usize = 200;
/// And what their records take, about.
const MOST_BYTES_AT_ONCE: usize = 256 << 10;

impl GroupShard {
    /// The cluster's metadata as it is; `limits` is asked if that is news.
    pub fn see(&mut self, image: &MetadataImage, limits: impl FnOnce() -> ConsumerLimits) {
        let consumers = &mut self.consumers;
        if image.offset() <= consumers.image.offset() && consumers.image.offset() > 0 {
            return;
        }
        let delta = image.changes_since(&consumers.image);
        let first = consumers.image.offset() == 0;
        let created = |name: &Str, id| consumers.image.topic(name).is_none_or(|old| old.id != id);
        if first || delta.changed_topics.iter().any(|topic| created(&topic.name, topic.id)) {
            consumers.new_topics_at = image.offset();
        }
        let what = |topic: &TopicImage| match consumers.image.topic(&topic.name) {
            Some(old) if old.id == topic.id && old.partitions.len() < topic.partitions.len() => Reason::PartitionsAdded,
            Some(old) if old.id == topic.id => Reason::TopicsChanged,
            _ => Reason::TopicCreated,
        };
        let changed = delta.changed_topics.iter().map(|topic| (&topic.name, what(topic)));
        let deleted = delta.deleted_topics.iter().map(|(name, _)| (name, Reason::TopicDeleted));
        let news: Vec<(&Str, Reason)> = changed.chain(deleted).collect();
        consumers.image = image.clone();
        consumers.limits = limits();
        consumers.hashes.refresh(image);
        if news.is_empty() {
            return;
        }
        for live in consumers.groups.values_mut() {
            if let Some((name, reason)) = news.iter().find(|(name, _)| live.group.is_subscribed(name)) {
                live.refreshed = (0, 0);
                live.news.get_or_insert_with(|| Cause::of_topic(*reason, name));
            }
        }
    }

    pub(in crate::group) fn apply_consumer(&mut self, record: &ConsumerGroupRecord) {
        if !record.is_tombstone() {
            // A group is of one kind. What it was before has been answered and taken away.
            self.groups.remove(record.group_id());
        }
        self.consumers.apply(record);
        if record.is_tombstone() {
            self.schedule(record.group_id());
        }
    }

    /// Loading is over: sessions begin.
    pub(in crate::group) fn consumers_loaded(&mut self, now: i64) {
        let ids: Vec<Str> = self.consumers.groups.keys().cloned().collect();
        for id in &ids {
            let session = now.saturating_add(self.consumers.session_timeout_ms(id));
            let Some(live) = self.consumers.groups.get_mut(id) else { continue };
            for member in live.group.members.values() {
                live.timers.set(&member.id, Clock::Session, Some(session));
                if member.state == MemberState::UnrevokedPartitions {
                    let at = now.saturating_add(i64::from(member.rebalance_timeout_ms));
                    live.timers.set(&member.id, Clock::Rebalance, Some(at));
                }
            }
            self.schedule(id);
        }
    }

    /// Time has passed for a consumer group.
    pub(in crate::group) fn tick_consumers(&self, id: &Str, now: i64, out: &mut Out) {
        let Some(live) = self.consumers.groups.get(id) else { return };
        let mut room = MOST_BYTES_AT_ONCE;
        let mut due = live.timers.due(now, MOST_AT_ONCE);
        // Each leaves a few tombstones. The first always goes.
        let mut fits = |(member, _): &(Str, Clock)| {
            let fits = room > 0;
            room = room.saturating_sub(4 * (id.len() + member.len() + 64));
            fits
        };
        let count = due.iter().take_while(|&due| fits(due)).count();
        due.truncate(count);
        let late: Vec<(Str, Cause)> =
            due.into_iter().map(|(member, clock)| (member, Cause::new(clock.reason()))).collect();
        self.fence(id, &late, now, out);
    }
}
