//! How many connections there may be. Clients' are counted in all and by address (`max.connections`, `max.connections.per.ip`, and what the
//! descriptors of this process allow), those of nodes apart: a flood of clients must not cut a node off from its cluster.
//!
//! Nobody knows whose a connection is before its first request. One that finds no place among the clients, and one that says it is a node's,
//! is unproven: there are few of them, and one more ends the oldest. A node proves who it is within one round trip, so a flood would have to
//! be faster than that.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::close::CloseReason;
use super::scope::ServerScope;
use crate::telemetry::{Metrics, RepeatLimiter};

/// Connections that are no client's and not proven to be a node's.
const UNPROVEN: usize = 64;
/// Connections of proven nodes: a node has about ten to each other.
const NODES: usize = 4096;

/// Connections that are open.
#[derive(Debug, Default)]
pub(super) struct Counts {
    state: Mutex<State>,
    refused: Mutex<Option<Instant>>,
    misused: RepeatLimiter,
}

#[derive(Debug, Default)]
struct State {
    /// Clients', and those that may be.
    of_address: HashMap<IpAddr, usize>,
    /// By number; the token ends the connection.
    unproven: VecDeque<(u64, CancellationToken)>,
    next: u64,
    nodes: usize,
}

#[derive(Debug)]
enum Place {
    /// Among the clients.
    Client,
    /// Among the unproven; with the reason why it may not be a client's.
    Unproven(u64, CancellationToken, Option<CloseReason>),
    /// Among the nodes.
    Node,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    counts: Arc<Counts>,
    metrics: Arc<Metrics>,
    ip: IpAddr,
    place: Place,
}

impl Counts {
    /// A place for a new connection: among the clients if there is room.
    pub(super) fn admit<S>(self: &Arc<Self>, scope: &ServerScope<S>, ip: IpAddr) -> Admitted {
        let place = match self.admit_client(scope, ip) {
            Ok(()) => Place::Client,
            Err(reason) => self.state.lock().add_unproven(Some(reason)),
        };
        Admitted { counts: Arc::clone(self), metrics: Arc::clone(&scope.metrics), ip, place }
    }

    fn admit_client<S>(&self, scope: &ServerScope<S>, ip: IpAddr) -> Result<(), CloseReason> {
        let mut state = self.state.lock();
        let total: usize = scope.metrics.network.open_connections();
        let (most, most_from_ip) = (scope.admission)();
        if total >= most {
            return Err(CloseReason::TooMany(" (max.connections)"));
        }
        if total >= scope.limits.clients {
            return Err(CloseReason::TooMany(" for the file descriptors of this process; see ulimit -n"));
        }
        let from_ip = state.of_address.entry(ip).or_default();
        if *from_ip >= most_from_ip {
            return Err(CloseReason::TooMany(" from this address (max.connections.per.ip)"));
        }
        *from_ip += 1;
        scope.metrics.network.record_open();
        Ok(())
    }

    /// Logs a refusal, at most one a second; the metric counts all.
    pub(super) fn log_refusal(&self, peer: SocketAddr, reason: &CloseReason) {
        let mut last = self.refused.lock();
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            warn!(%peer, %reason, "connection refused");
        }
    }

    /// Logs that a client ended its connection by what it sent: the same of an address once a minute; the metric counts all.
    pub(super) fn log_misuse(&self, peer: SocketAddr, reason: &CloseReason) {
        let kind = format!("{} {}", peer.ip(), reason.label());
        if let Some(left_out) = self.misused.admit(&kind, Instant::now()) {
            warn!(%peer, %reason, left_out = left_out.field(), "connection closed");
        }
    }
}

impl State {
    fn add_unproven(&mut self, refusal: Option<CloseReason>) -> Place {
        let (number, evicted) = (self.next, CancellationToken::new());
        self.next += 1;
        self.unproven.push_back((number, evicted.clone()));
        if self.unproven.len() > UNPROVEN
            && let Some((_, oldest)) = self.unproven.pop_front()
        {
            oldest.cancel();
        }
        Place::Unproven(number, evicted, refusal)
    }

    fn remove_unproven(&mut self, number: u64) {
        self.unproven.retain(|(other, _)| *other != number);
    }

    fn remove_client(&mut self, metrics: &Metrics, ip: IpAddr) {
        if let Some(from_ip) = self.of_address.get_mut(&ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                self.of_address.remove(&ip);
            }
        }
        metrics.network.record_close();
    }
}

impl Admitted {
    /// Why the connection may not be a client's, if that is so.
    pub(super) fn client_refusal(&self) -> Option<CloseReason> {
        match &self.place {
            Place::Unproven(_, _, refusal) => refusal.clone(),
            Place::Client | Place::Node => None,
        }
    }

    /// The connection says that it is a node's.
    pub(super) fn leave_clients(&mut self) {
        if matches!(self.place, Place::Client) {
            let mut state = self.counts.state.lock();
            state.remove_client(&self.metrics, self.ip);
            self.place = state.add_unproven(None);
        }
    }

    /// The connection has proved to be a node's.
    pub(super) fn prove_node(&mut self) -> Result<(), CloseReason> {
        let Place::Unproven(number, ..) = self.place else { return Ok(()) };
        let mut state = self.counts.state.lock();
        if state.nodes >= NODES {
            return Err(CloseReason::TooMany(" of nodes"));
        }
        state.nodes += 1;
        state.remove_unproven(number);
        self.place = Place::Node;
        Ok(())
    }

    /// Ready when another connection takes this unproven one's place.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + 'static {
        let token = match &self.place {
            Place::Unproven(_, evicted, _) => Some(evicted.clone()),
            Place::Client | Place::Node => None,
        };
        async move {
            match token {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.counts.state.lock();
        match &self.place {
            Place::Client => state.remove_client(&self.metrics, self.ip),
            Place::Unproven(number, ..) => state.remove_unproven(*number),
            Place::Node => state.nodes = state.nodes.saturating_sub(1),
        }
    }
}
