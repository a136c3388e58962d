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

use crate::broker::Broker;
use crate::clock::now_ms;
use crate::config::LiveConfig;

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
    /// Loops that have ended though nobody told them to. Kafka's dead threads stay dead; these are begun anew when it is next looked.
    pub fn dead(&self) -> usize {
        self.wanted.load(Ordering::Acquire).saturating_sub(self.alive.load(Ordering::Acquire))
    }
}

/// Counts a loop for as long as it is there, however it ends.
struct Alive(Arc<Broker>);

impl Alive {
    fn new(broker: &Arc<Broker>) -> Self {
        broker.cleaner_threads.alive.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(broker))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.cleaner_threads.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the loops, if `log.cleaner.enable` says so.
pub(crate) fn start(broker: &Arc<Broker>, stop: &CancellationToken) {
    let Some(cleaner) = broker.cleaner.clone() else { return };
    tokio::spawn(supervise(Arc::clone(broker), Arc::clone(&cleaner), stop.clone()));
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        cleaner.stop();
    });
}

/// As many loops as are asked for now; what else was set is handed on.
async fn supervise(broker: Arc<Broker>, cleaner: Arc<Cleaner>, stop: CancellationToken) {
    let mut loops: Vec<(CancellationToken, JoinHandle<()>)> = Vec::new();
    while !stop.is_cancelled() {
        let live = LiveConfig::read(&broker.metadata, &broker.config);
        cleaner.reconfigure(live.cleaner);
        let wanted = live.cleaner.threads.clamp(1, MAX_THREADS);
        // One that is at work ends when it is through.
        loops.drain(wanted.min(loops.len())..).for_each(|(surplus, _)| surplus.cancel());
        loops.retain(|(_, running)| !running.is_finished());
        while loops.len() < wanted {
            let own = stop.child_token();
            let alive = Alive::new(&broker);
            loops.push((own.clone(), tokio::spawn(run(alive, Arc::clone(&cleaner), own))));
        }
        broker.cleaner_threads.wanted.store(loops.len(), Ordering::Release);
        let _ = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
    }
    broker.cleaner_threads.wanted.store(0, Ordering::Release);
}

async fn run(alive: Alive, cleaner: Arc<Cleaner>, stop: CancellationToken) {
    let broker = &alive.0;
    while !stop.is_cancelled() {
        let (logs, at_work) = (Arc::clone(broker.replicas.logs()), Arc::clone(&cleaner));
        let passed = tokio::task::spawn_blocking(move || at_work.pass(&logs, now_ms())).await;
        if let Err(error) = &passed {
            error!(%error, "a compaction failed; its log is left alone until the next start");
        }
        if !matches!(passed, Ok(true)) {
            let backoff = LiveConfig::read(&broker.metadata, &broker.config).cleaner_backoff.max(BACKOFF_FLOOR);
            let _ = tokio::time::timeout(backoff, stop.cancelled()).await;
        }
    }
}
