//! How the cluster is, in numbers: what dashboards know from Kafka's controller.

use crate::metadata::{MetadataImage, MetadataRecord, NO_LEADER, PartitionId};

/// Numbers over all brokers and partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Partitions.
    pub partitions: usize,
    /// Partitions without a leader.
    pub offline: usize,
    /// Partitions that another replica than the preferred one leads, or none.
    pub not_preferred: usize,
    /// Brokers that are not fenced.
    pub live_brokers: usize,
    /// Brokers that are.
    pub fenced_brokers: usize,
    /// Brokers in a controlled shutdown.
    pub shutting_down: usize,
}

/// Counts over one image, in one walk over its partitions.
pub fn count_cluster(image: &MetadataImage) -> ClusterCounts {
    let mut counts = ClusterCounts { offline: image.led_count(NO_LEADER), ..ClusterCounts::default() };
    for broker in image.brokers() {
        match broker.fenced {
            true => counts.fenced_brokers += 1,
            false => counts.live_brokers += 1,
        }
        counts.shutting_down += usize::from(broker.in_controlled_shutdown && !broker.fenced);
    }
    for partition in image.topics().flat_map(|topic| topic.partitions.iter()) {
        counts.partitions += 1;
        counts.not_preferred += usize::from(partition.replicas.first() != Some(&partition.leader));
    }
    counts
}

/// Elections by what the new leader held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ElectionCounts {
    /// Out of neither the in-sync nor the eligible leader replicas: committed records may be lost.
    pub unclean: u64,
    /// Out of the eligible leader replicas (KIP-966).
    pub eligible: u64,
}

impl ElectionCounts {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.unclean += other.unclean;
        self.eligible += other.eligible;
    }
}

/// The election of a record that is about to be applied to `image`.
pub fn count_elections(image: &MetadataImage, record: &MetadataRecord) -> ElectionCounts {
    let mut counts = ElectionCounts::default();
    let MetadataRecord::PartitionChange(change) = record else { return counts };
    let id = PartitionId { topic: change.topic_id, partition: change.partition };
    if let Some(before) = image.partition(id).filter(|before| change.leader >= 0 && change.leader != before.leader) {
        let eligible = before.elr.contains(&change.leader);
        let in_sync = before.isr.contains(&change.leader);
        counts.eligible = u64::from(eligible && !in_sync);
        counts.unclean = u64::from(!eligible && !in_sync);
    }
    counts
}

#[cfg(test)]
mod tests {
    use esker_protocol::primitives::Uuid;

    use super::*;
    use crate::metadata::{BrokerRecord, PartitionChangeRecord, PartitionRecord, TopicRecord};

    #[test]
    fn elections_are_told_apart_by_what_the_leader_held() {
        let mut image = MetadataImage::default();
        let topic_id = Uuid([7; 16]);
        let partition = PartitionRecord {
            topic_id,
            replicas: vec![1, 2, 3, 4],
            isr: vec![1, 2],
            elr: vec![3],
            leader: 1,
            ..PartitionRecord::default()
        };
        for record in [
            MetadataRecord::newest_level(),
            MetadataRecord::Topic(TopicRecord { name: "t".into(), id: topic_id }),
            MetadataRecord::Partition(partition),
        ] {
            assert_eq!(count_elections(&image, &record), ElectionCounts::default());
            image.apply(&record);
        }
        for (leader, unclean, eligible) in [(-2, 0, 0), (-1, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 1, 0)] {
            let change = PartitionChangeRecord { topic_id, leader, ..PartitionChangeRecord::default() };
            let counts = count_elections(&image, &MetadataRecord::PartitionChange(change));
            assert_eq!(counts, ElectionCounts { unclean, eligible }, "{leader}");
        }
    }

    #[test]
    fn it_counts_brokers_and_partitions() {
        let mut image = MetadataImage::default();
        let id = Uuid([7; 16]);
        let broker = |node_id, fenced, in_controlled_shutdown| {
            MetadataRecord::Broker(BrokerRecord { node_id, fenced, in_controlled_shutdown, ..BrokerRecord::default() })
        };
        let partition = |partition, replicas: &[i32], leader| {
            let replicas = replicas.to_vec();
            MetadataRecord::Partition(PartitionRecord {
                topic_id: id,
                partition,
                replicas,
                leader,
                ..PartitionRecord::default()
            })
        };
        for record in [
            MetadataRecord::newest_level(),
            broker(1, false, false),
            broker(2, false, true),
            broker(3, true, true),
            MetadataRecord::Topic(TopicRecord { name: "t".into(), id }),
            partition(0, &[1, 2], 1),
            partition(1, &[1, 2], 2),
            partition(2, &[3], NO_LEADER),
        ] {
            image.apply(&record);
        }
        let expected = ClusterCounts {
            partitions: 3,
            offline: 1,
            not_preferred: 2,
            live_brokers: 2,
            fenced_brokers: 1,
            shutting_down: 1,
        };
        assert_eq!(count_cluster(&image), expected);
    }
}
