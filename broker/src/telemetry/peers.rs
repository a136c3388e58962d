//! Requests to other nodes: how many, how large, how long a round trip takes.
//!
//! A node has as many rows as it has met nodes, which the cluster bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::durations::Durations;
use super::page::{Kind, Page};

/// Counters of the requests to one node.
#[derive(Debug)]
pub struct PeerMetrics {
    round_trips: Durations,
    requests: AtomicU64,
    failures: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl PeerMetrics {
    fn new(now: Instant) -> Self {
        let [requests, failures, sent, received] = [0; 4].map(AtomicU64::new);
        Self { round_trips: Durations::new(now), requests, failures, sent, received }
    }

    /// A request that the node answers at once was answered after so long.
    pub fn record_round_trip(&self, took: Duration) {
        self.round_trips.record(took, Instant::now());
    }

    /// A request ended, with an answer or without.
    pub fn record_request(&self, answered: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!answered), Ordering::Relaxed);
    }

    /// Bytes went out.
    pub fn record_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub fn record_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counters by node.
#[derive(Debug, Default)]
pub struct PeersMetrics(Mutex<BTreeMap<i32, Arc<PeerMetrics>>>);

impl PeersMetrics {
    /// The counters of a node.
    pub fn of(&self, node_id: i32) -> Arc<PeerMetrics> {
        let mut peers = self.0.lock();
        Arc::clone(peers.entry(node_id).or_insert_with(|| Arc::new(PeerMetrics::new(Instant::now()))))
    }

    /// Writes all of them.
    pub fn write(&self, page: &mut Page, now: Instant) {
        let peers: Vec<(String, Arc<PeerMetrics>)> =
            self.0.lock().iter().map(|(id, peer)| (id.to_string(), Arc::clone(peer))).collect();
        let help = "Round trips of heartbeats, votes and appends to the metadata log to another node, ms";
        let mut rows = page.family("esker_peer_round_trip_ms", Kind::Summary, &["node"], help);
        for (id, peer) in &peers {
            peer.round_trips.write_summary(&mut rows, &[id], now);
        }
        drop(rows);
        type Row = (&'static str, &'static str, fn(&PeerMetrics) -> &AtomicU64);
        let counters: [Row; 4] = [
            ("requests", "Requests to another node", |peer| &peer.requests),
            ("request_failures", "Requests to another node without an answer", |peer| &peer.failures),
            ("sent_bytes", "Bytes sent on connections to another node", |peer| &peer.sent),
            ("received_bytes", "Bytes received on connections to another node", |peer| &peer.received),
        ];
        for (name, help, counter) in counters {
            let mut rows = page.family(&format!("esker_peer_{name}_total"), Kind::Counter, &["node"], help);
            for (id, peer) in &peers {
                rows.add(&[id], counter(peer).load(Ordering::Relaxed));
            }
        }
    }
}
