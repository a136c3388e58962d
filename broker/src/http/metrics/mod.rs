//! `/metrics`: the counters that hot paths keep, and what is read off the state of the broker at the scrape.
//!
//! Names are those that Kafka dashboards know from the JMX exporter, with `esker_` for what Kafka does not have. A gauge that can be read
//! off the state costs nothing between scrapes. Must never: run on a worker that serves connections.

mod ages;
mod cluster;
mod encode;
mod gauges;
mod groups;
mod quorum;
mod state;
mod transactions;

pub(crate) use ages::Ages;
pub(super) use state::scrape_start;

use esker_core::health::StartStep;

use crate::broker::Broker;
use encode::encode;

/// All metrics of a broker that serves, in Prometheus' text format.
pub(crate) fn scrape(broker: &Broker, step: StartStep, ages: &Ages) -> Result<String, prometheus::Error> {
    let mut families = broker.metrics.gather();
    families.extend(state::state(broker, step, ages)?);
    encode(&families)
}
