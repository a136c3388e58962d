//! What background loops work on.

use std::sync::Arc;

use esker_core::metadata::MetadataImage;
use tokio::sync::watch;

use crate::config::LiveConfig;
use crate::node::Node;
use crate::replica::ReplicaManager;

/// What background loops work on.
#[derive(Debug, Clone)]
pub struct Background {
    /// The node.
    pub node: Node,
    /// The newest image of the metadata.
    pub images: watch::Receiver<Arc<MetadataImage>>,
    /// The partitions here.
    pub replicas: Arc<ReplicaManager>,
}

impl Background {
    /// Configs as they hold now.
    pub(super) fn live(&self) -> LiveConfig {
        let config = self.node.config();
        LiveConfig::read(&self.images.borrow(), config.node_id, &config.statics)
    }
}
