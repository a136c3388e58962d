//! Changes of the partitions of a broker that joins or leaves: the in-sync set without it, and the new leaders.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;

use super::decision::Refusal;
use super::partition_change::{Election, PartitionChange};
use crate::config::{Scope, Statics, lookup, resolve_topic};
use crate::metadata::{
    BrokerImage, MetadataImage, MetadataRecord, PartitionChangeRecord, PartitionImage, TopicImage, directory,
};

/// Where the controller finds a topic's configs that are not set on the topic.
#[derive(Debug, Clone, Copy)]
pub struct ElectionRules<'a> {
    /// The broker whose configs apply.
    pub node_id: i32,
    /// What it was started with.
    pub statics: &'a Statics,
}

/// The configs of a topic that elections depend on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopicRules {
    pub min_isr: usize,
    pub election: Election,
    /// A record is acknowledged when it is flushed: a crash loses none that is committed.
    pub flushed: bool,
}

impl ElectionRules<'_> {
    /// `min.insync.replicas` of a topic.
    pub fn min_isr(&self, image: &MetadataImage, topic: &str) -> usize {
        let key = lookup(Scope::Topic, "min.insync.replicas");
        let value =
            key.and_then(|key| resolve_topic(image, self.node_id, self.statics, topic, key).value()?.parse().ok());
        value.unwrap_or(1)
    }

    pub(super) fn of_topic(&self, image: &MetadataImage, topic: &str) -> TopicRules {
        let value = |name: &str| {
            let key = lookup(Scope::Topic, name)?;
            resolve_topic(image, self.node_id, self.statics, topic, key).value().map(str::to_owned)
        };
        let unclean = value("unclean.leader.election.enable").is_some_and(|value| value == "true");
        TopicRules {
            min_isr: self.min_isr(image, topic),
            election: if unclean { Election::Unclean } else { Election::Online },
            flushed: value("durability").is_some_and(|value| value == "flush"),
        }
    }
}

/// What happens, mostly to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It goes: out of the in-sync set and of leadership.
    Leaves(i32),
    /// It may have lost records that were not flushed: `Leaves`, and in topics that do not flush it is not eligible either.
    Crashed(i32),
    /// It lost its disk, or leaves for good: `Leaves`, and it is no leader in any topic before it is in sync again.
    Lost(i32),
    /// Its log dir failed, `Leaves`; the second is the dir of a replica whose dir the metadata does not have.
    LosesDirectory(i32, Uuid),
    /// No broker comes or goes: a config of the topic has changed.
    Reconfigured,
    /// It may lead again, though the image has it as fenced.
    Returns(i32),
}

impl Event {
    fn leaving(self) -> Option<i32> {
        match self {
            Self::Leaves(id) | Self::Crashed(id) | Self::Lost(id) | Self::LosesDirectory(id, _) => Some(id),
            Self::Returns(_) | Self::Reconfigured => None,
        }
    }
}

/// Whether a replica can be reached: its broker is not fenced and its log dir works (Kafka's `isReplicaOffline`).
pub fn is_online(image: &MetadataImage, partition: &PartitionImage, replica: i32) -> bool {
    image.broker(replica).is_some_and(|broker| !broker.fenced && has_directory(broker, partition))
}

/// Whether a replica may lead: its broker is active and its log dir works.
pub(super) fn is_available(image: &MetadataImage, partition: &PartitionImage, replica: i32) -> bool {
    image.broker(replica).is_some_and(|broker| broker.is_active() && has_directory(broker, partition))
}

fn has_directory(broker: &BrokerImage, partition: &PartitionImage) -> bool {
    match partition.directory(broker.node_id) {
        directory::LOST => false,
        directory => directory::is_reserved(directory) || broker.log_dirs.contains(&directory),
    }
}

/// The changes of `partitions` that follow from `event`. Partitions of a topic should stand together: its configs are looked up once.
pub(super) fn apply_event<'a>(
    image: &'a MetadataImage,
    rules: ElectionRules<'_>,
    partitions: impl Iterator<Item = &'a PartitionImage>,
    event: Event,
) -> Vec<MetadataRecord> {
    let mut known: Option<(&TopicImage, TopicRules)> = None;
    let mut records = Vec::new();
    for partition in partitions {
        let topic = match known.take().filter(|(topic, _)| topic.id == partition.topic_id) {
            Some(same) => same,
            None => {
                let Some(topic) = image.topic_by_id(partition.topic_id) else { continue };
                (&**topic, rules.of_topic(image, &topic.name))
            }
        };
        records.extend(change(image, &topic.1, partition, event).map(MetadataRecord::PartitionChange));
        known = Some(topic);
    }
    records
}

fn change(
    image: &MetadataImage,
    rules: &TopicRules,
    partition: &PartitionImage,
    event: Event,
) -> Option<PartitionChangeRecord> {
    let available = |replica: i32| match event {
        Event::Returns(id) if id == replica => image.broker(id).is_some_and(|broker| has_directory(broker, partition)),
        _ if event.leaving() == Some(replica) => false,
        _ => is_available(image, partition, replica),
    };
    let mut change = PartitionChange::new(partition, rules.min_isr, &available);
    change.election = rules.election;
    change.isr.retain(|id| event.leaving() != Some(*id));
    match event {
        Event::Crashed(id) if !rules.flushed => change.lost.push(id),
        Event::Lost(id) => change.erased.push(id),
        Event::LosesDirectory(id, dir) if partition.directory(id) == directory::UNASSIGNED => {
            change.directories.push((id, dir));
        }
        _ => {}
    }
    change.build()
}

/// The broker, if `epoch` is that of its registration.
pub(super) fn check_epoch(image: &MetadataImage, node_id: i32, epoch: i64) -> Result<&BrokerImage, Refusal> {
    let stale = |message: String| Err(Refusal::new(ErrorCode::STALE_BROKER_EPOCH, message));
    match image.broker(node_id) {
        None => stale(format!("No broker registration found for broker id {node_id}")),
        Some(broker) if broker.epoch != epoch => {
            stale(format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch))
        }
        Some(broker) => Ok(broker),
    }
}
