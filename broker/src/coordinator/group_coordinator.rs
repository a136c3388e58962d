//! The coordinator of consumer groups: its shards, and what it is configured with.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use esker_core::config::Statics;
use esker_core::group::consumer::ConsumerLimits;
use esker_core::group::{GroupLimits, GroupShard};
use esker_core::internal_topics::OFFSETS_TOPIC;
use esker_core::metadata::MetadataImage;
use tokio::sync::watch;

use super::events;
use super::runtime::Runtime;
use crate::node::Node;
use crate::telemetry::GroupMetrics;

/// Groups and offsets of the partitions that this broker leads.
#[derive(Debug)]
pub struct GroupCoordinator {
    runtime: Runtime<GroupShard>,
    pub(super) node: Node,
    pub(super) config: Arc<GroupConfig>,
    pub(super) metrics: GroupMetrics,
}

/// What group configs are resolved with.
#[derive(Debug)]
pub struct GroupConfig {
    /// `node.id`.
    pub node_id: i32,
    /// What the broker was started with.
    pub statics: Arc<Statics>,
    /// Limits of classic groups and offsets.
    pub limits: GroupLimits,
    /// `group.coordinator.rebalance.protocols` has `consumer`.
    pub consumer_groups: bool,
    /// `group.rebalance.history.size`.
    pub rebalance_history: usize,
    /// `offsets.commit.timeout.ms`: how long an answer waits for its records to be committed.
    pub commit_timeout: Duration,
}

impl GroupConfig {
    /// Shows a shard the cluster as it is.
    pub(super) fn update_shard_image(&self, shard: &mut GroupShard, image: &MetadataImage) {
        shard.update_image(image, || ConsumerLimits::read(image, self.node_id, &self.statics));
    }
}

impl GroupCoordinator {
    /// A coordinator without shards.
    pub fn new(
        node: &Node,
        config: GroupConfig,
        images: watch::Receiver<Arc<MetadataImage>>,
        metrics: GroupMetrics,
    ) -> Self {
        let config = Arc::new(config);
        let making = Arc::clone(&config);
        let make = move |_| {
            let mut shard = GroupShard::new(making.limits.clone()).with_history(making.rebalance_history);
            making.update_shard_image(&mut shard, &images.borrow());
            shard
        };
        let counts = metrics.clone();
        let timeout = config.commit_timeout;
        let runtime = Runtime::new(OFFSETS_TOPIC, node, timeout, make, move |event| events::rebalance(event, &counts));
        Self { runtime, node: node.clone(), config, metrics }
    }
}

impl Deref for GroupCoordinator {
    type Target = Runtime<GroupShard>;

    fn deref(&self) -> &Runtime<GroupShard> {
        &self.runtime
    }
}
