//! What the broker counts, and the log.
//!
//! Hot paths hold handles; no label is looked up for a request or a record. Names are those that Kafka dashboards know from
//! the JMX exporter, with `esker_` for what Kafka does not have. Must never: know the state of the broker. What can be read off it
//! is read at the scrape (`http/metrics`).

mod flushes;
mod groups;
mod logging;
mod network;
mod process;
mod repeats;
mod replication;
mod requests;
mod shards;
mod topics;

pub use flushes::FlushMetrics;
pub use groups::GroupMetrics;
pub use logging::{LogFormat, init_logging};
pub use network::NetworkMetrics;
pub use process::register as register_process;
pub use repeats::{LeftOut, RepeatLimiter};
pub use replication::ReplicationMetrics;
pub use requests::{RequestMetrics, ServedApi};
pub use topics::{TopicMetrics, TopicRates};

use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};

/// All counters of a broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
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
    /// Parts of a metadata image that could not be put in force here.
    pub apply_errors: IntCounter,
}

impl Metrics {
    /// Counters at zero, in a registry of their own; `apis` are those that are served.
    pub fn new(apis: impl Iterator<Item = ServedApi>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let apply_errors = IntCounter::new(
            "esker_metadata_apply_errors_total",
            "Partitions, topics and configs whose newest metadata could not be put in force on this broker",
        )?;
        registry.register(Box::new(apply_errors.clone()))?;
        Ok(Self {
            apply_errors,
            network: NetworkMetrics::new(&registry)?,
            flushes: FlushMetrics::new(&registry)?,
            groups: GroupMetrics::new(&registry)?,
            replication: ReplicationMetrics::new(&registry)?,
            requests: RequestMetrics::new(&registry, apis)?,
            topics: TopicMetrics::new(&registry)?,
            registry,
        })
    }

    /// The counters as they stand.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.network.fold();
        self.requests.fold();
        self.registry.gather()
    }
}
