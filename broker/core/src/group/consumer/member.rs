//! A member of a consumer group, and its two records: how it describes itself, and what it has.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_protocol::messages::internal::consumer_groups::{
    ClassicMember, ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue,
    ConsumerGroupRecord, OwnedTopicPartitions,
};
use esker_protocol::primitives::{Str, Uuid};

/// Partitions by topic, each list sorted and without an empty one.
pub type Partitions = BTreeMap<Uuid, Vec<i32>>;

/// Partitions that a member has: by topic, each with the epoch at which the member got it (KIP-1251).
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The epoch of a static member that is away for a while.
pub const LEFT_FOR_A_WHILE: i32 = -2;
/// The epoch of a member that leaves for good.
pub const LEFT: i32 = -1;

/// Where a member is on its way to the target assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has its target assignment, as far as the coordinator knows.
    Stable,
    /// It must give partitions back before it moves on.
    UnrevokedPartitions,
    /// It waits for partitions that other members have not revoked.
    UnreleasedPartitions,
    /// Written by something later.
    Unknown,
}

impl MemberState {
    fn id(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn of_id(id: i8) -> Self {
        match id {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerMember {
    /// Member id.
    pub id: Str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    /// `client.rack`.
    pub rack_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// How long it may take to revoke partitions, in ms.
    pub rebalance_timeout_ms: i32,
    /// Topics that it names.
    pub topics: BTreeSet<Str>,
    /// A regular expression for more of them; empty for none.
    pub regex: Str,
    /// The assignor that it wishes for.
    pub assignor: Option<Str>,
    /// Its metadata in the classic protocol, if it uses that protocol.
    pub classic: Option<ClassicMemberMetadata>,
    /// The epoch in its responses.
    pub epoch: i32,
    /// The epoch before: the response with the newer one may be lost.
    pub previous_epoch: i32,
    /// Where it is on its way.
    pub state: MemberState,
    /// What it owns.
    pub assigned: Owned,
    /// Partitions that it must revoke.
    pub revoking: Owned,
}

impl ConsumerMember {
    /// A member of which only the id is known.
    pub fn new(id: Str) -> Self {
        Self {
            id,
            instance_id: None,
            rack_id: None,
            client_id: Str::default(),
            client_host: Str::default(),
            rebalance_timeout_ms: -1,
            topics: BTreeSet::new(),
            regex: Str::default(),
            assignor: None,
            classic: None,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }

    /// Moves on to `epoch`.
    pub fn advance(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }

    /// Whether it has all that the target of `epoch` gives it.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// Whether it uses the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.classic.is_some()
    }

    /// The epoch at which it got a partition that it owns or must revoke.
    pub fn assignment_epoch(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic).and_then(|partitions| partitions.get(&partition)).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// How it describes itself, as a record.
    pub fn metadata_record(&self, group_id: &Str) -> ConsumerGroupRecord {
        ConsumerGroupRecord::Member(
            ConsumerGroupMemberMetadataKey { group_id: group_id.clone(), member_id: self.id.clone() },
            Some(ConsumerGroupMemberMetadataValue {
                instance_id: self.instance_id.clone(),
                rack_id: self.rack_id.clone(),
                client_id: self.client_id.clone(),
                client_host: self.client_host.clone(),
                subscribed_topic_names: self.topics.iter().cloned().collect(),
                subscribed_topic_regex: Some(self.regex.clone()),
                rebalance_timeout_ms: self.rebalance_timeout_ms,
                server_assignor: self.assignor.clone(),
                classic_member_metadata: ClassicMember(self.classic.clone()),
            }),
        )
    }

    /// What it has, as a record.
    pub fn current_record(&self, group_id: &Str) -> ConsumerGroupRecord {
        ConsumerGroupRecord::Current(
            ConsumerGroupCurrentMemberAssignmentKey { group_id: group_id.clone(), member_id: self.id.clone() },
            Some(ConsumerGroupCurrentMemberAssignmentValue {
                member_epoch: self.epoch,
                previous_member_epoch: self.previous_epoch,
                state: self.state.id(),
                assigned_partitions: to_record(&self.assigned),
                partitions_pending_revocation: to_record(&self.revoking),
            }),
        )
    }

    /// Takes over how it describes itself.
    pub fn describe(&mut self, value: &ConsumerGroupMemberMetadataValue) {
        // What is kept must not keep a batch of the log or the frame of a request.
        let detached = |text: &Option<Str>| text.as_ref().map(Str::detached);
        self.instance_id = detached(&value.instance_id);
        self.rack_id = detached(&value.rack_id);
        self.client_id = value.client_id.detached();
        self.client_host = value.client_host.detached();
        self.topics = value.subscribed_topic_names.iter().map(Str::detached).collect();
        self.regex = detached(&value.subscribed_topic_regex).unwrap_or_default();
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = detached(&value.server_assignor);
        self.classic = value.classic_member_metadata.0.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .supported_protocols
                .iter()
                .map(|p| ClassicProtocol { name: p.name.detached(), metadata: Bytes::copy_from_slice(&p.metadata) })
                .collect(),
        });
    }

    /// Takes over what it has; without a value it has nothing and no epoch.
    pub fn set_current_assignment(&mut self, value: Option<&ConsumerGroupCurrentMemberAssignmentValue>) {
        let Some(value) = value else {
            (self.epoch, self.previous_epoch) = (LEFT, LEFT);
            self.assigned.clear();
            self.revoking.clear();
            return;
        };
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = MemberState::of_id(value.state);
        self.assigned = from_record(&value.assigned_partitions, value.member_epoch);
        self.revoking = from_record(&value.partitions_pending_revocation, value.member_epoch);
    }
}

fn to_record(owned: &Owned) -> Vec<OwnedTopicPartitions> {
    let topic = |(topic_id, partitions): (&Uuid, &BTreeMap<i32, i32>)| OwnedTopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    owned.iter().map(topic).collect()
}

/// Before 4.3 records had no epochs for single partitions: the member's epoch applies to all.
fn from_record(topics: &[OwnedTopicPartitions], member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.as_ref().filter(|epochs| epochs.len() == topic.partitions.len());
        let epochs = epochs.into_iter().flatten().copied().chain(std::iter::repeat(member_epoch));
        owned.entry(topic.topic_id).or_default().extend(topic.partitions.iter().copied().zip(epochs));
    }
    owned
}

/// The partitions without their epochs.
pub fn without_epochs(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

/// Partitions that are all owned since `epoch`.
pub fn owned_since(partitions: &Partitions, epoch: i32) -> Owned {
    partitions.iter().map(|(topic, list)| (*topic, list.iter().map(|p| (*p, epoch)).collect())).collect()
}
