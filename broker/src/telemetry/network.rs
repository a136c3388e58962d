//! Connections and bytes on the wire.

use prometheus::core::{AtomicU64, GenericLocalCounter};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::shards::Shards;

/// Bytes since the last scrape.
#[derive(Debug)]
struct Bytes {
    received: GenericLocalCounter<AtomicU64>,
    sent: GenericLocalCounter<AtomicU64>,
}

/// Counters of the network layer.
#[derive(Debug)]
pub struct NetworkMetrics {
    connections: IntGauge,
    accepted: IntCounter,
    closed: IntCounterVec,
    bytes: Shards<Bytes>,
    /// Times that a connection waited for memory for a request.
    pub memory_waits: IntCounter,
}

impl NetworkMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let received = IntCounter::new("esker_network_received_bytes_total", "Bytes read from clients")?;
        let sent = IntCounter::new("esker_network_sent_bytes_total", "Bytes written to clients")?;
        registry.register(Box::new(received.clone()))?;
        registry.register(Box::new(sent.clone()))?;
        let metrics = Self {
            connections: IntGauge::new("kafka_server_socket_server_connection_count", "Open client connections")?,
            accepted: IntCounter::new("esker_connections_accepted_total", "Client connections accepted")?,
            closed: IntCounterVec::new(
                Opts::new("esker_connections_closed_total", "Client connections ended, by reason"),
                &["reason"],
            )?,
            bytes: Shards::new(|| Bytes { received: received.local(), sent: sent.local() }),
            memory_waits: IntCounter::new(
                "esker_request_memory_waits_total",
                "Times that a connection waited for memory for a request (queued.max.request.bytes)",
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.accepted.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.memory_waits.clone()))?;
        Ok(metrics)
    }

    /// A connection begins.
    pub fn record_open(&self) {
        self.connections.inc();
        self.accepted.inc();
    }

    /// A connection ended.
    pub fn record_close(&self) {
        self.connections.dec();
    }

    /// A connection ended for this reason.
    pub fn ended(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> usize {
        usize::try_from(self.connections.get()).unwrap_or_default()
    }

    /// Bytes came in.
    pub fn record_received(&self, bytes: usize) {
        if let Some(local) = self.bytes.local() {
            local.received.inc_by(bytes as u64);
        }
    }

    /// Bytes went out.
    pub fn record_sent(&self, bytes: usize) {
        if let Some(local) = self.bytes.local() {
            local.sent.inc_by(bytes as u64);
        }
    }

    /// Adds to the registry's counters what came since the last time.
    pub(super) fn fold(&self) {
        self.bytes.for_each(|bytes| {
            bytes.received.flush();
            bytes.sent.flush();
        });
    }
}
