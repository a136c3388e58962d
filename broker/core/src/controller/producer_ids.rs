//! Producer ids are given to brokers in blocks (KIP-730), so that few producers cost a commit.

use super::decision::Decision;
use crate::metadata::{MetadataImage, MetadataRecord, ProducerIdsRecord};

/// Ids in one block.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Allocates the next block to a broker; returns its first id.
pub fn allocate_producer_ids(image: &MetadataImage, node_id: i32) -> Decision<i64> {
    let first = image.next_producer_id();
    let record = ProducerIdsRecord { node_id, next: first.saturating_add(PRODUCER_ID_BLOCK) };
    Decision { records: vec![MetadataRecord::ProducerIds(record)], reply: first }
}
