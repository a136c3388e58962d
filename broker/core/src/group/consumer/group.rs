//! A consumer group as its records make it. `apply` is the only mutation, and serves replay and new decisions alike; what
//! is derived (the owner of a partition, the number of subscriptions of a topic) is updated by it.
//!
//! All maps are persistent, so that a decision can be tried out on a clone that costs next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker_protocol::messages::internal::consumer_groups::{
    ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, ConsumerGroupRecord, ConsumerGroupRegularExpressionKey,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue, TargetTopicPartition,
};
use esker_protocol::primitives::{Str, Uuid};
use imbl::{HashMap, OrdMap};

use super::member::{ConsumerMember, Owned, Partitions};

/// Kafka's names for the states of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerState {
    /// No members.
    Empty,
    /// Members or topics have changed, and the target assignment has not followed yet.
    Assigning,
    /// Members are on their way to the target assignment.
    Reconciling,
    /// All members own their target assignments.
    Stable,
}

impl ConsumerState {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// The topics that a regular expression matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Their names.
    pub topics: BTreeSet<Str>,
    /// The version of the metadata that was looked at.
    pub version: i64,
    /// When, in ms.
    pub at: i64,
}

/// How often a topic is subscribed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subscribers {
    /// By members that name it.
    pub by_name: usize,
    /// By regular expressions that match it.
    pub by_regex: usize,
}

/// A new group's epochs: the first change makes them 2, as in Kafka.
const FIRST_EPOCH: i32 = 1;

/// A consumer group.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerGroup {
    /// Its id.
    pub id: Str,
    /// Rises with each change of members, subscriptions or topics.
    pub epoch: i32,
    /// A hash over the topics subscribed to, as they were at this epoch.
    pub metadata_hash: i64,
    /// The group epoch of the target assignment.
    pub assignment_epoch: i32,
    /// When the target assignment was made; 0 for never.
    pub assigned_at: i64,
    pub(super) members: OrdMap<Str, Arc<ConsumerMember>>,
    pub(super) target: OrdMap<Str, Arc<Partitions>>,
    pub(super) resolved: OrdMap<Str, Arc<Resolved>>,
    /// A record of key type 4 is in the log.
    pub(super) has_partition_metadata: bool,
    // Derived.
    pub(super) static_members: OrdMap<Str, Str>,
    pub(super) topics: OrdMap<Str, Subscribers>,
    pub(super) regexes: OrdMap<Str, usize>,
    assignors: OrdMap<Str, usize>,
    /// The member that owns a partition, or has not revoked it yet.
    owners: HashMap<(Uuid, i32), Str>,
    classic_members: usize,
}

impl ConsumerGroup {
    /// An empty group.
    pub fn new(id: Str) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            assignment_epoch: FIRST_EPOCH,
            assigned_at: 0,
            members: OrdMap::new(),
            target: OrdMap::new(),
            resolved: OrdMap::new(),
            has_partition_metadata: false,
            static_members: OrdMap::new(),
            topics: OrdMap::new(),
            regexes: OrdMap::new(),
            assignors: OrdMap::new(),
            owners: HashMap::new(),
            classic_members: 0,
        }
    }

    /// Its state.
    pub fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch > self.assignment_epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|m| m.is_reconciled_to(self.assignment_epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// Its members, by id.
    pub fn members(&self) -> impl Iterator<Item = &ConsumerMember> {
        self.members.values().map(|member| &**member)
    }

    /// One member.
    pub fn member(&self, id: &str) -> Option<&ConsumerMember> {
        self.members.get(id).map(|member| &**member)
    }

    /// The member that holds a `group.instance.id`.
    pub fn static_member(&self, instance_id: &str) -> Option<&ConsumerMember> {
        self.member(self.static_members.get(instance_id)?)
    }

    /// What a member is to have.
    pub fn target_of(&self, member_id: &str) -> Option<&Arc<Partitions>> {
        self.target.get(member_id)
    }

    /// The member that owns a partition, or has not revoked it yet.
    pub fn owner(&self, topic: Uuid, partition: i32) -> Option<&Str> {
        self.owners.get(&(topic, partition))
    }

    /// How many members use the classic protocol.
    pub fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// Whether a member names the topic, or an expression matches it.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The assignor that most members wish for.
    pub fn preferred_assignor(&self) -> Option<&Str> {
        // Of equals the first by name, so that the choice does not hang on the order of requests.
        self.assignors.iter().rev().max_by_key(|(_, count)| **count).map(|(name, _)| name)
    }

    /// Whether all members subscribe to the same topics.
    pub fn is_homogeneous(&self) -> bool {
        let members = self.members.len();
        match self.regexes.iter().next() {
            None => self.topics.values().all(|s| s.by_name == members),
            Some((_, count)) if *count == members => self.topics.values().all(|s| s.by_regex == 1 && s.by_name == 0),
            Some(_) => false,
        }
    }

    /// Whether a member subscribes to a topic.
    pub fn subscribes(&self, member: &ConsumerMember, topic: &str) -> bool {
        member.topics.contains(topic) || self.resolved.get(&member.regex).is_some_and(|r| r.topics.contains(topic))
    }

    /// Applies a record. Records of a compacted log are applied too, so none may rely on an earlier one.
    pub fn apply(&mut self, record: &ConsumerGroupRecord) {
        match record {
            ConsumerGroupRecord::Group(_, value) => {
                let value =
                    value.clone().unwrap_or(ConsumerGroupMetadataValue { epoch: FIRST_EPOCH, metadata_hash: 0 });
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            ConsumerGroupRecord::PartitionMetadata(_, value) => self.has_partition_metadata = value.is_some(),
            ConsumerGroupRecord::Member(key, Some(value)) => {
                let old = self.members.get(&key.member_id).cloned();
                let mut member = self.member_or_new(&key.member_id);
                member.describe(value);
                self.replace(old, Some(member));
            }
            ConsumerGroupRecord::Member(key, None) => {
                let old = self.members.get(&key.member_id).cloned();
                self.replace(old, None);
            }
            ConsumerGroupRecord::Target(_, value) => {
                (self.assignment_epoch, self.assigned_at) =
                    value.as_ref().map_or((FIRST_EPOCH, 0), |v| (v.assignment_epoch, v.assignment_timestamp));
            }
            ConsumerGroupRecord::TargetMember(key, Some(value)) => {
                let mut target = Partitions::new();
                for topic in &value.topic_partitions {
                    let mut partitions = topic.partitions.clone();
                    partitions.sort_unstable();
                    target.insert(topic.topic_id, partitions);
                }
                self.target.insert(key.member_id.detached(), Arc::new(target));
            }
            ConsumerGroupRecord::TargetMember(key, None) => {
                self.target.remove(&key.member_id);
            }
            ConsumerGroupRecord::Current(key, value) => {
                let old = self.members.get(&key.member_id).cloned();
                if old.is_none() && value.is_none() {
                    return;
                }
                let mut member = self.member_or_new(&key.member_id);
                member.set_current_assignment(value.as_ref());
                self.replace(old, Some(member));
            }
            ConsumerGroupRecord::RegularExpression(key, value) => {
                if let Some(old) = self.resolved.remove(&key.regular_expression) {
                    old.topics.iter().for_each(|topic| self.count_regex(topic, false));
                }
                if let Some(value) = value {
                    let resolved = Resolved {
                        topics: value.topics.iter().map(Str::detached).collect(),
                        version: value.version,
                        at: value.timestamp,
                    };
                    resolved.topics.iter().for_each(|topic| self.count_regex(topic, true));
                    self.resolved.insert(key.regular_expression.detached(), Arc::new(resolved));
                }
            }
        }
    }

    fn member_or_new(&self, id: &Str) -> ConsumerMember {
        self.members.get(id).map_or_else(|| ConsumerMember::new(id.detached()), |member| (**member).clone())
    }

    /// A member takes the place of what it was; the counts follow.
    fn replace(&mut self, old: Option<Arc<ConsumerMember>>, new: Option<ConsumerMember>) {
        if let Some(old) = &old {
            let stays = new.as_ref();
            if stays.is_none_or(|new| new.topics != old.topics) {
                old.topics.iter().for_each(|topic| self.count_name(topic, false));
            }
            if stays.is_none_or(|new| new.regex != old.regex) && !old.regex.is_empty() {
                count(&mut self.regexes, &old.regex, false);
            }
            if let Some(assignor) = old.assignor.as_ref().filter(|_| stays.is_none_or(|n| n.assignor != old.assignor)) {
                count(&mut self.assignors, assignor, false);
            }
            if let Some(instance) = &old.instance_id
                && stays.is_none_or(|new| new.instance_id != old.instance_id)
                && self.static_members.get(instance) == Some(&old.id)
            {
                self.static_members.remove(instance);
            }
            self.classic_members -= usize::from(old.is_classic());
            if stays.is_none_or(|new| new.assigned != old.assigned || new.revoking != old.revoking) {
                self.release(old);
            }
        }
        let Some(new) = new else {
            if let Some(old) = old {
                self.members.remove(&old.id);
            }
            return;
        };
        let was = old.as_deref();
        if was.is_none_or(|old| new.topics != old.topics) {
            new.topics.iter().for_each(|topic| self.count_name(topic, true));
        }
        if was.is_none_or(|old| new.regex != old.regex) && !new.regex.is_empty() {
            count(&mut self.regexes, &new.regex, true);
        }
        if let Some(assignor) = new.assignor.as_ref().filter(|_| was.is_none_or(|o| o.assignor != new.assignor)) {
            count(&mut self.assignors, assignor, true);
        }
        if let Some(instance) = &new.instance_id {
            self.static_members.insert(instance.clone(), new.id.clone());
        }
        self.classic_members += usize::from(new.is_classic());
        if was.is_none_or(|old| new.assigned != old.assigned || new.revoking != old.revoking) {
            let all = partitions_of(&new.assigned).chain(partitions_of(&new.revoking));
            all.for_each(|partition| {
                self.owners.insert(partition, new.id.clone());
            });
        }
        self.members.insert(new.id.clone(), Arc::new(new));
    }

    fn release(&mut self, member: &ConsumerMember) {
        for partition in partitions_of(&member.assigned).chain(partitions_of(&member.revoking)) {
            if self.owners.get(&partition) == Some(&member.id) {
                self.owners.remove(&partition);
            }
        }
    }

    fn count_name(&mut self, topic: &Str, up: bool) {
        self.count_topic(topic, |s| &mut s.by_name, up);
    }

    fn count_regex(&mut self, topic: &Str, up: bool) {
        self.count_topic(topic, |s| &mut s.by_regex, up);
    }

    fn count_topic(&mut self, topic: &Str, which: impl Fn(&mut Subscribers) -> &mut usize, up: bool) {
        let mut subscribers = self.topics.get(topic).copied().unwrap_or_default();
        let place = which(&mut subscribers);
        *place = if up { place.saturating_add(1) } else { place.saturating_sub(1) };
        if subscribers == Subscribers::default() {
            self.topics.remove(topic);
        } else {
            self.topics.insert(topic.clone(), subscribers);
        }
    }

    /// Tombstones of the whole group, in Kafka's order.
    pub fn tombstones(&self) -> Vec<ConsumerGroupRecord> {
        let mut records = Vec::new();
        records.extend(self.members.keys().map(|member| self.current_tombstone(member)));
        records.extend(self.target.keys().map(|member| self.target_tombstone(member)));
        records.push(ConsumerGroupRecord::Target(
            ConsumerGroupTargetAssignmentMetadataKey { group_id: self.id.clone() },
            None,
        ));
        records.extend(self.members.keys().map(|member| self.member_tombstone(member)));
        records.extend(self.resolved.keys().map(|regex| self.regex_tombstone(regex)));
        if self.has_partition_metadata {
            records.push(self.partition_metadata_tombstone());
        }
        records.push(ConsumerGroupRecord::Group(ConsumerGroupMetadataKey { group_id: self.id.clone() }, None));
        records
    }

    /// The group at an epoch, as a record.
    pub fn epoch_record(&self, epoch: i32, metadata_hash: i64) -> ConsumerGroupRecord {
        let key = ConsumerGroupMetadataKey { group_id: self.id.clone() };
        ConsumerGroupRecord::Group(key, Some(ConsumerGroupMetadataValue { epoch, metadata_hash }))
    }

    /// The epoch of the target assignment, as a record.
    pub fn assignment_record(&self, assignment_epoch: i32, assignment_timestamp: i64) -> ConsumerGroupRecord {
        let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: self.id.clone() };
        let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
        ConsumerGroupRecord::Target(key, Some(value))
    }

    /// A member's part of the target assignment, as a record.
    pub fn target_record(&self, member_id: &Str, target: &Partitions) -> ConsumerGroupRecord {
        let key = ConsumerGroupTargetAssignmentMemberKey { group_id: self.id.clone(), member_id: member_id.clone() };
        let topic = |(topic_id, partitions): (&Uuid, &Vec<i32>)| TargetTopicPartition {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        };
        let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: target.iter().map(topic).collect() };
        ConsumerGroupRecord::TargetMember(key, Some(value))
    }

    /// Takes away what a member has.
    pub fn current_tombstone(&self, member_id: &Str) -> ConsumerGroupRecord {
        use esker_protocol::messages::internal::consumer_groups::ConsumerGroupCurrentMemberAssignmentKey as Key;
        ConsumerGroupRecord::Current(Key { group_id: self.id.clone(), member_id: member_id.clone() }, None)
    }

    /// Takes away what a member is to have.
    pub fn target_tombstone(&self, member_id: &Str) -> ConsumerGroupRecord {
        let key = ConsumerGroupTargetAssignmentMemberKey { group_id: self.id.clone(), member_id: member_id.clone() };
        ConsumerGroupRecord::TargetMember(key, None)
    }

    /// Takes away a member.
    pub fn member_tombstone(&self, member_id: &Str) -> ConsumerGroupRecord {
        use esker_protocol::messages::internal::consumer_groups::ConsumerGroupMemberMetadataKey as Key;
        ConsumerGroupRecord::Member(Key { group_id: self.id.clone(), member_id: member_id.clone() }, None)
    }

    /// Takes away what an expression matches.
    pub fn regex_tombstone(&self, regex: &Str) -> ConsumerGroupRecord {
        let key = ConsumerGroupRegularExpressionKey { group_id: self.id.clone(), regular_expression: regex.clone() };
        ConsumerGroupRecord::RegularExpression(key, None)
    }

    /// Takes away what Kafka before 4.1 kept.
    pub fn partition_metadata_tombstone(&self) -> ConsumerGroupRecord {
        use esker_protocol::messages::internal::consumer_groups::ConsumerGroupPartitionMetadataKey as Key;
        ConsumerGroupRecord::PartitionMetadata(Key { group_id: self.id.clone() }, None)
    }
}

fn partitions_of(owned: &Owned) -> impl Iterator<Item = (Uuid, i32)> {
    owned.iter().flat_map(|(topic, partitions)| partitions.keys().map(move |p| (*topic, *p)))
}

fn count(counts: &mut OrdMap<Str, usize>, name: &Str, up: bool) {
    let now = counts.get(name).copied().unwrap_or_default();
    let now = if up { now.saturating_add(1) } else { now.saturating_sub(1) };
    if now == 0 {
        counts.remove(name);
    } else {
        counts.insert(name.clone(), now);
    }
}
