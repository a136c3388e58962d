//! How long the disk makes acknowledgements wait.

use std::time::Duration;

use prometheus::core::Metric;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Counters of group commit.
#[derive(Debug, Clone)]
pub struct FlushMetrics {
    rounds: Histogram,
    ways: IntCounterVec,
    logs: IntCounter,
}

impl FlushMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let name = "kafka_log_logflushstats_logflushrateandtime_seconds";
        let options =
            HistogramOpts::new(name, "Rounds of syncs that acknowledgements waited for").buckets(buckets.into());
        let metrics = Self {
            rounds: Histogram::with_opts(options)?,
            ways: IntCounterVec::new(
                Opts::new("esker_flush_rounds_total", "Rounds of flushes, by the journal or by a sync of each segment"),
                &["way"],
            )?,
            logs: IntCounter::new("esker_log_flushes_total", "Logs flushed because a request waited for it")?,
        };
        registry.register(Box::new(metrics.rounds.clone()))?;
        registry.register(Box::new(metrics.ways.clone()))?;
        registry.register(Box::new(metrics.logs.clone()))?;
        Ok(metrics)
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
        self.logs.inc_by(logs as u64);
    }

    /// How long most rounds took at most, in ms (at least 1), as Kafka's dashboards read it; as fine as the buckets are.
    pub fn quantiles(&self, gauges: &IntGaugeVec) {
        let metric = self.rounds.metric();
        let histogram = metric.get_histogram();
        for (label, share) in
            [("0.50", 0.5), ("0.75", 0.75), ("0.95", 0.95), ("0.98", 0.98), ("0.99", 0.99), ("0.999", 0.999)]
        {
            let enough = (histogram.get_sample_count() as f64 * share).ceil() as u64;
            let buckets = histogram.get_bucket();
            let bucket = buckets.iter().find(|bucket| bucket.cumulative_count() >= enough).or(buckets.last());
            let ms = bucket.filter(|_| enough > 0).map_or(0.0, |bucket| (bucket.upper_bound() * 1000.0).ceil());
            gauges.with_label_values(&[label]).set(ms as i64);
        }
    }
}
