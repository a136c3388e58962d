//! Registers a broker that joins the cluster or restarts.

use esker_protocol::primitives::{Str, Uuid};

use super::decision::Decision;
use crate::metadata::{
    BrokerRecord, ListenerRecord, MetadataImage, MetadataRecord, NewLeaderEpochsRecord, RecordLevel, supported_features,
};

/// What a broker registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// `node.id`.
    pub node_id: i32,
    /// Changes with each start.
    pub incarnation: Uuid,
    /// Where it is reached: by other nodes at the first, by clients at the one of their listener's name.
    pub listeners: Vec<ListenerRecord>,
    /// `broker.rack`.
    pub rack: Option<Str>,
    /// Ids of its log dirs.
    pub log_dirs: Vec<Uuid>,
    /// Ids of those that its own configuration cordons (`cordoned.log.dirs`, KIP-1066).
    pub cordoned_log_dirs: Vec<Uuid>,
}

impl Registration {
    /// The cordoned log dirs, where the records of the log have a place for them.
    pub(super) fn cordoned_at(&self, level: RecordLevel) -> Vec<Uuid> {
        if level < RecordLevel::CORDONED_DIRECTORIES { Vec::new() } else { self.cordoned_log_dirs.clone() }
    }
}

/// Registers a broker: the answer is its broker epoch. Partitions that it led before begin a new leader epoch, also after a
/// clean stop (as in Kafka): records that a power cut took may have been read, and only a new epoch shows their readers
/// that others stand in their place (KIP-320).
pub fn register_broker(image: &MetadataImage, registration: Registration) -> Decision<i64> {
    let node_id = registration.node_id;
    let epoch = image.broker(node_id).map_or(0, |known| known.epoch.saturating_add(1));
    let cordoned_log_dirs = registration.cordoned_at(image.level());
    let record = BrokerRecord {
        node_id,
        epoch,
        incarnation: registration.incarnation,
        listeners: registration.listeners,
        rack: registration.rack,
        log_dirs: registration.log_dirs,
        fenced: false,
        in_controlled_shutdown: false,
        features: supported_features(),
        record_level: RecordLevel::NEWEST.0,
        cordoned_log_dirs,
    };
    let mut records = vec![MetadataRecord::Broker(record)];
    if image.led_count(node_id) > 0 {
        records.push(MetadataRecord::NewLeaderEpochs(NewLeaderEpochsRecord { node_id }));
    }
    Decision { records, reply: epoch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{PartitionRecord, TopicRecord, snapshot_records};

    const TOPIC: Uuid = Uuid([7; 16]);

    fn register(image: &mut MetadataImage, node_id: i32) -> i64 {
        let registration = Registration {
            node_id,
            incarnation: Uuid::ZERO,
            listeners: vec![],
            rack: None,
            log_dirs: vec![],
            cordoned_log_dirs: vec![],
        };
        let decision = register_broker(image, registration);
        let bytes = MetadataRecord::encode_all(&decision.records, RecordLevel::NEWEST).unwrap();
        MetadataRecord::decode_all(bytes).unwrap().iter().for_each(|record| image.apply(record));
        decision.reply
    }

    fn epochs(image: &MetadataImage) -> Vec<(i32, i32)> {
        let partitions = &image.topic("t").unwrap().partitions;
        partitions.iter().map(|partition| (partition.leader_epoch, partition.partition_epoch)).collect()
    }

    #[test]
    fn each_start_begins_a_leader_epoch_in_the_partitions_that_the_broker_leads() {
        let mut image = MetadataImage::default();
        assert_eq!(register(&mut image, 1), 0);
        assert_eq!(register(&mut image, 2), 0);
        image.apply(&MetadataRecord::Topic(TopicRecord { name: "t".into(), id: TOPIC }));
        for (partition, leader) in [(0, 1), (1, 2), (2, -1), (3, 1)] {
            let record = PartitionRecord { topic_id: TOPIC, partition, leader, ..PartitionRecord::default() };
            image.apply(&MetadataRecord::Partition(record));
        }
        let before = image.clone();
        assert_eq!(register(&mut image, 1), 1);
        assert_eq!(epochs(&image), [(1, 1), (0, 0), (0, 0), (1, 1)]);
        assert_eq!(epochs(&before), [(0, 0); 4], "a published image does not change");
        assert_eq!(image.changes_since(&before).changed_topics.len(), 1);
        assert_eq!(register(&mut image, 2), 1);
        assert_eq!(register(&mut image, 1), 2);
        assert_eq!(epochs(&image), [(2, 2), (1, 1), (0, 0), (2, 2)]);
        let mut restored = MetadataImage::default();
        snapshot_records(&image).iter().for_each(|record| restored.apply(record));
        assert_eq!(restored, image);
    }

    #[test]
    fn a_broker_that_leads_nothing_begins_no_epochs() {
        let mut image = MetadataImage::default();
        register(&mut image, 1);
        let again = Registration {
            node_id: 1,
            incarnation: Uuid::ZERO,
            listeners: vec![],
            rack: None,
            log_dirs: vec![],
            cordoned_log_dirs: vec![],
        };
        assert_eq!(register_broker(&image, again).records.len(), 1);
    }
}
