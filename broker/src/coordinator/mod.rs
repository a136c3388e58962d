//! The group coordinator's shell: it loads shards, appends what they decide, and answers when that is committed.
//!
//! One shard a partition of `__consumer_offsets` that this broker leads. A request locks its shard, decides, appends and
//! leaves: the order of decisions is the order of records, and the lock is held for microseconds and never across an
//! await. Answers that depend on records wait for the high watermark outside of the lock. One task lets time pass.

mod calls;
mod replay;
mod shard;
mod tasks;

pub use calls::{CoordinatorError, GroupLag};
pub use tasks::start;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use esker_core::group::GroupLimits;
use tokio::sync::Notify;

use shard::ShardHandle;

/// The topic that groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Groups and offsets of the partitions that this broker leads.
#[derive(Debug)]
pub struct GroupCoordinator {
    limits: GroupLimits,
    shards: ArcSwap<HashMap<i32, Arc<ShardHandle>>>,
    /// A shard's next deadline came nearer.
    sooner: Arc<Notify>,
}

impl GroupCoordinator {
    /// A coordinator without shards.
    pub fn new(limits: GroupLimits) -> Self {
        Self { limits, shards: ArcSwap::default(), sooner: Arc::default() }
    }
}
