//! How records change an image: the only way it changes.
//!
//! A record costs what it touches. It depends on the image and on nothing else, so that every node that applies the same records holds
//! the same image; a record that does not fit (of a topic that is gone, of an earlier registration) changes nothing.

use std::sync::Arc;

use super::codec::MetadataRecord;
use super::image::{ConfigResource, MetadataImage, ResourceKind, TopicImage};
use super::partitions::{PartitionId, PartitionImage, Partitions};
use super::record::{
    BrokerChangeRecord, BrokerRecord, ConfigRecord, FeatureRecord, LevelRecord, NodeReservationRecord,
    PartitionChangeRecord, RemovedVoterRecord, TopicRecord, UnregisterBrokerRecord,
};

impl MetadataImage {
    /// Applies one record.
    pub fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Level(level) => self.apply_level(level),
            MetadataRecord::Broker(broker) => {
                self.brokers.insert(broker.node_id, Arc::new(broker.clone()));
            }
            MetadataRecord::BrokerChange(change) => self.apply_broker_change(change),
            MetadataRecord::UnregisterBroker(gone) => self.apply_unregistration(gone),
            MetadataRecord::Topic(topic) => self.apply_topic(topic),
            MetadataRecord::RemoveTopic(removed) => {
                if let Some(name) = self.topic_names.get(&removed.id).cloned() {
                    self.remove_topic(&name);
                    self.configs.remove(&ConfigResource { kind: ResourceKind::Topic, name });
                }
            }
            MetadataRecord::Partition(partition) => self.set_partition(partition.clone()),
            MetadataRecord::PartitionChange(change) => self.apply_partition_change(change),
            MetadataRecord::Config(config) => self.apply_config(config),
            MetadataRecord::Feature(feature) => self.apply_feature(feature),
            MetadataRecord::ProducerIds(ids) => self.next_producer_id = ids.next,
            MetadataRecord::NewLeaderEpochs(started) => self.apply_new_leader_epochs(started.node_id),
            MetadataRecord::NodeReservation(reserved) => self.apply_reservation(reserved),
            MetadataRecord::RemovedVoter(removed) => self.apply_removed_voter(removed),
        }
    }

    fn apply_level(&mut self, level: &LevelRecord) {
        // What is written stays written: a level never falls.
        if self.level().0 < level.level {
            self.level = Some(level.clone());
        }
    }

    /// The broker, if that is still its registration.
    fn registered(&mut self, node_id: i32, epoch: i64) -> Option<&mut BrokerRecord> {
        let broker = self.brokers.get_mut(&node_id)?;
        (broker.epoch == epoch).then(|| Arc::make_mut(broker))
    }

    fn apply_broker_change(&mut self, change: &BrokerChangeRecord) {
        let Some(broker) = self.registered(change.node_id, change.epoch) else { return };
        match change.fenced {
            0 => {}
            fenced => broker.fenced = fenced > 0,
        }
        broker.in_controlled_shutdown |= change.in_controlled_shutdown;
        if let Some(dirs) = &change.log_dirs {
            broker.log_dirs.clone_from(dirs);
        }
    }

    fn apply_unregistration(&mut self, gone: &UnregisterBrokerRecord) {
        if self.registered(gone.node_id, gone.epoch).is_some() {
            self.brokers.remove(&gone.node_id);
        }
    }

    fn apply_topic(&mut self, topic: &TopicRecord) {
        // A name and an id belong to one topic each.
        self.remove_topic(&topic.name);
        if let Some(other) = self.topic_names.get(&topic.id).cloned() {
            self.remove_topic(&other);
        }
        let image = TopicImage { name: topic.name.clone(), id: topic.id, partitions: Partitions::default() };
        self.topic_names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(image));
    }

    fn remove_topic(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.topic_names.remove(&topic.id);
            topic.partitions.iter().for_each(|partition| self.index.update(Some(partition), None));
        }
    }

    fn set_partition(&mut self, partition: PartitionImage) {
        let Some(name) = self.topic_names.get(&partition.topic_id) else { return };
        let Some(topic) = self.topics.get_mut(name) else { return };
        let id = partition.id();
        let Some(old) = Arc::make_mut(topic).partitions.set(partition) else { return };
        let new = usize::try_from(id.partition).ok().and_then(|at| topic.partitions.get(at));
        self.index.update(old.as_deref(), new);
    }

    fn apply_partition_change(&mut self, change: &PartitionChangeRecord) {
        let id = PartitionId { topic: change.topic_id, partition: change.partition };
        if let Some(changed) = self.partition(id).map(|partition| partition.changed(change)) {
            self.set_partition(changed);
        }
    }

    fn apply_new_leader_epochs(&mut self, node_id: i32) {
        let led: Vec<PartitionId> = self.index.led(node_id).collect();
        for id in led {
            let Some(partition) = self.partition(id) else { continue };
            let leader_epoch = partition.leader_epoch.saturating_add(1);
            let partition_epoch = partition.partition_epoch.saturating_add(1);
            self.set_partition(PartitionImage { leader_epoch, partition_epoch, ..partition.clone() });
        }
    }

    fn apply_reservation(&mut self, reserved: &NodeReservationRecord) {
        if reserved.directory.is_zero() {
            self.reservations.remove(&reserved.node_id);
        } else {
            self.reservations.insert(reserved.node_id, reserved.directory);
        }
    }

    fn apply_removed_voter(&mut self, removed: &RemovedVoterRecord) {
        if removed.forgotten {
            self.removed_voters.remove(&removed.directory);
        } else {
            self.removed_voters.insert(removed.directory, removed.node_id);
        }
    }

    fn apply_feature(&mut self, feature: &FeatureRecord) {
        if feature.level == 0 {
            self.features.remove(&feature.name);
        } else {
            self.features.insert(feature.name.clone(), feature.level);
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
