//! What the metadata needs after a majority of the voters is lost, and entries of its log with them: records that one survivor adds.
//!
//! The other brokers are fenced before the survivor registers again. Otherwise it would leave the in-sync sets as one that crashed, and could
//! lead nothing. And what the lost entries may have given out is not given out again: leaders that they elected may have written records under
//! their epochs, and followers tell diverging logs by the epochs alone; blocks of producer ids are skipped for the same reason.

use super::elections::ElectionRules;
use super::fence::fence_broker;
use crate::config::Statics;
use crate::metadata::{MetadataImage, MetadataRecord, PartitionImage, ProducerIdsRecord};

/// Leader epochs that are skipped in each partition.
const EPOCHS: i32 = 1 << 16;
/// Producer ids that are skipped.
const PRODUCER_IDS: i64 = 1 << 32;

/// The records, for a survivor with this node id.
pub fn recover_metadata(image: &MetadataImage, survivor: i32) -> Vec<MetadataRecord> {
    let statics = Statics::default();
    let rules = ElectionRules { node_id: survivor, statics: &statics };
    let (mut fenced, mut records) = (image.clone(), Vec::new());
    let others = image.live_brokers().filter(|broker| broker.node_id != survivor);
    for (node_id, epoch) in others.map(|broker| (broker.node_id, broker.epoch)) {
        // A broker that is registered under this epoch can be fenced.
        let fencing = fence_broker(&fenced, rules, node_id, epoch).map(|decision| decision.records).unwrap_or_default();
        fencing.iter().for_each(|record| fenced.apply(record));
        records.extend(fencing);
    }
    records.extend(skip_lost(&fenced));
    records
}

fn skip_lost(image: &MetadataImage) -> Vec<MetadataRecord> {
    let partitions = image.topics().flat_map(|topic| topic.partitions.iter());
    let skip_epochs = |partition: &PartitionImage| PartitionImage {
        leader_epoch: partition.leader_epoch.saturating_add(EPOCHS),
        partition_epoch: partition.partition_epoch.saturating_add(EPOCHS),
        ..partition.clone()
    };
    let next = image.next_producer_id().saturating_add(PRODUCER_IDS);
    let mut records: Vec<_> = partitions.map(|partition| MetadataRecord::Partition(skip_epochs(partition))).collect();
    records.push(MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: -1, next }));
    records
}
