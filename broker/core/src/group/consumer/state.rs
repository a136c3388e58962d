//! The consumer groups of a shard, and what they are decided with: the cluster's topics, the limits, clocks.
//!
//! At the bottom: requests read it, `apply` changes it. Must never decide a request.

use std::collections::HashMap;

use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::primitives::Str;

use super::assignor::Assignor;
use super::group::ConsumerGroup;
use super::hash::TopicHashes;
use super::limits::{ConsumerLimits, of_group};
use super::timers::Timers;
use crate::group::decision::Consequence;
use crate::group::history::{Cause, Reason};
use crate::metadata::MetadataImage;

/// A group with what is in no record.
#[derive(Debug, Clone)]
pub(in crate::group) struct Live {
    pub group: ConsumerGroup,
    pub timers: Timers,
    /// The topics were refreshed: until when, and from which epoch on, that holds.
    pub refreshed: (i64, i32),
    pub resolving: bool,
    /// The change of its topics since the last refresh.
    pub topic_cause: Option<Cause>,
}

impl Live {
    fn new(group: ConsumerGroup) -> Self {
        Self { group, timers: Timers::default(), refreshed: (0, 0), resolving: false, topic_cause: None }
    }

    /// Whether the group must refresh its topics.
    pub fn needs_refresh(&self, now: i64) -> bool {
        let (until, epoch) = self.refreshed;
        now >= until || self.group.epoch < epoch
    }
}

/// The consumer groups of a shard.
#[derive(Debug, Default)]
pub(in crate::group) struct Consumers {
    pub groups: HashMap<Str, Live>,
    pub image: MetadataImage,
    pub limits: ConsumerLimits,
    pub hashes: TopicHashes,
    /// The version of the metadata that last added a topic.
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
    pub fn topic_cause_of(&self, id: &str) -> Cause {
        let topic_cause = self.groups.get(id).and_then(|live| live.topic_cause.clone());
        topic_cause.unwrap_or_else(|| Cause::new(Reason::TopicsChanged))
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

    /// Applies a consequence that is in no record.
    pub fn apply_consequence(&mut self, consequence: &Consequence) {
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
                live.topic_cause = None;
            }
            Consequence::Resolving(_, resolving) => live.resolving = *resolving,
        }
    }
}
