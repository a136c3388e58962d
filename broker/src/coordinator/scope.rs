//! What the coordinators' tasks work with.

use std::sync::Arc;

use esker_core::metadata::MetadataImage;
use tokio::sync::watch;

use super::group_coordinator::GroupCoordinator;
use super::remote::RemoteTransactions;
use super::transaction_coordinator::TransactionCoordinator;
use crate::node::Node;
use crate::producer_ids::ProducerIds;
use crate::replica::ReplicaManager;

/// What the coordinators' tasks work with.
#[derive(Debug, Clone)]
pub struct CoordinatorScope {
    /// The node.
    pub node: Node,
    /// The newest image of the metadata.
    pub images: watch::Receiver<Arc<MetadataImage>>,
    /// The partitions here.
    pub replicas: Arc<ReplicaManager>,
    /// Consumer groups.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: Arc<TransactionCoordinator>,
    /// Other brokers that lead partitions of transactions, or coordinate them.
    pub remote: Arc<RemoteTransactions>,
    /// Producer ids to hand out.
    pub producer_ids: Arc<ProducerIds>,
}

impl CoordinatorScope {
    /// The newest image.
    pub(super) fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.images.borrow())
    }
}
