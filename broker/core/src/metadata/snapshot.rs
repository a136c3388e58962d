//! A whole image as records: what a snapshot holds, so that reading one is applying records like any others.

use esker_protocol::primitives::Str;

use super::codec::MetadataRecord;
use super::image::MetadataImage;
use super::record::{
    ConfigRecord, FeatureRecord, NodeReservationRecord, ProducerIdsRecord, RemovedVoterRecord, TopicRecord,
};

/// The records that make `image` out of nothing.
pub fn snapshot_records(image: &MetadataImage) -> Vec<MetadataRecord> {
    // The level comes first, as in a log: a reader that is too old stops there.
    let mut records: Vec<_> = image.level.iter().cloned().map(MetadataRecord::Level).collect();
    for (name, level) in image.features() {
        records.push(MetadataRecord::Feature(FeatureRecord { name: Str::clone(name), level }));
    }
    for broker in image.brokers() {
        records.push(MetadataRecord::Broker(broker.clone()));
    }
    for topic in image.topics() {
        records.push(MetadataRecord::Topic(TopicRecord { name: topic.name.clone(), id: topic.id }));
        records.extend(topic.partitions.iter().cloned().map(MetadataRecord::Partition));
    }
    for (resource, configs) in &image.configs {
        for (name, value) in configs {
            records.push(MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind.id(),
                resource_name: resource.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
    }
    if image.next_producer_id() > 0 {
        records.push(MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: -1, next: image.next_producer_id() }));
    }
    for (node_id, directory) in image.reservations() {
        records.push(MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory }));
    }
    for (directory, node_id) in image.removed_voters() {
        let removed = RemovedVoterRecord { node_id, directory, forgotten: false };
        records.push(MetadataRecord::RemovedVoter(removed));
    }
    records
}

#[cfg(test)]
mod tests {
    use esker_protocol::primitives::{Str, Uuid};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::record::{
        BrokerChangeRecord, BrokerRecord, FeatureRangeRecord, ListenerRecord, NewLeaderEpochsRecord,
        PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, UnregisterBrokerRecord,
    };
    use super::*;

    fn name() -> impl Strategy<Value = Str> {
        "[a-d]".prop_map(Str::from)
    }

    fn uuid() -> impl Strategy<Value = Uuid> {
        (1u8..5).prop_map(|byte| Uuid([byte; 16]))
    }

    fn ids() -> impl Strategy<Value = Vec<i32>> {
        vec(0..5i32, 0..4)
    }

    fn broker() -> impl Strategy<Value = MetadataRecord> {
        let flags = (any::<bool>(), any::<bool>());
        (0..5i32, 0..3i64, uuid(), proptest::option::of(name()), [vec(uuid(), 0..3), vec(uuid(), 0..2)], flags)
            .prop_map(
                |(
                    node_id,
                    epoch,
                    incarnation,
                    rack,
                    [log_dirs, cordoned_log_dirs],
                    (fenced, in_controlled_shutdown),
                )| {
                    MetadataRecord::Broker(BrokerRecord {
                        node_id,
                        epoch,
                        incarnation,
                        listeners: vec![ListenerRecord { name: "L".into(), host: "h".into(), port: 1 }],
                        rack,
                        log_dirs,
                        fenced,
                        in_controlled_shutdown,
                        features: vec![FeatureRangeRecord { name: "f".into(), min_level: 0, max_level: 3 }],
                        record_level: 1,
                        cordoned_log_dirs,
                    })
                },
            )
    }

    fn partition() -> impl Strategy<Value = MetadataRecord> {
        let sets = (ids(), ids(), ids(), ids(), ids(), ids());
        (uuid(), 0..4i32, sets, -1..5i32, 0..9i32, vec(uuid(), 0..3), any::<bool>()).prop_map(
            |(topic_id, partition, sets, leader, leader_epoch, directories, recovering)| {
                let (replicas, isr, elr, last_known_elr, adding, removing) = sets;
                MetadataRecord::Partition(PartitionRecord {
                    topic_id,
                    partition,
                    replicas,
                    isr,
                    leader,
                    leader_epoch,
                    partition_epoch: leader_epoch * 2,
                    elr,
                    last_known_elr,
                    adding,
                    removing,
                    directories,
                    recovering,
                })
            },
        )
    }

    fn partition_change() -> impl Strategy<Value = MetadataRecord> {
        let some = || proptest::option::of(ids());
        let sets = (some(), some(), some(), some(), some(), some());
        (uuid(), 0..4i32, sets, -2..5i32, -1..2i8, proptest::option::of(vec(uuid(), 0..3))).prop_map(
            |(topic_id, partition, sets, leader, recovering, directories)| {
                let (isr, replicas, removing, adding, elr, last_known_elr) = sets;
                MetadataRecord::PartitionChange(PartitionChangeRecord {
                    topic_id,
                    partition,
                    isr,
                    leader,
                    replicas,
                    removing,
                    adding,
                    recovering,
                    elr,
                    last_known_elr,
                    directories,
                })
            },
        )
    }

    fn record() -> impl Strategy<Value = MetadataRecord> {
        let change = (0..5i32, 0..3i64, -1..2i8, any::<bool>(), proptest::option::of(vec(uuid(), 0..3)));
        prop_oneof![
            1 => Just(MetadataRecord::newest_level()),
            1 => broker(),
            1 => change.prop_map(|(node_id, epoch, fenced, in_controlled_shutdown, log_dirs)| {
                let change = BrokerChangeRecord { node_id, epoch, fenced, in_controlled_shutdown, log_dirs };
                MetadataRecord::BrokerChange(change)
            }),
            1 => (0..5i32, 0..3i64).prop_map(|(node_id, epoch)| {
                MetadataRecord::UnregisterBroker(UnregisterBrokerRecord { node_id, epoch })
            }),
            1 => (name(), uuid()).prop_map(|(name, id)| MetadataRecord::Topic(TopicRecord { name, id })),
            1 => uuid().prop_map(|id| MetadataRecord::RemoveTopic(RemoveTopicRecord { id })),
            3 => partition(),
            2 => partition_change(),
            1 => (name(), name(), proptest::option::of(name())).prop_map(|(resource_name, name, value)| {
                MetadataRecord::Config(ConfigRecord { resource_type: 2, resource_name, name, value })
            }),
            1 => (name(), 0..3i16).prop_map(|(name, level)| MetadataRecord::Feature(FeatureRecord { name, level })),
            1 => (0..5i32).prop_map(|node_id| MetadataRecord::NewLeaderEpochs(NewLeaderEpochsRecord { node_id })),
            1 => (0..9i64).prop_map(|next| MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: 1, next })),
            1 => (0..5i32, 0..5u8).prop_map(|(node_id, byte)| {
                let directory = Uuid([byte; 16]);
                MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory })
            }),
            1 => (0..5i32, uuid(), any::<bool>()).prop_map(|(node_id, directory, forgotten)| {
                MetadataRecord::RemovedVoter(RemovedVoterRecord { node_id, directory, forgotten })
            }),
        ]
    }

    /// A log without a level holds no record, and its snapshot is written all the same.
    #[test]
    fn an_empty_image_has_no_records() {
        assert_eq!(snapshot_records(&MetadataImage::default()), []);
    }

    /// A node that was away for long receives all of it: what it costs is printed, and its size is bounded.
    #[test]
    fn a_snapshot_of_100_000_partitions_is_small() {
        const TOPICS: u128 = 1000;
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::newest_level());
        for number in 1..=TOPICS {
            let id = Uuid(number.to_be_bytes());
            image.apply(&MetadataRecord::Topic(TopicRecord { name: format!("topic-{number}").into(), id }));
            for partition in 0..100 {
                let replicas = (0..3).map(|at| 1 + (partition + at) % 3).collect::<Vec<_>>();
                let record = PartitionRecord {
                    topic_id: id,
                    partition,
                    leader: replicas[0],
                    isr: replicas.clone(),
                    directories: vec![id; 3],
                    replicas,
                    ..PartitionRecord::default()
                };
                image.apply(&MetadataRecord::Partition(record));
            }
        }
        let began = std::time::Instant::now();
        let bytes = MetadataRecord::encode_all(&snapshot_records(&image), image.level()).unwrap();
        let (size, written) = (bytes.len(), began.elapsed());
        let mut back = MetadataImage::default();
        MetadataRecord::decode_all(bytes).unwrap().iter().for_each(|record| back.apply(record));
        println!("{size} bytes, written in {written:?}, read in {:?}", began.elapsed() - written);
        assert!(back == image && size < 16 << 20, "{size}");
    }

    proptest! {
        /// Whatever the records, also such as no decision writes. Equality covers the index of brokers, so it is the one that the
        /// partitions give when they are all new, too.
        #[test]
        fn an_image_comes_back_from_its_snapshot(records in vec(record(), 0..60)) {
            let mut image = MetadataImage::default();
            image.apply(&MetadataRecord::newest_level());
            records.iter().for_each(|record| image.apply(record));
            let bytes = MetadataRecord::encode_all(&snapshot_records(&image), image.level()).unwrap();
            let mut back = MetadataImage::default();
            MetadataRecord::decode_all(bytes).unwrap().iter().for_each(|record| back.apply(record));
            prop_assert_eq!(&back, &image);
            for topic in image.topics() {
                prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
            }
        }
    }
}
