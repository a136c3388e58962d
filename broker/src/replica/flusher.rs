//! Group commit: partitions with acknowledgments that wait for the disk are flushed together.
//!
//! The cost of an fsync is its latency: while one round runs, requests queue for the next one. One task for each log dir flushes
//! all queued logs by the log dir's journal, with one fsync. Other logs (few logs with much data, a log's first flush, no space in
//! the journal) are synced concurrently on blocking threads, after the writeback of all of them was started. A partition is in the
//! queue at most once, however many requests wait for it.
//!
//! Must never: run on an async worker, or report "flushed" after a failed sync (the log dir goes offline then, and waiters check
//! that when they wake).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esker_storage::{Log, LogManager};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::foreground::Foreground;
use crate::node::{BlockingError, Node};
use crate::telemetry::FlushMetrics;

/// Concurrent syncs of one disk: with more, the file system's journal is the limit.
const SIDE_BY_SIDE: usize = 16;

/// Records that no producer waits for are flushed within this time, or at once when a consumer waits for them.
const SOON: Duration = Duration::from_millis(50);

/// A log that is flushed on request: a partition.
pub(super) trait FlushTarget: fmt::Debug + Send + Sync {
    /// Marks the target as queued; false if it is queued already. The target clears the mark when its flush begins.
    fn enqueue_flush(&self) -> bool;

    /// As [`FlushTarget::enqueue_flush`], for the queue of delayed flushes.
    fn enqueue_later(&self) -> bool;

    /// Clears the mark of the delayed queue.
    fn leave_later(&self);

    /// Whether its log lies in this log dir.
    fn is_in(&self, log_dir: &Path) -> bool;

    /// Begins a flush: a request from here on is queued again. The returned log, if any, may be flushed by its journal.
    fn begin_flush(&self) -> Option<Arc<Log>>;

    /// Releases the requests that wait for the records that the log had when the flush began: they are durable.
    fn end_flush(&self);

    /// Starts the writeback that [`FlushTarget::flush`] waits for.
    fn start_flush(&self);

    /// Flushes the log and releases the requests that wait for that. Blocks.
    fn flush(&self);
}

#[derive(Debug)]
struct Disk {
    dir: PathBuf,
    queue: Mutex<Vec<Arc<dyn FlushTarget>>>,
    /// Logs without a waiting request.
    later: Mutex<Vec<Arc<dyn FlushTarget>>>,
    wake: Notify,
}

/// The queues of all log dirs.
#[derive(Debug)]
pub struct Flusher {
    disks: Vec<Arc<Disk>>,
    node: Node,
    metrics: FlushMetrics,
    foreground: Foreground,
}

impl Flusher {
    /// Queues for `dirs`; nothing is flushed before [`Flusher::run`].
    pub fn new(node: Node, dirs: impl IntoIterator<Item = PathBuf>, metrics: FlushMetrics) -> Self {
        let disk = |dir| Arc::new(Disk { dir, queue: Mutex::default(), later: Mutex::default(), wake: Notify::new() });
        Self { disks: dirs.into_iter().map(disk).collect(), node, metrics, foreground: Foreground::default() }
    }

    /// Whether producers wait for this broker.
    pub(super) fn foreground(&self) -> &Foreground {
        &self.foreground
    }

    /// Flushes everything in the target's log with the next round. The requests that wait for it must be registered before.
    pub(super) fn request_flush<T: FlushTarget + 'static>(&self, target: &Arc<T>) {
        if !target.enqueue_flush() {
            return;
        }
        if let Some(disk) = self.disk_of(target.as_ref()) {
            disk.queue.lock().push(Arc::<T>::clone(target));
            disk.wake.notify_one();
        }
    }

    /// As [`Flusher::request_flush`] for several targets: those of a log dir go with one round.
    pub(super) fn request_flush_all<T: FlushTarget + 'static>(&self, targets: &[Arc<T>]) {
        for disk in &self.disks {
            let is_here = |target: &&Arc<T>| self.disk_of(target.as_ref()).is_some_and(|its| Arc::ptr_eq(its, disk));
            let mut queue = disk.queue.lock();
            for target in targets.iter().filter(is_here) {
                if target.enqueue_flush() {
                    queue.push(Arc::<T>::clone(target));
                }
            }
            drop(queue);
            disk.wake.notify_one();
        }
    }

    /// Flushes a target now, in no round: those that wait for a round do not wait for this. Blocks.
    pub(super) fn flush_alone<T: FlushTarget>(&self, target: &T) {
        let started = Instant::now();
        self.metrics.begin_segments();
        target.flush();
        self.metrics.round(started.elapsed(), 1);
    }

    /// As [`Flusher::request_flush`], within [`SOON`]: for records without a waiter.
    pub(super) fn request_flush_later<T: FlushTarget + 'static>(&self, target: &Arc<T>) {
        if !target.enqueue_later() {
            return;
        }
        if let Some(disk) = self.disk_of(target.as_ref()) {
            disk.later.lock().push(Arc::<T>::clone(target));
            disk.wake.notify_one();
        }
    }

    fn disk_of(&self, target: &dyn FlushTarget) -> Option<&Arc<Disk>> {
        self.disks.iter().find(|disk| target.is_in(&disk.dir)).or_else(|| self.disks.first())
    }

    /// Serves all queues until it is dropped.
    pub async fn run(self: Arc<Self>) {
        join_all(self.disks.iter().map(|disk| serve(disk, &self.node, &self.metrics))).await;
    }
}

impl Disk {
    /// Adds the delayed flushes to the next round.
    fn join_round(&self) {
        let all = std::mem::take(&mut *self.later.lock());
        let mut queue = self.queue.lock();
        for target in all {
            target.leave_later();
            if target.enqueue_flush() {
                queue.push(target);
            }
        }
    }
}

async fn serve(disk: &Disk, node: &Node, metrics: &FlushMetrics) {
    // When the delayed flushes join the next round.
    let mut later = None;
    loop {
        if later.is_some_and(|at| at <= Instant::now()) {
            disk.join_round();
            later = None;
        }
        let round = std::mem::take(&mut *disk.queue.lock());
        if later.is_none() && !disk.later.lock().is_empty() {
            later = Some(Instant::now() + SOON);
        }
        if round.is_empty() {
            match later {
                Some(at) => drop(tokio::time::timeout_at(at, disk.wake.notified()).await),
                None => disk.wake.notified().await,
            }
            continue;
        }
        let started = Instant::now();
        let logs = round.len();
        let keeper = node.clone();
        let others = match node.run_blocking(move || flush_by_journal(round, &keeper)).await {
            Ok(others) => others,
            Err(error) => {
                report(&error);
                continue;
            }
        };
        metrics.journal_round(started.elapsed(), logs - others.targets.len());
        if !others.targets.is_empty() {
            flush_side_by_side(others, node, metrics).await;
        }
    }
}

/// The logs of a round that need a sync of their segments, and all logs of the round.
struct Others {
    targets: Vec<Arc<dyn FlushTarget>>,
    /// Bytes of theirs that are not durable.
    bytes: u64,
    log: Option<Arc<Log>>,
}

/// Flushes logs by the journal. Blocks.
fn flush_by_journal(round: Vec<Arc<dyn FlushTarget>>, node: &Node) -> Others {
    let (mut with_log, mut others) = (Vec::new(), Vec::new());
    for target in round {
        match target.begin_flush() {
            Some(log) => with_log.push((target, log)),
            None => others.push(target),
        }
    }
    let logs: Vec<Arc<Log>> = with_log.iter().map(|(_, log)| Arc::clone(log)).collect();
    // After a failure of the disk each sync reports it to its waiters.
    let left = LogManager::flush_by_journal(&logs).unwrap_or_else(|_| (0..logs.len()).collect());
    let mut bytes = 0;
    let mut left = left.into_iter().peekable();
    for (number, (target, log)) in with_log.into_iter().enumerate() {
        if left.next_if_eq(&number).is_some() {
            bytes += log.unsynced_bytes();
            others.push(target);
        } else {
            target.end_flush();
        }
    }
    let log = logs.into_iter().next();
    if let Some(log) = log.as_ref().filter(|log| log.journal().is_behind()) {
        let log = Arc::clone(log);
        node.spawn_blocking(move || log.journal().keep_up());
    }
    Others { targets: others, bytes, log }
}

async fn flush_side_by_side(others: Others, node: &Node, metrics: &FlushMetrics) {
    metrics.begin_segments();
    let started = Instant::now();
    let round = Arc::new(others.targets);
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
    join_all(threads).await.into_iter().filter_map(Result::err).for_each(|error| report(&error));
    if let Some(log) = &others.log {
        log.journal().note_segments(started.elapsed(), round.len(), others.bytes);
    }
    metrics.round(started.elapsed(), round.len());
}

fn report(error: &BlockingError) {
    tracing::error!(%error, "a flush did not end: its requests are answered at their time-out");
}

#[cfg(test)]
mod tests;
