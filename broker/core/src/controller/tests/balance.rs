//! Preferred leaders come back in sync, and a few at a time.

use super::*;
use crate::metadata::{BrokerRecord, PartitionId, PartitionRecord, TopicRecord};
use std::time::Duration;

const TOPIC: Uuid = Uuid([7; 16]);

/// Brokers 1 to 3, of which 3 is fenced, and partitions of replicas, leader and in-sync replicas.
fn cluster(partitions: &[(&[i32], i32, &[i32])]) -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::newest_level());
    for node_id in 1..4 {
        let broker = BrokerRecord { node_id, fenced: node_id == 3, ..BrokerRecord::default() };
        image.apply(&MetadataRecord::Broker(broker));
    }
    image.apply(&MetadataRecord::Topic(TopicRecord { name: "t".into(), id: TOPIC }));
    for (partition, (replicas, leader, isr)) in (0..).zip(partitions) {
        image.apply(&MetadataRecord::Partition(PartitionRecord {
            topic_id: TOPIC,
            partition,
            replicas: replicas.to_vec(),
            leader: *leader,
            isr: isr.to_vec(),
            ..PartitionRecord::default()
        }));
    }
    image
}

fn moves(image: &MetadataImage, limit: usize) -> Vec<i32> {
    preferred_moves(image, limit).iter().map(|PartitionId { partition, .. }| *partition).collect()
}

#[test]
fn only_a_preferred_replica_that_is_in_sync_leads_again() {
    let image = cluster(&[
        (&[1, 2], 2, &[1, 2]),  // moves
        (&[1, 2], 1, &[1, 2]),  // leads already
        (&[1, 2], 2, &[2]),     // not in sync
        (&[3, 2], 2, &[2, 3]),  // fenced
        (&[1, 2], -1, &[1, 2]), // without a leader: another rule's matter
        (&[], -1, &[]),
        (&[2, 1], 1, &[1, 2]), // moves
    ]);
    assert_eq!(moves(&image, 10), [0, 6]);
}

#[test]
fn a_round_is_bounded_and_rounds_come_to_an_end() {
    let mut image = cluster(&[(&[1, 2][..], 2, &[1, 2][..]); 5]);
    let configs = NodeConfigs { node_id: 0, statics: Default::default() };
    for (moved, left) in [(2, 3), (2, 1), (1, 0), (0, 0)] {
        let expected = moves(&image, 2);
        let decision = decide(&image, &BalanceLeaders { limit: 2, configs: configs.clone() }.into_request());
        assert_eq!(decision.reply, Reply::BalanceLeaders(Balanced { moved, left }));
        decision.records.iter().for_each(|record| image.apply(record));
        let topic = image.topic("t").unwrap();
        assert!(expected.iter().all(|partition| topic.partitions[*partition as usize].leader == 1));
        let in_sync = topic.partitions.iter().all(|partition| partition.isr == [1, 2]);
        assert!(in_sync, "the in-sync replicas stay");
    }
    assert!(image.topic("t").unwrap().partitions.iter().all(|p| (p.leader, p.leader_epoch) == (1, 1)));
    assert_eq!(moves(&cluster(&[(&[1, 2], 2, &[1, 2])]), 0), [] as [i32; 0]);
}

#[test]
fn balancing_follows_the_configs_of_the_controller() {
    let image = cluster(&[]);
    let interval = |given: &[(&str, &str)]| {
        let statics = Statics(given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        balance_interval(&image, ElectionRules { node_id: 1, statics: &statics })
    };
    assert_eq!(interval(&[]), Some(Duration::from_secs(300)));
    assert_eq!(interval(&[("leader.imbalance.check.interval.seconds", "5")]), Some(Duration::from_secs(5)));
    assert_eq!(interval(&[("auto.leader.rebalance.enable", "false")]), None);
}
