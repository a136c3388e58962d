//! The image: what the records so far amount to.

use std::sync::Arc;

use esker_protocol::primitives::{Str, Uuid};
use imbl::{HashMap, OrdMap};

use super::record::{BrokerRecord, ConfigRecord, MetadataRecord, PartitionRecord};

/// A registered broker.
pub type BrokerImage = BrokerRecord;
/// A broker's listener.
pub type ListenerImage = super::record::ListenerRecord;
/// A partition.
pub type PartitionImage = PartitionRecord;

/// A topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
    /// Its partitions; the place is the number.
    pub partitions: Vec<PartitionImage>,
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
    pub(super) brokers: OrdMap<i32, Arc<BrokerImage>>,
    pub(super) topics: OrdMap<Str, Arc<TopicImage>>,
    pub(super) topic_names: HashMap<Uuid, Str>,
    pub(super) configs: OrdMap<ConfigResource, OrdMap<Str, Str>>,
    pub(super) features: OrdMap<Str, i16>,
    pub(super) next_producer_id: i64,
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

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values().map(|broker| &**broker)
    }

    /// Brokers that may lead.
    pub fn live_brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers().filter(|broker| !broker.fenced)
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

    /// The first producer id that nobody has.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The only way an image changes.
    pub fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Broker(broker) => {
                self.brokers.insert(broker.node_id, Arc::new(broker.clone()));
            }
            MetadataRecord::Topic(topic) => {
                let image = TopicImage { name: topic.name.clone(), id: topic.id, partitions: Vec::new() };
                self.topic_names.insert(topic.id, topic.name.clone());
                self.topics.insert(topic.name.clone(), Arc::new(image));
            }
            MetadataRecord::Partition(partition) => self.apply_partition(partition),
            MetadataRecord::RemoveTopic(removed) => {
                if let Some(name) = self.topic_names.remove(&removed.id) {
                    self.topics.remove(&name);
                    self.configs.remove(&ConfigResource { kind: ResourceKind::Topic, name });
                }
            }
            MetadataRecord::Config(config) => self.apply_config(config),
            MetadataRecord::Feature(feature) if feature.level == 0 => {
                self.features.remove(&feature.name);
            }
            MetadataRecord::Feature(feature) => {
                self.features.insert(feature.name.clone(), feature.level);
            }
            MetadataRecord::ProducerIds(ids) => self.next_producer_id = ids.next,
            MetadataRecord::NewLeaderEpochs(started) => self.apply_new_leader_epochs(started.node_id),
        }
    }

    fn apply_new_leader_epochs(&mut self, node_id: i32) {
        let leads = |topic: &TopicImage| topic.partitions.iter().any(|partition| partition.leader == node_id);
        let led: Vec<Str> = self.topics().filter(|topic| leads(topic)).map(|topic| topic.name.clone()).collect();
        for name in led {
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            let partitions = Arc::make_mut(topic).partitions.iter_mut();
            for partition in partitions.filter(|partition| partition.leader == node_id) {
                partition.leader_epoch = partition.leader_epoch.saturating_add(1);
                partition.partition_epoch = partition.partition_epoch.saturating_add(1);
            }
        }
    }

    fn apply_partition(&mut self, partition: &PartitionRecord) {
        let Some(topic) = self.topic_names.get(&partition.topic_id).and_then(|name| self.topics.get_mut(name)) else {
            return;
        };
        let topic = Arc::make_mut(topic);
        let Ok(at) = usize::try_from(partition.partition) else { return };
        // Records of new partitions come in order; one out of order would leave a hole and is not taken.
        if topic.partitions.len() == at {
            topic.partitions.push(partition.clone());
        } else if let Some(known) = topic.partitions.get_mut(at) {
            *known = partition.clone();
        }
    }

    fn apply_config(&mut self, config: &ConfigRecord) {
        let Some(kind) = ResourceKind::of_id(config.resource_type) else { return };
        let resource = ConfigResource { kind, name: config.resource_name.clone() };
        match &config.value {
            Some(value) => {
                self.configs.entry(resource).or_default().insert(config.name.clone(), value.clone());
            }
            None => {
                let mut left = self.configs.get(&resource).cloned().unwrap_or_default();
                left.remove(&config.name);
                if left.is_empty() {
                    self.configs.remove(&resource);
                } else {
                    self.configs.insert(resource, left);
                }
            }
        }
    }
}
