//! Log compaction (`cleanup.policy=compact`) with Kafka's semantics: of records with one key the last one stays.
//!
//! [`Cleaner`] takes the dirtiest log that is due (`plan`), records the latest offset of each key of its dirty part (`offset_map`),
//! and rewrites its segments without the outdated records (`filter`, `output`). Each swap leaves the old or the new segment after a
//! crash (`swap`). It never touches the active segment, nor anything past the last stable offset.

mod clean;
mod filter;
mod offset_map;
mod output;
mod plan;
mod progress;
mod stats;
mod swap;
#[cfg(test)]
mod tests;
mod transactions;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use clean::{CleanError, Run};
use parking_lot::Mutex;
use plan::{Plan, plan};

use progress::Progress;

pub use progress::RunningPasses;
pub use stats::{CleanStats, CleanerStats};

pub(crate) use clean::LastOffsets;
pub(crate) use plan::{LogFacts, SegmentFacts};
pub(crate) use swap::{finish_swaps, swap_segments};

use crate::{Log, LogManager, throttle::Throttle};

/// The configuration that all cleaner threads of a broker share.
#[derive(Debug, Clone, Copy)]
pub struct CleanerConfig {
    /// `log.cleaner.threads`: how many call [`Cleaner::run_pass`] at once.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`: bytes of all offset maps together.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: reads and writes of all threads together.
    pub io_bytes_per_second: f64,
}

/// A log that a thread compacts; other threads may take the log when this is dropped.
struct CleaningGuard<'a> {
    cleaner: &'a Cleaner,
    log: &'a Arc<Log>,
}

impl Drop for CleaningGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The next pass would choose the same log again, and no other log would ever be compacted.
            self.cleaner.mark_uncleanable(self.log);
        }
        self.cleaner.busy.lock().remove(self.log.dir());
    }
}

/// See the module. Shared by the threads that run it.
#[derive(Debug)]
pub struct Cleaner {
    config: Mutex<CleanerConfig>,
    /// Folders of logs that a thread compacts.
    busy: Mutex<HashMap<PathBuf, Arc<Progress>>>,
    /// By folder; a later log in the same folder is another log.
    uncleanable: Mutex<HashMap<PathBuf, Weak<Log>>>,
    throttle: Throttle,
    stop: AtomicBool,
    stats: Mutex<CleanerStats>,
}

impl Cleaner {
    /// A cleaner that compacts only when [`Cleaner::run_pass`] is called.
    pub fn new(config: CleanerConfig) -> Self {
        Self {
            config: Mutex::new(config),
            busy: Mutex::default(),
            uncleanable: Mutex::default(),
            throttle: Throttle::new(config.io_bytes_per_second),
            stop: AtomicBool::new(false),
            stats: Mutex::default(),
        }
    }

    /// Takes effect with the next pass; the byte rate takes effect at once.
    pub fn reconfigure(&self, config: CleanerConfig) {
        self.throttle.set_rate(config.io_bytes_per_second);
        *self.config.lock() = config;
    }

    /// Makes all passes, also running ones, end soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// What was done so far.
    pub fn stats(&self) -> CleanerStats {
        let (mut stats, mut bytes) = (*self.stats.lock(), 0);
        self.busy.lock().values().for_each(|progress| progress.add_to(&mut stats.running));
        for log in self.uncleanable.lock().values().filter_map(Weak::upgrade).filter(|log| !log.is_closed()) {
            bytes += log.size_bytes();
        }
        CleanerStats { uncleanable_bytes: bytes, ..stats }
    }

    /// Compacts the dirtiest of the logs that are due. False if none was due. Failures are logged. Blocks for a long time.
    pub fn run_pass(&self, logs: &LogManager, now_ms: i64) -> bool {
        if self.stop.load(Ordering::Acquire) {
            return false;
        }
        let Some((log, plan, progress)) = self.claim_dirtiest(logs, now_ms) else { return false };
        // A pass that panics releases its log, too.
        let busy = CleaningGuard { cleaner: self, log: &log };
        let config = *self.config.lock();
        let memory = config.dedupe_buffer_bytes / config.threads.max(1);
        let env = logs.env().as_ref();
        let run = Run { env, now_ms, memory, throttle: &self.throttle, stop: &self.stop, progress: &progress };
        let began = env.now();
        let cleaned = clean::clean_log(&log, &plan, &run);
        drop(busy);
        match cleaned {
            Ok(last) => {
                let mut stats = self.stats.lock();
                stats.compactions += 1;
                (stats.last, stats.last_seconds) = (last, env.now().saturating_sub(began).as_secs_f64());
                drop(stats);
                tracing::debug!(topic = %log.topic(), partition = log.partition(), ?last, "compacted a log");
                if last.without_key > 0 {
                    tracing::warn!(topic = %log.topic(), partition = log.partition(), records = last.without_key, "compaction dropped records without a key");
                }
                true
            }
            Err(CleanError::Stopped | CleanError::Changed) => false,
            // Closed, deleted or offline: the content of the log is not at fault.
            Err(_) if log.is_offline() => false,
            Err(CleanError::File(error)) if error.is_full() || error.is_exhausted() => {
                tracing::warn!(topic = %log.topic(), partition = log.partition(), %error, "cannot compact a log now");
                false
            }
            Err(error) => {
                tracing::error!(topic = %log.topic(), partition = log.partition(), %error, "a log cannot be compacted; it is left alone until the next start");
                self.mark_uncleanable(&log);
                true
            }
        }
    }

    fn mark_uncleanable(&self, log: &Arc<Log>) {
        let mut uncleanable = self.uncleanable.lock();
        uncleanable.insert(log.dir().to_path_buf(), Arc::downgrade(log));
        self.stats.lock().uncleanable_partitions = uncleanable.len() as u64;
    }

    /// Removes the entries of logs that were deleted or moved.
    fn prune_uncleanable(&self) {
        let mut uncleanable = self.uncleanable.lock();
        uncleanable.retain(|_, log| log.upgrade().is_some_and(|log| !log.is_closed()));
        self.stats.lock().uncleanable_partitions = uncleanable.len() as u64;
    }

    /// Claims the dirtiest log that is due and that no other thread compacts.
    fn claim_dirtiest(&self, logs: &LogManager, now_ms: i64) -> Option<(Arc<Log>, Plan, Arc<Progress>)> {
        self.prune_uncleanable();
        let mut busy = self.busy.lock();
        let (mut dirtiest, mut overdue) = (0, 0);
        let mut best: Option<(Arc<Log>, Plan)> = None;
        for log in logs.logs() {
            let config = log.config();
            let dir = log.dir();
            if !config.compact
                || log.is_offline()
                || busy.contains_key(dir)
                || self.uncleanable.lock().contains_key(dir)
            {
                continue;
            }
            if !log.damaged_ranges().is_empty() {
                // A damaged log is left unchanged, so that an operator can repair it.
                self.mark_uncleanable(&log);
                continue;
            }
            let facts = match log.compaction_facts() {
                Ok(facts) => facts,
                Err(error) => {
                    tracing::warn!(topic = %log.topic(), partition = log.partition(), %error, "cannot look at a log to compact");
                    continue;
                }
            };
            let plan = plan(&facts, &config, now_ms);
            dirtiest = dirtiest.max(plan.dirty_ppm());
            overdue = overdue.max(plan.overdue_ms);
            let dirtier = best.as_ref().is_none_or(|(_, best)| plan.dirty_ppm() > best.dirty_ppm());
            if plan.is_due(&config) && dirtier {
                best = Some((log, plan));
            }
        }
        let mut stats = self.stats.lock();
        stats.max_dirty_percent = u64::from(dirtiest / 10_000);
        stats.max_delay_seconds = u64::try_from(overdue / 1000).unwrap_or_default();
        stats.last_look_ms = now_ms;
        let (log, plan) = best?;
        let progress = Arc::new(Progress::default());
        busy.insert(log.dir().to_path_buf(), Arc::clone(&progress));
        Some((log, plan, progress))
    }
}
