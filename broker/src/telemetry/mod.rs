//! What the broker counts, and the log.
//!
//! Hot paths hold handles; no label is looked up for a request or a record. Names are those that Kafka dashboards know from
//! the JMX exporter, with `esker_` for what Kafka does not have. Must never: know the state of the broker. What can be read off it
//! is read at the scrape (`http/metrics`).

mod counters;
mod durations;
mod flushes;
mod groups;
mod loggers;
mod logging;
mod network;
mod page;
mod peers;
mod process;
mod quorum;
mod repeats;
mod replication;
mod requests;
mod shards;
mod stalls;
mod topics;

pub use durations::Durations;
pub use flushes::FlushMetrics;
pub use groups::GroupMetrics;
pub use loggers::{LevelChange, LevelError, LoggerLevels};
pub use logging::{LogFormat, LogLevel, LoggingError, change_logger_levels, init_logging, logger_levels};
pub use network::{CountedSoftware, ListenerCounts, ListenerMetrics, NetworkMetrics, OpenConnection};
pub use page::{Family, Kind, Page, Rows, labels_text};
pub use peers::{PeerMetrics, PeersMetrics};
pub use process::write_process;
pub use quorum::QuorumMetrics;
pub use repeats::{LeftOut, RepeatLimiter};
pub use replication::ReplicationMetrics;
pub use requests::{Answered, Arrival, RequestMetrics, ServedApi};
pub use stalls::WorkerStalls;
pub use topics::{TopicCount, TopicMetrics, TopicRates};

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::time::Instant;

use counters::CounterSet;

/// All counters of a broker.
#[derive(Debug)]
pub struct Metrics {
    counters: CounterSet,
    /// Since when is counted.
    pub started: Instant,
    /// Connections and bytes.
    pub network: NetworkMetrics,
    /// Syncs.
    pub flushes: FlushMetrics,
    /// Rebalances.
    pub groups: GroupMetrics,
    /// In-sync replicas.
    pub replication: ReplicationMetrics,
    /// Requests by API.
    pub requests: RequestMetrics,
    /// Bytes and records by topic.
    pub topics: TopicMetrics,
    /// Waits of ready tasks for a worker.
    pub stalls: Arc<WorkerStalls>,
    /// How long verifications of partitions in transactions took.
    pub verifications: Durations,
    /// Verifications that failed.
    pub failed_verifications: IntCounter,
    /// Parts of a metadata image that could not be put in force here.
    pub apply_errors: IntCounter,
}

impl Metrics {
    /// Counters at zero; `apis` are those that are served.
    pub fn new(apis: impl Iterator<Item = ServedApi>) -> Result<Self, prometheus::Error> {
        let (counters, now) = (CounterSet::default(), Instant::now());
        Ok(Self {
            started: now,
            apply_errors: counters.counter(
                "esker_metadata_apply_errors_total",
                "Partitions, topics and configs whose newest metadata could not be put in force on this broker",
            )?,
            failed_verifications: counters.counter(
                "kafka_server_addpartitionstotxnmanager_verificationfailures_total",
                "Partitions of transactions that their coordinator did not verify",
            )?,
            verifications: Durations::new(now),
            stalls: Arc::new(WorkerStalls::new(now)),
            network: NetworkMetrics::new(&counters)?,
            flushes: FlushMetrics::new(&counters, now)?,
            groups: GroupMetrics::new(&counters)?,
            replication: ReplicationMetrics::new(&counters)?,
            requests: RequestMetrics::new(&counters, apis)?,
            topics: TopicMetrics::default(),
            counters,
        })
    }

    /// Writes the counters as they stand.
    pub fn write(&self, page: &mut Page) {
        let now = Instant::now();
        self.requests.fold(now);
        self.counters.write(page);
        self.requests.write(page, now);
        self.topics.write(page);
        self.flushes.write(page, now);
        let help = "Verifications of partitions in transactions by their coordinator, ms";
        let name = "kafka_server_addpartitionstotxnmanager_verificationtimems";
        self.verifications.write_summary(&mut page.family(name, Kind::Summary, &[], help), &[], now);
    }
}
