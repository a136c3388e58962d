//! One runtime for all coordinators: it loads shards, appends what they decide, and answers when that is committed.
//!
//! A coordinator is a state machine ([`esker_core::coordinator`]) over a partition of an internal topic that this broker leads. A
//! request locks its shard, decides, appends, applies and leaves: the order of decisions is the order of records, and the
//! lock is held for microseconds and never across an await. Answers that depend on records wait for the high watermark
//! outside of the lock. One task a coordinator lets time pass.
//!
//! Order of locks: a shard, then (by appending) its partition. No shard's lock is taken while another's is held.

mod batches;
mod calls;
mod commit;
mod events;
mod markers;
mod regexes;
mod replay;
mod runtime;
mod shard;
mod tasks;
#[cfg(test)]
mod tests;
mod transactions;

pub use calls::{CoordinatorError, Fetched, GroupLag};
pub use markers::{Marker, write_marker};
pub use tasks::start;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::time::Duration;

use esker_core::config::Statics;
use esker_core::group::consumer::ConsumerLimits;
use esker_core::group::{GroupLimits, GroupShard};
use esker_core::metadata::MetadataImage;
use esker_core::transaction::{Limits, TransactionShard};
use tokio::sync::watch;

use crate::telemetry::GroupMetrics;
use runtime::Runtime;

/// The topic that groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transactions live in.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";

/// How long an answer of the transaction coordinator waits for its records to be committed: Kafka's default of
/// `request.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Groups and offsets of the partitions that this broker leads.
#[derive(Debug)]
pub struct GroupCoordinator {
    runtime: Runtime<GroupShard>,
    config: Arc<GroupConfig>,
    metrics: GroupMetrics,
}

/// What group configs are resolved with.
#[derive(Debug)]
pub struct GroupConfig {
    /// `node.id`.
    pub node_id: i32,
    /// What the broker was started with.
    pub statics: Statics,
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
    fn show(&self, shard: &mut GroupShard, image: &MetadataImage) {
        shard.see(image, || ConsumerLimits::read(image, self.node_id, &self.statics));
    }
}

impl GroupCoordinator {
    /// A coordinator without shards.
    pub fn new(config: GroupConfig, images: watch::Receiver<Arc<MetadataImage>>, metrics: GroupMetrics) -> Self {
        let config = Arc::new(config);
        let making = Arc::clone(&config);
        let make = move |_| {
            let mut shard = GroupShard::new(making.limits.clone()).with_history(making.rebalance_history);
            making.show(&mut shard, &images.borrow());
            shard
        };
        let counts = metrics.clone();
        let timeout = config.commit_timeout;
        let runtime = Runtime::new(OFFSETS_TOPIC, timeout, make, move |event| events::rebalance(event, &counts));
        Self { runtime, config, metrics }
    }
}

impl Deref for GroupCoordinator {
    type Target = Runtime<GroupShard>;

    fn deref(&self) -> &Runtime<GroupShard> {
        &self.runtime
    }
}

/// Transactional ids of the partitions that this broker leads.
#[derive(Debug)]
pub struct TransactionCoordinator {
    shards: Runtime<TransactionShard>,
    /// The cluster's `transaction.version`, for shards that come into being.
    version: Arc<AtomicI16>,
}

impl TransactionCoordinator {
    /// A coordinator without shards.
    pub fn new(limits: Limits) -> Self {
        let version = Arc::new(AtomicI16::new(0));
        let level = Arc::clone(&version);
        let make = move |_| TransactionShard::new(limits.clone(), level.load(Ordering::Acquire));
        Self { shards: Runtime::new(TRANSACTION_TOPIC, COMMIT_TIMEOUT, make, events::transaction), version }
    }
}

impl Deref for TransactionCoordinator {
    type Target = Runtime<TransactionShard>;

    fn deref(&self) -> &Runtime<TransactionShard> {
        &self.shards
    }
}
