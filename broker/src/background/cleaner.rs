//! Runs log compaction: `log.cleaner.threads` loops beside everything else, each on a blocking thread while it works.
//!
//! One that finds nothing to do sleeps `log.cleaner.backoff.ms`. A stop makes passes under way end after the batch they are at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esker_storage::Cleaner;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::scope::Background;
use crate::task::spawn;

/// However short the backoff is set: looking at all logs must not become all there is.
const BACKOFF_FLOOR: Duration = Duration::from_millis(10);

/// More would only wait for the disk.
const MAX_THREADS: usize = 64;
/// How often `log.cleaner.threads` is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The loops that should run, and those that do.
#[derive(Debug, Default)]
pub struct CleanerThreads {
    wanted: AtomicUsize,
    alive: AtomicUsize,
}

impl CleanerThreads {
    /// Loops that ended without a stop. Kafka's dead threads stay dead; these are started again at the next check.
    pub fn dead(&self) -> usize {
        self.wanted.load(Ordering::Acquire).saturating_sub(self.alive.load(Ordering::Acquire))
    }
}

/// Counts a loop for as long as it is there, however it ends.
struct Alive(Arc<CleanerThreads>);

impl Alive {
    fn new(threads: &Arc<CleanerThreads>) -> Self {
        threads.alive.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(threads))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the loops, with `log.cleaner.enable`.
pub fn run_cleaner(
    background: &Background,
    cleaner: Arc<Cleaner>,
    threads: &Arc<CleanerThreads>,
    stop: &CancellationToken,
) {
    spawn(supervise(background.clone(), Arc::clone(&cleaner), Arc::clone(threads), stop.clone()));
    let stop = stop.clone();
    spawn(async move {
        stop.cancelled().await;
        cleaner.stop();
    });
}

/// Adjusts the number of loops to the config, and passes the other settings on.
async fn supervise(
    background: Background,
    cleaner: Arc<Cleaner>,
    threads: Arc<CleanerThreads>,
    stop: CancellationToken,
) {
    let mut loops: Vec<(CancellationToken, JoinHandle<()>)> = Vec::new();
    while !stop.is_cancelled() {
        let live = background.live();
        cleaner.reconfigure(live.cleaner);
        let wanted = live.cleaner.threads.clamp(1, MAX_THREADS);
        // One that is at work ends when it is through.
        loops.drain(wanted.min(loops.len())..).for_each(|(surplus, _)| surplus.cancel());
        loops.retain(|(_, running)| !running.is_finished());
        while loops.len() < wanted {
            let own = stop.child_token();
            let alive = Alive::new(&threads);
            loops.push((own.clone(), spawn(run(background.clone(), alive, Arc::clone(&cleaner), own))));
        }
        threads.wanted.store(loops.len(), Ordering::Release);
        let _ = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
    }
    threads.wanted.store(0, Ordering::Release);
}

async fn run(background: Background, _alive: Alive, cleaner: Arc<Cleaner>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (logs, at_work) = (Arc::clone(background.replicas.logs()), Arc::clone(&cleaner));
        let now_ms = background.node.now_ms();
        let passed = background.node.run_blocking(move || at_work.run_pass(&logs, now_ms)).await;
        if let Err(error) = &passed {
            error!(%error, "a compaction failed; its log is left alone until the next start");
        }
        if !matches!(passed, Ok(true)) {
            let backoff = background.live().cleaner_backoff.max(BACKOFF_FLOOR);
            let _ = tokio::time::timeout(backoff, stop.cancelled()).await;
        }
    }
}
