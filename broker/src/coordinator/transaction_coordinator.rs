//! The coordinator of transactions: its shards.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;

use esker_core::internal_topics::TRANSACTION_TOPIC;
use esker_core::metadata::{MetadataImage, TRANSACTION_VERSION};
use esker_core::transaction::{Limits, TransactionShard};

use super::events;
use super::runtime::Runtime;
use crate::node::Node;
use crate::producer_ids::ProducerIds;

/// How long an answer waits for its records to be committed: Kafka's default of `request.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Transactional ids of the partitions that this broker leads.
#[derive(Debug)]
pub struct TransactionCoordinator {
    shards: Runtime<TransactionShard>,
    pub(super) node: Node,
    /// For transactions whose producer id has no epoch left.
    pub(super) producer_ids: Arc<ProducerIds>,
    /// The cluster's `transaction.version`, for new shards.
    version: Arc<AtomicI16>,
}

impl TransactionCoordinator {
    /// A coordinator without shards.
    pub fn new(node: &Node, limits: Limits, producer_ids: Arc<ProducerIds>) -> Self {
        let version = Arc::new(AtomicI16::new(0));
        let level = Arc::clone(&version);
        let make = move |_| TransactionShard::new(limits.clone(), level.load(Ordering::Acquire));
        let shards = Runtime::new(TRANSACTION_TOPIC, node, COMMIT_TIMEOUT, make, events::transaction);
        Self { shards, node: node.clone(), producer_ids, version }
    }

    /// Sets the cluster's `transaction.version` on all shards.
    pub(super) fn set_version(&self, image: &MetadataImage) {
        let level = image.feature(TRANSACTION_VERSION);
        if self.version.swap(level, Ordering::AcqRel) != level {
            for shard in self.shards() {
                // A shard that loads got the level when it was made, or gets it with the next change.
                let _ = shard.update(|s| s.set_version(level));
            }
        }
    }
}

impl Deref for TransactionCoordinator {
    type Target = Runtime<TransactionShard>;

    fn deref(&self) -> &Runtime<TransactionShard> {
        &self.shards
    }
}
