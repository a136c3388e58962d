//! What the broker counts, and the log.
//!
//! Hot paths hold handles; no label is looked up for a request or a record. Names are those that Kafka dashboards know from
//! the JMX exporter, with `esker_` for what Kafka does not have. Gauges that can be read off the broker's state are read
//! when somebody scrapes (see [`Metrics::scrape`]) and cost nothing otherwise.

mod ages;
mod flushes;
mod groups;
mod logging;
mod network;
mod process;
mod requests;
mod scrape;
mod topics;
mod transactions;

pub use ages::Ages;
pub use flushes::FlushMetrics;
pub use groups::GroupMetrics;
pub use logging::{LogFormat, init_logging};
pub use network::NetworkMetrics;
pub use requests::RequestMetrics;
pub use scrape::scrape_loading;
pub use topics::{TopicMetrics, TopicRates};

use prometheus::Registry;

/// All counters of a broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections and bytes.
    pub network: NetworkMetrics,
    /// Syncs.
    pub flushes: FlushMetrics,
    /// How far groups are behind in time.
    pub ages: Ages,
    /// Rebalances.
    pub groups: GroupMetrics,
    /// Requests by API.
    pub requests: RequestMetrics,
    /// Bytes and records by topic.
    pub topics: TopicMetrics,
}

impl Metrics {
    /// Counters at zero, in a registry of their own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        Ok(Self {
            network: NetworkMetrics::new(&registry)?,
            flushes: FlushMetrics::new(&registry)?,
            ages: Ages::default(),
            groups: GroupMetrics::new(&registry)?,
            requests: RequestMetrics::new(&registry)?,
            topics: TopicMetrics::new(&registry)?,
            registry,
        })
    }
}
