//! The state of a group coordinator: the groups and committed offsets of one partition of `__consumer_offsets`, and when time is up for
//! each group.
//!
//! At the bottom: requests and time (the files beside this one) read it, `apply` and replay change it. Must never decide a request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use esker_protocol::messages::internal::{GroupMetadataKey, OffsetCommitKey};
use esker_protocol::primitives::Str;

use super::classic::ClassicGroup;
use super::committed_offset::Committed;
use super::consumer::Consumers;
use super::decision::Effects;
use super::history::{DEFAULT_HISTORY, GroupEvent, History};
use super::limits::GroupLimits;
use super::pending::PendingOffsets;
use super::record::GroupRecord;

/// The state of one partition's coordinator.
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
    /// When a group's timers are due; `registered` has the same by group.
    pub(super) deadlines: BTreeSet<(i64, Str)>,
    pub(super) registered: HashMap<Str, i64>,
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

    /// Keeps so many rebalances of each group.
    #[must_use]
    pub fn with_history(mut self, size: usize) -> Self {
        self.history_size = size;
        self
    }

    /// Whether a group is a consumer group.
    pub(super) fn is_consumer_group(&self, id: &str) -> bool {
        self.consumers.groups.contains_key(id)
    }

    /// Sets a committed offset. Older offsets of open transactions can no longer replace it.
    pub(super) fn put_offset(&mut self, key: &OffsetCommitKey, committed: Committed) {
        self.pending.forget_offset(key);
        self.place_offset(key, committed);
    }

    pub(super) fn place_offset(&mut self, key: &OffsetCommitKey, committed: Committed) {
        let of_group = match self.offsets.get_mut(&key.group) {
            Some(of_group) => of_group,
            None => self.offsets.entry(key.group.detached()).or_default(),
        };
        of_group.insert((key.topic.detached(), key.partition), committed);
    }

    pub(super) fn remove_offset(&mut self, group: &Str, topic: &Str, partition: i32) {
        self.pending.forget_offset(&OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition });
        if let Some(of_group) = self.offsets.get_mut(group) {
            of_group.remove(&(topic.clone(), partition));
            if of_group.is_empty() {
                self.offsets.remove(group);
            }
        }
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
    pub(super) fn replace_or_remove_group(&self, group: ClassicGroup, effects: &mut Effects) {
        let has_offsets = self.offsets.contains_key(&group.id) || self.pending.groups().any(|id| *id == group.id);
        if group.is_unused() && !has_offsets {
            effects.update.classic.push((group.id.clone(), None));
        } else {
            effects.update.replace_group(group);
        }
    }

    /// Keeps an event in the history of its group.
    pub(super) fn record_event(&mut self, event: &GroupEvent) {
        if self.history_size == 0 {
            return;
        }
        if !self.histories.contains_key(&event.group) {
            self.histories.insert(event.group.detached(), History::default());
        }
        if let Some(history) = self.histories.get_mut(&event.group) {
            history.record_event(event, self.history_size);
        }
    }
}
