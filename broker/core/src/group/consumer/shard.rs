//! What happens to the consumer groups of a shard beside requests: metadata changes, records are applied, loading ends, time passes.

use esker_protocol::messages::internal::consumer_groups::ConsumerGroupRecord;
use esker_protocol::primitives::Str;

use super::limits::ConsumerLimits;
use super::member::MemberState;
use super::timers::Clock;
use crate::group::decision::Effects;
use crate::group::history::{Cause, Reason};
use crate::group::state::GroupShard;
use crate::metadata::{MetadataImage, TopicImage};

/// How many members go at once: their records are one batch.
const MOST_AT_ONCE: usize = 200;
/// And what their records take, about.
const MOST_BYTES_AT_ONCE: usize = 256 << 10;

impl GroupShard {
    /// The newest metadata of the cluster; `limits` is called if it is newer than what the shard has.
    pub fn update_image(&mut self, image: &MetadataImage, limits: impl FnOnce() -> ConsumerLimits) {
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
        let topic_changes: Vec<(&Str, Reason)> = changed.chain(deleted).collect();
        consumers.image = image.clone();
        consumers.limits = limits();
        consumers.hashes.refresh(image);
        if topic_changes.is_empty() {
            return;
        }
        for live in consumers.groups.values_mut() {
            if let Some((name, reason)) = topic_changes.iter().find(|(name, _)| live.group.is_subscribed(name)) {
                live.refreshed = (0, 0);
                live.topic_cause.get_or_insert_with(|| Cause::of_topic(*reason, name));
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
    pub(in crate::group) fn tick_consumers(&self, id: &Str, now: i64, effects: &mut Effects) {
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
        self.fence_members(id, &late, now, effects);
    }
}
