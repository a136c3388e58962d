//! The image: what the records so far amount to, and how it is read. `apply` changes it.

use std::sync::Arc;

use esker_protocol::primitives::{Str, Uuid};
use imbl::OrdMap;

use super::codec::RecordLevel;
use super::index::BrokerIndex;
use super::partitions::{NO_LEADER, PartitionId, PartitionImage, Partitions};
use super::record::{BrokerRecord, LevelRecord};

/// A registered broker.
pub type BrokerImage = BrokerRecord;
/// A broker's listener.
pub type ListenerImage = super::record::ListenerRecord;

impl BrokerRecord {
    /// Whether it may lead: it is not fenced and does not shut down.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
    /// Its partitions; the place is the number.
    pub partitions: Partitions,
}

/// What a config belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A topic.
    Topic,
    /// A broker, or all of them (empty name).
    Broker,
    /// A client-metrics subscription.
    ClientMetrics,
    /// A group.
    Group,
}

impl ResourceKind {
    /// Kafka's number for it.
    pub fn id(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The kind with that number.
    pub fn of_id(id: i8) -> Option<Self> {
        [Self::Topic, Self::Broker, Self::ClientMetrics, Self::Group].into_iter().find(|kind| kind.id() == id)
    }
}

/// A resource that has configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name.
    pub name: Str,
}

impl ConfigResource {
    /// A topic.
    pub fn topic(name: &str) -> Self {
        Self { kind: ResourceKind::Topic, name: Str::copy(name) }
    }

    /// One broker.
    pub fn broker(node_id: i32) -> Self {
        Self { kind: ResourceKind::Broker, name: Str::from(node_id.to_string()) }
    }

    /// All brokers.
    pub fn all_brokers() -> Self {
        Self { kind: ResourceKind::Broker, name: Str::default() }
    }
}

/// The metadata as of one offset of its log. A clone shares everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    pub(super) offset: u64,
    pub(super) level: Option<LevelRecord>,
    pub(super) brokers: OrdMap<i32, Arc<BrokerImage>>,
    pub(super) topics: OrdMap<Str, Arc<TopicImage>>,
    pub(super) topic_names: OrdMap<Uuid, Str>,
    pub(super) index: BrokerIndex,
    pub(super) configs: OrdMap<ConfigResource, OrdMap<Str, Str>>,
    pub(super) features: OrdMap<Str, i16>,
    pub(super) next_producer_id: i64,
    pub(super) reservations: OrdMap<i32, Uuid>,
    pub(super) removed_voters: OrdMap<Uuid, i32>,
}

impl MetadataImage {
    /// How many entries of the metadata log are in it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Says that the log is applied up to `offset`.
    pub fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The level of the records that the log may hold from here on.
    pub fn level(&self) -> RecordLevel {
        self.level.as_ref().map_or(RecordLevel::NONE, |record| RecordLevel(record.level))
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values().map(|broker| &**broker)
    }

    /// Brokers that are not fenced: those that clients see.
    pub fn live_brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers().filter(|broker| !broker.fenced)
    }

    /// Whether a broker is registered and not fenced (Kafka's `hasAliveBroker`).
    pub fn is_alive(&self, node_id: i32) -> bool {
        self.broker(node_id).is_some_and(|broker| !broker.fenced)
    }

    /// One broker.
    pub fn broker(&self, node_id: i32) -> Option<&BrokerImage> {
        self.brokers.get(&node_id).map(|broker| &**broker)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Topics from `name` on, by name.
    pub fn topics_from(&self, name: &Str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.range(name.clone()..).map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// A partition.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionImage> {
        self.topic_by_id(id.topic)?.partitions.get(usize::try_from(id.partition).ok()?)
    }

    /// Partitions that the broker leads. The cost is proportional to the result.
    pub fn led_by(&self, node_id: i32) -> impl Iterator<Item = &PartitionImage> {
        self.index.led(node_id).filter_map(|id| self.partition(id))
    }

    /// How many these are; costs nothing.
    pub fn led_count(&self, node_id: i32) -> usize {
        self.index.led_count(node_id)
    }

    /// Partitions of which the broker holds a replica, in sync or not. The cost is proportional to the result.
    pub fn replicated_by(&self, node_id: i32) -> impl Iterator<Item = &PartitionImage> {
        self.index.replicated(node_id).filter_map(|id| self.partition(id))
    }

    /// How many these are; costs nothing.
    pub fn replicated_count(&self, node_id: i32) -> usize {
        self.index.replicated_count(node_id)
    }

    /// Partitions without a leader. The cost is proportional to the result.
    pub fn leaderless(&self) -> impl Iterator<Item = &PartitionImage> {
        self.led_by(NO_LEADER)
    }

    /// One config that was set on a resource.
    pub fn config(&self, resource: &ConfigResource, name: &str) -> Option<&Str> {
        self.configs.get(resource)?.get(name)
    }

    /// All configs that were set on a resource.
    pub fn configs_of(&self, resource: &ConfigResource) -> impl Iterator<Item = (&Str, &Str)> {
        self.configs.get(resource).into_iter().flat_map(|configs| configs.iter())
    }

    /// Resources of one kind on which something is set.
    pub fn configured(&self, kind: ResourceKind) -> impl Iterator<Item = &Str> {
        self.configs.keys().filter(move |resource| resource.kind == kind).map(|resource| &resource.name)
    }

    /// Finalized features and their levels.
    pub fn features(&self) -> impl Iterator<Item = (&Str, i16)> {
        self.features.iter().map(|(name, level)| (name, *level))
    }

    /// The level of one feature, 0 if it was never set.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or_default()
    }

    /// The metadata folder that a node id belongs to, if that is known.
    pub fn reservation(&self, node_id: i32) -> Option<Uuid> {
        self.reservations.get(&node_id).copied()
    }

    /// All node ids that belong to a metadata folder, and the folder.
    pub fn reservations(&self) -> impl Iterator<Item = (i32, Uuid)> {
        self.reservations.iter().map(|(node_id, directory)| (*node_id, *directory))
    }

    /// The highest node id that is registered, reserved, or among the replicas of a partition.
    pub fn highest_node_id(&self) -> Option<i32> {
        let registered = self.brokers.get_max().map(|(id, _)| *id);
        let reserved = self.reservations.get_max().map(|(id, _)| *id);
        [registered, reserved, self.index.highest_broker()].into_iter().flatten().max()
    }

    /// Whether a controller with this metadata folder was removed from the voters.
    pub fn is_removed_voter(&self, directory: Uuid) -> bool {
        self.removed_voters.contains_key(&directory)
    }

    /// Metadata folders of voters that were removed, and their node ids.
    pub fn removed_voters(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.removed_voters.iter().map(|(directory, node_id)| (*directory, *node_id))
    }

    /// The first producer id that is not allocated.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
