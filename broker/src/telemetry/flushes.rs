//! How long the disk makes acknowledgements wait.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Error, Histogram, IntCounter, IntCounterVec};
use tokio::time::Instant;

use super::counters::CounterSet;
use super::durations::Durations;
use super::page::{Kind, Page};

/// Counters of group commit.
#[derive(Debug, Clone)]
pub struct FlushMetrics {
    rounds: Histogram,
    sizes: Histogram,
    recent: Arc<Durations>,
    ways: IntCounterVec,
    logs: IntCounter,
}

impl FlushMetrics {
    pub(super) fn new(set: &CounterSet, now: Instant) -> Result<Self, Error> {
        let seconds = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let logs = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];
        Ok(Self {
            rounds: set.histogram(
                "kafka_log_logflushstats_logflushrateandtime_seconds",
                "Rounds of syncs that acknowledgements waited for",
                &seconds,
            )?,
            sizes: set.histogram("esker_group_commit_logs", "Logs that one round of flushes made durable", &logs)?,
            recent: Arc::new(Durations::new(now)),
            ways: set.counters(
                "esker_flush_rounds_total",
                "Rounds of flushes, by the journal or by a sync of each segment",
                &["way"],
            )?,
            logs: set.counter("esker_log_flushes_total", "Logs flushed because a request waited for it")?,
        })
    }

    /// A round begins to sync segments: counted before anybody is answered.
    pub fn begin_segments(&self) {
        self.ways.with_label_values(&["segments"]).inc();
    }

    /// A round by the journal over some logs of one dir ended.
    pub fn journal_round(&self, took: Duration, logs: usize) {
        if logs > 0 {
            self.ways.with_label_values(&["journal"]).inc();
            self.round(took, logs);
        }
    }

    /// A round over some logs of one dir ended.
    pub fn round(&self, took: Duration, logs: usize) {
        self.rounds.observe(took.as_secs_f64());
        self.sizes.observe(logs as f64);
        self.recent.record(took, Instant::now());
        self.logs.inc_by(logs as u64);
    }

    pub(super) fn write(&self, page: &mut Page, now: Instant) {
        let help = "Rounds of syncs that acknowledgements waited for, ms";
        let name = "kafka_log_logflushstats_logflushrateandtimems";
        self.recent.write_summary(&mut page.family(name, Kind::Summary, &[], help), &[], now);
    }
}
