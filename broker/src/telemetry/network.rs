//! Connections, by listener and by the software of the client, and bytes on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Error, IntCounter, IntCounterVec};

use super::counters::CounterSet;
use super::shards::Shards;

/// Names and versions of client software with rows of their own; clients beyond that count as `other`.
const MAX_SOFTWARE: usize = 100;
/// Label of software that has no row of its own.
const OTHER: &str = "other";

/// What one thread counted of a listener.
#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    received: u64,
    sent: u64,
    requests: u64,
}

impl Traffic {
    fn add(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
        self.requests += other.requests;
    }
}

#[derive(Debug, Default)]
struct Listener {
    name: String,
    created: AtomicU64,
    closed: AtomicU64,
    failed_authentications: AtomicU64,
    blocked_us: AtomicU64,
    traffic: Shards<Traffic>,
}

/// A listener's counters; a connection holds them.
#[derive(Debug, Clone)]
pub struct ListenerMetrics(Arc<Listener>);

/// What a listener has counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerCounts {
    /// Its name.
    pub name: String,
    /// Connections made.
    pub created: u64,
    /// Connections ended.
    pub closed: u64,
    /// Authentications that failed.
    pub failed_authentications: u64,
    /// How long no connection could be accepted.
    pub blocked: Duration,
    /// Requests.
    pub requests: u64,
    /// Bytes read.
    pub received: u64,
    /// Bytes written.
    pub sent: u64,
}

impl ListenerMetrics {
    fn counts(&self) -> ListenerCounts {
        let mut traffic = Traffic::default();
        self.0.traffic.for_each(|part| traffic.add(*part));
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerCounts {
            name: self.0.name.clone(),
            created: load(&self.0.created),
            closed: load(&self.0.closed),
            failed_authentications: load(&self.0.failed_authentications),
            blocked: Duration::from_micros(load(&self.0.blocked_us)),
            requests: traffic.requests,
            received: traffic.received,
            sent: traffic.sent,
        }
    }

    /// A connection begins; it ends when the returned value is dropped.
    pub fn record_open(&self) -> OpenConnection {
        self.0.created.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// No connection could be accepted for so long.
    pub fn record_blocked(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or_default();
        self.0.blocked_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub fn record_received(&self, bytes: usize) {
        if let Some(mut local) = self.0.traffic.local() {
            local.received += bytes as u64;
        }
    }

    /// Bytes went out, since so many requests.
    pub fn record_sent(&self, bytes: usize, requests: u64) {
        if let Some(mut local) = self.0.traffic.local() {
            local.sent += bytes as u64;
            local.requests += requests;
        }
    }
}

/// An open connection of a listener.
#[derive(Debug)]
pub struct OpenConnection(ListenerMetrics);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Software of a client: its name, its version, and the listener.
type Software = (String, String, String);

/// Connections by the software that clients say they are (KIP-511).
#[derive(Debug, Default)]
struct SoftwareCounts {
    connections: Mutex<BTreeMap<Software, u64>>,
}

/// A connection that is counted under its software until this is dropped.
#[derive(Debug)]
pub struct CountedSoftware {
    counts: Arc<SoftwareCounts>,
    software: Software,
}

impl Drop for CountedSoftware {
    fn drop(&mut self) {
        let mut connections = self.counts.connections.lock();
        if let Some(count) = connections.get_mut(&self.software) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connections.remove(&self.software);
            }
        }
    }
}

/// Counters of the network layer.
#[derive(Debug)]
pub struct NetworkMetrics {
    listeners: Mutex<Vec<ListenerMetrics>>,
    software: Arc<SoftwareCounts>,
    clients: prometheus::IntGauge,
    accepted: IntCounter,
    closed: IntCounterVec,
    /// Clients whose software has no row of its own.
    other_software: IntCounter,
    /// Times that a connection waited for memory for a request.
    pub memory_waits: IntCounter,
}

impl NetworkMetrics {
    pub(super) fn new(set: &CounterSet) -> Result<Self, Error> {
        Ok(Self {
            listeners: Mutex::default(),
            software: Arc::default(),
            clients: set.gauge("esker_client_connections", "Open connections of clients (max.connections)")?,
            accepted: set.counter("esker_connections_accepted_total", "Client connections accepted")?,
            closed: set.counters("esker_connections_closed_total", "Connections ended, by reason", &["reason"])?,
            other_software: set.counter(
                "esker_client_software_dropped_total",
                "Connections counted under the software \"other\": there are too many names and versions",
            )?,
            memory_waits: set.counter(
                "esker_request_memory_waits_total",
                "Times that a connection waited for memory for a request (queued.max.request.bytes)",
            )?,
        })
    }

    /// The counters of a listener.
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let mut listeners = self.listeners.lock();
        if let Some(known) = listeners.iter().find(|known| known.0.name == name) {
            return known.clone();
        }
        let new = ListenerMetrics(Arc::new(Listener { name: name.to_owned(), ..Listener::default() }));
        listeners.push(new.clone());
        new
    }

    /// What each listener has counted.
    pub fn listeners(&self) -> Vec<ListenerCounts> {
        self.listeners.lock().iter().map(ListenerMetrics::counts).collect()
    }

    /// A client has said what its software is.
    pub fn count_software(&self, name: &str, version: &str, listener: &str) -> CountedSoftware {
        let mut software = (name.to_owned(), version.to_owned(), listener.to_owned());
        let mut connections = self.software.connections.lock();
        if connections.len() >= MAX_SOFTWARE && !connections.contains_key(&software) {
            (software.0, software.1) = (OTHER.to_owned(), OTHER.to_owned());
            self.other_software.inc();
        }
        *connections.entry(software.clone()).or_default() += 1;
        drop(connections);
        CountedSoftware { counts: Arc::clone(&self.software), software }
    }

    /// Open connections by software name, version, and listener.
    pub fn software(&self) -> Vec<((String, String, String), u64)> {
        self.software.connections.lock().iter().map(|(software, count)| (software.clone(), *count)).collect()
    }

    /// An authentication failed.
    pub fn record_failed_authentication(&self, listener: &str) {
        self.listener(listener).0.failed_authentications.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection begins.
    pub fn record_open(&self) {
        self.clients.inc();
        self.accepted.inc();
    }

    /// A client's connection ended.
    pub fn record_close(&self) {
        self.clients.dec();
    }

    /// A connection ended for this reason.
    pub fn ended(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// Connections of clients that are open.
    pub fn open_connections(&self) -> usize {
        usize::try_from(self.clients.get()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> NetworkMetrics {
        NetworkMetrics::new(&CounterSet::default()).unwrap()
    }

    #[test]
    fn software_names_are_bounded_and_forgotten() {
        let metrics = metrics();
        let all: Vec<_> =
            (0..MAX_SOFTWARE + 5).map(|n| metrics.count_software(&format!("s{n}"), "1", "PLAINTEXT")).collect();
        let counts = metrics.software();
        assert_eq!(counts.len(), MAX_SOFTWARE + 1);
        let other = counts.iter().find(|((name, ..), _)| name == OTHER);
        assert_eq!(other.map(|(_, count)| *count), Some(5));
        assert_eq!(metrics.other_software.get(), 5);
        drop(all);
        assert!(metrics.software().is_empty());
    }

    #[test]
    fn a_listener_counts_what_its_connections_do() {
        let metrics = metrics();
        let listener = metrics.listener("PLAINTEXT");
        let open = listener.record_open();
        let other = metrics.listener("PLAINTEXT").record_open();
        drop(open);
        std::thread::scope(|scope| {
            scope.spawn(|| listener.record_received(10));
            scope.spawn(|| listener.record_sent(20, 3));
        });
        listener.record_blocked(Duration::from_millis(50));
        let counts = metrics.listeners().remove(0);
        assert_eq!((counts.created, counts.closed), (2, 1));
        assert_eq!((counts.received, counts.sent, counts.requests), (10, 20, 3));
        assert_eq!(counts.blocked, Duration::from_millis(50));
        drop(other);
    }
}
