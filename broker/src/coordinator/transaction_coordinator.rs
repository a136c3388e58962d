//! The coordinator of transactions: its shards.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicUsize, Ordering};
use std::time::Duration;

use esker_core::internal_topics::TRANSACTION_TOPIC;
use esker_core::metadata::{MetadataImage, TRANSACTION_VERSION};
use esker_core::transaction::{Limits, TransactionShard};
use esker_protocol::primitives::Str;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::end_traces::EndTraces;
use super::events;
use super::runtime::Runtime;
use crate::node::Node;
use crate::producer_ids::ProducerIds;
use crate::trace::{Span, SpanKind, current_context};

/// How long an answer waits for its records to be committed: Kafka's default of `request.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Transactional ids share so many notifications: a wake-up may be another id's, and is only a reason to look again.
const END_STRIPES: usize = 256;

/// Notifications of ended transactions, for batches of the transactions that follow them.
#[derive(Debug)]
struct Ends([Notify; END_STRIPES]);

impl Ends {
    fn of(&self, id: &str) -> Option<&Notify> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        self.0.get((hash % END_STRIPES as u64) as usize)
    }
}

/// What of ended transactions waits to be tried again.
#[derive(Debug, Default)]
pub struct MarkerQueues {
    leaderless: AtomicUsize,
    unrecorded: AtomicUsize,
}

/// One that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MarkerQueues {
    /// Markers whose partition has no leader.
    pub fn leaderless(&self) -> usize {
        self.leaderless.load(Ordering::Relaxed)
    }

    /// Transactions whose end is not recorded yet although their markers are written.
    pub fn unrecorded(&self) -> usize {
        self.unrecorded.load(Ordering::Relaxed)
    }

    pub(super) fn count_leaderless(&self) -> Counted<'_> {
        Counted::new(&self.leaderless)
    }

    pub(super) fn count_unrecorded(&self) -> Counted<'_> {
        Counted::new(&self.unrecorded)
    }
}

/// Transactional ids of the partitions that this broker leads.
#[derive(Debug)]
pub struct TransactionCoordinator {
    shards: Runtime<TransactionShard>,
    pub(super) node: Node,
    /// For transactions whose producer id has no epoch left.
    pub(super) producer_ids: Arc<ProducerIds>,
    /// The cluster's `transaction.version`, for new shards.
    version: Arc<AtomicI16>,
    markers: MarkerQueues,
    ends: Ends,
    end_traces: EndTraces,
}

impl TransactionCoordinator {
    /// A coordinator without shards.
    pub fn new(node: &Node, limits: Limits, producer_ids: Arc<ProducerIds>) -> Self {
        let version = Arc::new(AtomicI16::new(0));
        let level = Arc::clone(&version);
        let make = move |_| TransactionShard::new(limits.clone(), level.load(Ordering::Acquire));
        let shards = Runtime::new(TRANSACTION_TOPIC, node, COMMIT_TIMEOUT, make, events::transaction);
        let ends = Ends(std::array::from_fn(|_| Notify::new()));
        Self {
            shards,
            node: node.clone(),
            producer_ids,
            version,
            markers: MarkerQueues::default(),
            ends,
            end_traces: EndTraces::default(),
        }
    }

    /// Resolves when a transaction of this id has ended on this broker after the call, and perhaps without a reason; never if the
    /// coordinator is another broker. Takes effect with the call, not with the first poll.
    pub fn next_end(&self, id: &str) -> impl Future<Output = ()> + use<'_> {
        let ended = self.ends.of(id).map(Notify::notified);
        async move {
            match ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Wakes up what waits for the end of a transaction of this id.
    pub(super) fn notify_end(&self, id: &str) {
        if let Some(ended) = self.ends.of(id) {
            ended.notify_waiters();
        }
    }

    /// The running request ends the transaction of `id`: its markers will be part of the request's trace.
    pub(super) fn trace_end(&self, id: &Str) {
        if self.node.tracer().is_some() {
            self.end_traces.set(id, current_context());
        }
    }

    /// The span of a transaction's markers, where a traced request ended the transaction.
    pub(super) fn begin_markers(&self, id: &Str) -> Option<Span> {
        let tracer = self.node.tracer()?;
        let cause = self.end_traces.take(id)?;
        let span = tracer.begin_span(Some(cause), "markers", SpanKind::Internal, Instant::now());
        span.add_attribute("esker.transactional.id", id.as_str());
        Some(span)
    }

    /// Markers that cannot be written at the moment, and ends that cannot be recorded.
    pub fn marker_queues(&self) -> &MarkerQueues {
        &self.markers
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
