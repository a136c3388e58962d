//! What the handlers of HTTP read from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use esker_storage::LoadProgress;
use tokio::sync::Mutex;

use super::metrics::{Scraper, Stage};
use crate::broker::Broker;
use crate::start_progress::StartProgress;

/// What HTTP reports on: first a broker that starts, then the broker.
#[derive(Debug, Default)]
pub struct Served {
    /// How far the start is.
    pub progress: Arc<StartProgress>,
    /// How far the logs are.
    pub loading: Arc<LoadProgress>,
    /// Set once it works; clients are served once it is not fenced.
    pub broker: OnceLock<Arc<Broker>>,
    /// Where clients of this machine reach the broker.
    kafka: OnceLock<SocketAddr>,
    is_stopping: AtomicBool,
    /// Held by the scrape that runs: one at a time, whatever their number.
    pub(super) scraper: Arc<Mutex<Scraper>>,
}

impl Served {
    /// The broker listens at this address.
    pub fn set_kafka(&self, address: SocketAddr) {
        let mut address = address;
        // A listener on all addresses has the loopback one, too.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let _ = self.kafka.set(address);
    }

    /// The address for clients of this machine, once the broker listens.
    pub(super) fn kafka(&self) -> Option<SocketAddr> {
        self.kafka.get().copied()
    }

    /// The broker hands over what it leads.
    pub fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Where the broker is between its start and its stop.
    pub(super) fn stage(&self) -> Stage {
        Stage { step: self.progress.step(), is_stopping: self.is_stopping.load(Ordering::Relaxed) }
    }
}
