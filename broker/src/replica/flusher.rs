//! Group commit: partitions whose acknowledgements wait for the disk are brought there together.
//!
//! A disk's cost is the wait, not the call: while one round of syncs is under way, everything that asks gathers for the next. One task
//! a log dir takes all that gathered, starts the writing of all their data, and syncs them side by side on blocking threads, so that the
//! disk works on all of it at once and a journal commit serves as many as it can. A partition stands in the queue at most once,
//! however many requests wait on it.
//!
//! Must never: run on an async worker, or say "flushed" after a sync that failed (the log dir goes offline then, and the
//! waiters find that out when they look).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::partition::Partition;
use crate::telemetry::FlushMetrics;

/// Syncs of one disk that may wait at once: with more, the journal's own order is the limit.
const SIDE_BY_SIDE: usize = 16;

#[derive(Debug)]
struct Disk {
    dir: PathBuf,
    queue: Mutex<Vec<Arc<Partition>>>,
    wake: Notify,
}

/// The queues of all log dirs.
#[derive(Debug)]
pub struct Flusher {
    disks: Vec<Arc<Disk>>,
    metrics: FlushMetrics,
}

impl Flusher {
    /// Queues for `dirs`; nothing is flushed before [`Flusher::run`].
    pub fn new(dirs: impl IntoIterator<Item = PathBuf>, metrics: FlushMetrics) -> Self {
        let disk = |dir| Arc::new(Disk { dir, queue: Mutex::default(), wake: Notify::new() });
        Self { disks: dirs.into_iter().map(disk).collect(), metrics }
    }

    /// Asks for everything in the partition's log to be brought to disk. Who waits must be registered before.
    pub(super) fn ask(&self, partition: &Arc<Partition>) {
        if !partition.enqueue_flush() {
            return;
        }
        let Some(disk) = self.disk_of(partition.log().dir()) else { return };
        disk.queue.lock().push(Arc::clone(partition));
        disk.wake.notify_one();
    }

    fn disk_of(&self, partition_dir: &Path) -> Option<&Arc<Disk>> {
        let home = partition_dir.parent();
        self.disks.iter().find(|disk| Some(disk.dir.as_path()) == home).or_else(|| self.disks.first())
    }

    /// Serves all queues until it is dropped.
    pub async fn run(self: Arc<Self>) {
        futures_util::future::join_all(self.disks.iter().map(|disk| serve(disk, &self.metrics))).await;
    }
}

async fn serve(disk: &Disk, metrics: &FlushMetrics) {
    loop {
        let round = Arc::new(std::mem::take(&mut *disk.queue.lock()));
        if round.is_empty() {
            disk.wake.notified().await;
            continue;
        }
        let started = std::time::Instant::now();
        if round.len() > 1 {
            let starting = Arc::clone(&round);
            let started =
                tokio::task::spawn_blocking(move || starting.iter().for_each(|partition| partition.start_flush()));
            // A hint: without it the syncs below do all the work.
            let _ = started.await;
        }
        let next = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..round.len().min(SIDE_BY_SIDE))
            .map(|_| {
                let (round, next) = (Arc::clone(&round), Arc::clone(&next));
                tokio::task::spawn_blocking(move || {
                    while let Some(partition) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                        partition.flush();
                    }
                })
            })
            .collect();
        for thread in threads {
            if let Err(error) = thread.await {
                tracing::error!(%error, "a flush was cut short");
            }
        }
        metrics.round(started.elapsed(), round.len());
    }
}

#[cfg(test)]
mod tests;
