//! How the cluster is, in numbers: what dashboards know from Kafka's controller.

use crate::metadata::{MetadataImage, NO_LEADER};

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

#[cfg(test)]
mod tests {
    use esker_protocol::primitives::Uuid;

    use super::*;
    use crate::metadata::{BrokerRecord, MetadataRecord, PartitionRecord, TopicRecord};

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
