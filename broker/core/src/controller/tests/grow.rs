//! Internal topics get more replicas when brokers come, and nothing else happens to them.

use super::*;
use crate::internal_topics::{OFFSETS_TOPIC, TRANSACTION_TOPIC};
use crate::metadata::{BrokerRecord, PartitionImage, PartitionRecord, TopicRecord};

const OFFSETS: Uuid = Uuid([1; 16]);
const TRANSACTIONS: Uuid = Uuid([2; 16]);
const OTHER: Uuid = Uuid([3; 16]);

/// Brokers 1 to `brokers`, and three topics with partitions of these replicas, all in sync.
fn cluster_of(brokers: i32, replicas: &[&[i32]]) -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::newest_level());
    (1..=brokers).for_each(|node_id| add_broker(&mut image, node_id, ""));
    for (name, id) in [(OFFSETS_TOPIC, OFFSETS), (TRANSACTION_TOPIC, TRANSACTIONS), ("t", OTHER)] {
        image.apply(&MetadataRecord::Topic(TopicRecord { name: name.into(), id }));
        for (partition, replicas) in (0..).zip(replicas) {
            image.apply(&MetadataRecord::Partition(PartitionRecord {
                topic_id: id,
                partition,
                replicas: replicas.to_vec(),
                leader: replicas[0],
                isr: replicas.to_vec(),
                ..PartitionRecord::default()
            }));
        }
    }
    image
}

fn add_broker(image: &mut MetadataImage, node_id: i32, rack: &str) {
    let rack = Some(rack.to_owned().into()).filter(|_| !rack.is_empty());
    image.apply(&MetadataRecord::Broker(BrokerRecord { node_id, rack, ..BrokerRecord::default() }));
}

fn grow(image: &mut MetadataImage, limit: u32, statics: &[(&str, &str)]) -> i64 {
    let statics = Statics(statics.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
    let configs = NodeConfigs { node_id: 0, statics: statics.into() };
    let rules = ElectionRules { node_id: 0, statics: &configs.statics };
    let lacks = lacks_internal_replicas(image, rules);
    let decision = decide(image, &GrowInternalTopics { limit, configs: configs.clone() }.into_request());
    decision.records.iter().for_each(|record| image.apply(record));
    let Reply::GrowInternalTopics(grown) = decision.reply else { panic!("{:?}", decision.reply) };
    assert!(lacks || grown == 0);
    grown
}

fn partitions(image: &MetadataImage, topic: &str) -> Vec<PartitionImage> {
    image.topic(topic).unwrap().partitions.iter().cloned().collect()
}

/// All followers fetch: what is reassigned is complete.
fn complete(image: &mut MetadataImage) {
    for topic in [OFFSETS_TOPIC, TRANSACTION_TOPIC] {
        for partition in partitions(image, topic).iter().filter(|partition| partition.is_reassigning()) {
            let available = |_: i32| true;
            let mut change = super::super::partition_change::PartitionChange::new(partition, 1, &available);
            change.isr.clone_from(&change.replicas);
            image.apply(&MetadataRecord::PartitionChange(change.build().unwrap()));
        }
    }
}

#[test]
fn a_cluster_of_one_that_grows_gets_three_replicas_of_its_coordinators() {
    let mut image = cluster_of(1, &[&[1], &[1]]);
    assert_eq!(grow(&mut image, 10, &[]), 0, "nobody could take one");
    add_broker(&mut image, 2, "");
    assert_eq!(grow(&mut image, 10, &[]), 4);
    assert_eq!(grow(&mut image, 10, &[]), 0, "they are on their way");
    for partition in partitions(&image, OFFSETS_TOPIC) {
        assert_eq!(
            (partition.replicas, partition.adding, partition.isr, partition.leader),
            (vec![1, 2], vec![2], vec![1], 1)
        );
    }
    complete(&mut image);
    add_broker(&mut image, 3, "");
    assert_eq!(grow(&mut image, 10, &[]), 4);
    complete(&mut image);
    assert_eq!(grow(&mut image, 10, &[]), 0);
    for partition in [OFFSETS_TOPIC, TRANSACTION_TOPIC].iter().flat_map(|topic| partitions(&image, topic)) {
        assert_eq!((partition.replicas, partition.isr), (vec![1, 2, 3], vec![1, 2, 3]));
    }
    add_broker(&mut image, 4, "");
    assert_eq!(grow(&mut image, 10, &[]), 0, "three are what is configured");
    assert!(partitions(&image, "t").iter().all(|partition| partition.replicas == [1]), "a user's topic stays");
}

#[test]
fn the_configured_factor_counts() {
    let of_one = [("offsets.topic.replication.factor", "1"), ("transaction.state.log.replication.factor", "1")];
    assert_eq!(grow(&mut cluster_of(3, &[&[1]]), 10, &of_one), 0);
    let mut image = cluster_of(5, &[&[1]]);
    assert_eq!(grow(&mut image, 10, &[("transaction.state.log.replication.factor", "5"), of_one[0]]), 1);
    assert_eq!(partitions(&image, TRANSACTION_TOPIC)[0].replicas.len(), 5);
    assert_eq!(partitions(&image, OFFSETS_TOPIC)[0].replicas, [1]);
}

#[test]
fn a_few_partitions_grow_at_a_time() {
    let mut image = cluster_of(3, &[&[1][..]; 4]);
    for grown in [3, 3, 2, 0] {
        assert_eq!(grow(&mut image, 3, &[]), grown);
        assert_eq!(grow(&mut image, 3, &[]), 0, "so many are on their way");
        complete(&mut image);
    }
}

#[test]
fn what_must_not_grow_stays() {
    let broker = |fenced, leaves| {
        MetadataRecord::Broker(BrokerRecord {
            node_id: 2,
            fenced,
            in_controlled_shutdown: leaves,
            ..BrokerRecord::default()
        })
    };
    for (fenced, leaves, grown) in [(false, false, 2), (true, false, 0), (false, true, 0)] {
        let mut image = cluster_of(1, &[&[1]]);
        image.apply(&broker(fenced, leaves));
        assert_eq!(grow(&mut image, 10, &[]), grown, "fenced {fenced}, leaves {leaves}");
    }
    // A replica that is down counts; a partition without a leader has nothing to copy.
    let mut image = cluster_of(3, &[&[1, 2]]);
    image.apply(&broker(true, false));
    assert_eq!(grow(&mut image, 10, &[]), 0);
    let mut image = cluster_of(2, &[]);
    for id in [OFFSETS, TRANSACTIONS] {
        image.apply(&MetadataRecord::Partition(PartitionRecord {
            topic_id: id,
            replicas: vec![1],
            leader: -1,
            isr: vec![1],
            ..PartitionRecord::default()
        }));
    }
    assert_eq!(grow(&mut image, 10, &[]), 0);
}

#[test]
fn replicas_come_into_racks_that_have_none_and_are_spread() {
    let mut image = cluster_of(0, &[&[1][..]; 6]);
    for (node_id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")] {
        add_broker(&mut image, node_id, rack);
    }
    grow(&mut image, 100, &[]);
    let grown = partitions(&image, OFFSETS_TOPIC);
    assert!(grown.iter().all(|partition| partition.replicas.len() == 3 && !partition.replicas.contains(&2)));
    assert!(grown.iter().all(|partition| partition.replicas.contains(&5)));
    let of_rack_b = |id: i32| grown.iter().filter(|partition| partition.replicas.contains(&id)).count();
    assert!(of_rack_b(3) > 0 && of_rack_b(4) > 0, "{grown:?}");
}
