//! Group commit: partitions whose acknowledgements wait for the disk are brought there together.
//!
//! A disk's cost is the wait, not the call: while one round of syncs is under way, everything that asks gathers for the next. One task
//! a log dir takes all that gathered, starts the writing of all their data, and syncs them side by side on blocking threads, so that the
//! disk works on all of it at once and a journal commit serves as many as it can. A partition stands in the queue at most once,
//! however many requests wait on it.
//!
//! Must never: run on an async worker, or say "flushed" after a sync that failed (the log dir goes offline then, and the
//! waiters find that out when they look).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Node;
use crate::telemetry::FlushMetrics;

/// Syncs of one disk that may wait at once: with more, the journal's own order is the limit.
const SIDE_BY_SIDE: usize = 16;

/// A log that is flushed on request: a partition.
pub(super) trait FlushTarget: fmt::Debug + Send + Sync {
    /// Notes that it is in a queue of the flusher; false if it is in one already. The target clears the note when its flush begins.
    fn enqueue_flush(&self) -> bool;

    /// Whether its log lies in this log dir.
    fn is_in(&self, log_dir: &Path) -> bool;

    /// Starts the writing that [`FlushTarget::flush`] waits for.
    fn start_flush(&self);

    /// Flushes the log and releases the requests that wait for that. Blocks.
    fn flush(&self);
}

#[derive(Debug)]
struct Disk {
    dir: PathBuf,
    queue: Mutex<Vec<Arc<dyn FlushTarget>>>,
    wake: Notify,
}

/// The queues of all log dirs.
#[derive(Debug)]
pub struct Flusher {
    disks: Vec<Arc<Disk>>,
    node: Node,
    metrics: FlushMetrics,
}

impl Flusher {
    /// Queues for `dirs`; nothing is flushed before [`Flusher::run`].
    pub fn new(node: Node, dirs: impl IntoIterator<Item = PathBuf>, metrics: FlushMetrics) -> Self {
        let disk = |dir| Arc::new(Disk { dir, queue: Mutex::default(), wake: Notify::new() });
        Self { disks: dirs.into_iter().map(disk).collect(), node, metrics }
    }

    /// Flushes everything in the target's log with the next round. The requests that wait for it must be registered before.
    pub(super) fn request_flush<T: FlushTarget + 'static>(&self, target: &Arc<T>) {
        if !target.enqueue_flush() {
            return;
        }
        let disk = self.disks.iter().find(|disk| target.is_in(&disk.dir)).or_else(|| self.disks.first());
        let Some(disk) = disk else { return };
        disk.queue.lock().push(Arc::<T>::clone(target));
        disk.wake.notify_one();
    }

    /// Serves all queues until it is dropped.
    pub async fn run(self: Arc<Self>) {
        join_all(self.disks.iter().map(|disk| serve(disk, &self.node, &self.metrics))).await;
    }
}

async fn serve(disk: &Disk, node: &Node, metrics: &FlushMetrics) {
    loop {
        let round = Arc::new(std::mem::take(&mut *disk.queue.lock()));
        if round.is_empty() {
            disk.wake.notified().await;
            continue;
        }
        let started = Instant::now();
        if round.len() > 1 {
            let starting = Arc::clone(&round);
            // A hint: without it the syncs below do all the work.
            let _ = node.run_blocking(move || starting.iter().for_each(|target| target.start_flush())).await;
        }
        let next = Arc::new(AtomicUsize::new(0));
        let threads = (0..round.len().min(SIDE_BY_SIDE)).map(|_| {
            let (round, next) = (Arc::clone(&round), Arc::clone(&next));
            node.run_blocking(move || {
                while let Some(target) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                    target.flush();
                }
            })
        });
        for error in join_all(threads).await.into_iter().filter_map(Result::err) {
            tracing::error!(%error, "a flush did not end: its requests are answered at their time-out");
        }
        metrics.round(started.elapsed(), round.len());
    }
}

#[cfg(test)]
mod tests;
