//! `/metrics`: the counters that hot paths keep, and what is read off the state of the broker at the scrape.
//!
//! Names are those that Kafka dashboards know from the JMX exporter, with `esker_` for what Kafka does not have. A gauge that can be read
//! off the state costs nothing between scrapes. Must never: run on a worker that serves connections.

mod ages;
mod clients;
mod cluster;
mod ends;
mod groups;
mod network;
mod partitions;
mod quorum;
mod rates;
mod scraper;
mod state;
mod table;
mod transactions;

pub(super) use ends::Ends;
pub(crate) use scraper::Scraper;
pub(super) use state::{Stage, write_start};
pub(super) use table::table;

use esker_storage::LoadProgress;
use tokio::runtime::RuntimeMetrics;

use crate::broker::Broker;
use crate::telemetry::Page;

/// Writes all metrics of a broker that serves.
pub(super) fn write(
    broker: &Broker,
    start: (Stage, &LoadProgress),
    workers: &RuntimeMetrics,
    scraper: &Scraper,
    page: &mut Page,
) {
    broker.metrics.write(page);
    state::write(broker, start, scraper, page);
    network::write_workers(broker, scraper, workers, page);
}

/// For tests: the text of a scrape of a broker that serves.
#[cfg(test)]
pub(crate) fn scrape(broker: &Broker) -> String {
    let stage = Stage { step: esker_core::health::StartStep::Serving, is_stopping: false };
    let (workers, mut page) = (tokio::runtime::Handle::current().metrics(), Page::new(false));
    write(broker, (stage, &LoadProgress::default()), &workers, &Scraper::default(), &mut page);
    String::from_utf8(page.finish().unwrap()).unwrap()
}
