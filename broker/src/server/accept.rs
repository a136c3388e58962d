//! Accepting: each connection is one task, on the threads that serve its kind.
//!
//! Accepting, and finding out from the first bytes whose a connection is, is work of the cluster's control: a node that connects waits for no client.
//! What turns out to be a client's, or carries records, moves on to the clients' threads. The bytes that were read go with it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::api::ApiKey;
use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::admission::{Admitted, Counts};
use super::close::CloseReason;
use super::connection::Connection;
use super::memory::RequestMemory;
use super::scope::{PeerLimits, ServerScope};
use super::service::{ConnectionInfo, Service};
use crate::telemetry::RepeatLimiter;

/// How long to wait when the system refuses to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After so many connections other tasks of the thread have their turn.
const ACCEPT_TURN: usize = 16;
/// How long a connection of a node may go on without a proof of who it is: a request to join is answered by then.
const UNPROVEN_TIME: Duration = Duration::from_secs(20);

/// What accepts connections for one service.
pub(super) struct Acceptor<S> {
    pub(super) scope: ServerScope<S>,
    pub(super) stop: CancellationToken,
    pub(super) tracker: TaskTracker,
    pub(super) counts: Arc<Counts>,
    /// The threads that clients are served on.
    pub(super) clients: Handle,
}

impl<S> Clone for Acceptor<S> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            stop: self.stop.clone(),
            tracker: self.tracker.clone(),
            counts: Arc::clone(&self.counts),
            clients: self.clients.clone(),
        }
    }
}

/// A connection of which little is known.
struct Accepted {
    stream: TcpStream,
    info: Arc<ConnectionInfo>,
    admitted: Admitted,
}

/// The first bytes of a connection: as many as say which API its first request is of.
#[derive(Debug, Default)]
struct FirstBytes {
    bytes: [u8; 6],
    len: usize,
}

impl FirstBytes {
    fn read(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The API of the first request, if it is one between nodes; `None` if that is still open.
    fn peer_api(&self, limits: &PeerLimits) -> Option<Option<ApiKey>> {
        let [a, b, c, d, key @ ..] = self.bytes;
        if self.len < 4 {
            return None;
        }
        let size = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or_default();
        if !(2..=limits.unproven).contains(&size) {
            return Some(None);
        }
        let key = i16::from_be_bytes(key);
        (self.len == self.bytes.len()).then_some((key >= limits.first_key).then_some(ApiKey(key)))
    }

    /// Reads until it is known whose the connection is, or to its end.
    async fn fill(&mut self, stream: &TcpStream, limits: &PeerLimits) -> std::io::Result<Option<ApiKey>> {
        loop {
            if let Some(api) = self.peer_api(limits) {
                return Ok(api);
            }
            stream.readable().await?;
            let Some(rest) = self.bytes.get_mut(self.len..) else { return Ok(None) };
            match stream.try_read(rest) {
                Ok(0) => return Ok(None),
                Ok(bytes) => self.len += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S: Service> Acceptor<S> {
    /// Accepts until the stop. Runs on the threads of the cluster's control.
    pub(super) async fn accept(self, name: Str, socket: TcpListener) {
        // New connections wake this thread from here on.
        let socket = match socket.into_std().and_then(TcpListener::from_std) {
            Ok(socket) => socket,
            Err(error) => return error!(%error, listener = %name, "no connections can be accepted: restart the broker"),
        };
        let (listener, refusals) = (self.scope.metrics.network.listener(&name), RepeatLimiter::default());
        for turn in 1_usize.. {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(left_out) = refusals.admit(&error.to_string(), Instant::now()) {
                        let left_out = left_out.field();
                        warn!(%error, listener = %name, left_out, "cannot accept a connection; out of descriptors? See ulimit -n");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    listener.record_blocked(ACCEPT_PAUSE);
                    continue;
                }
            };
            let admitted = self.counts.admit(&self.scope, peer.ip());
            let info = Arc::new(ConnectionInfo::new(peer, name.clone()));
            self.tracker.spawn(self.clone().begin(Accepted { stream, info, admitted }));
            if turn.is_multiple_of(ACCEPT_TURN) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Finds out whose a connection is, and has it served.
    async fn begin(self, mut accepted: Accepted) {
        let mut first = FirstBytes::default();
        let api = match self.read_first(&mut accepted, &mut first).await {
            Ok(api) => api,
            Err(reason) => return self.report_end(&accepted.info, &reason),
        };
        let nodes = &self.scope.nodes;
        match api {
            Some(ApiKey(key)) if key == nodes.control_key => {
                let memory = Arc::clone(&nodes.control_memory);
                self.run(accepted, first, memory, true).await;
            }
            api => {
                let memory = Arc::clone(if api.is_some() { &nodes.data_memory } else { &self.scope.memory });
                let (tracker, clients) = (self.tracker.clone(), self.clients.clone());
                tracker.spawn_on(self.run(accepted, first, memory, api.is_some()), &clients);
            }
        }
    }

    /// The API of the first request, if it is one between nodes.
    async fn read_first(&self, accepted: &mut Accepted, first: &mut FirstBytes) -> Result<Option<ApiKey>, CloseReason> {
        let failed = |error: std::io::Error| CloseReason::Io(error.kind());
        let (stream, limits) = (&accepted.stream, &self.scope.limits);
        // Small answers must not wait for the acknowledgement of the last one.
        // A peer that vanished without a word must not be waited for for ever.
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_keepalive(true)).map_err(failed)?;
        let refusal = accepted.admitted.client_refusal();
        let (patience, late) = match &refusal {
            Some(reason) => (Some(limits.patience.first_request), reason.clone()),
            None => (limits.max_idle, CloseReason::Idle),
        };
        let elapsed = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let api = tokio::select! {
            biased;
            api = first.fill(stream, &limits.peers) => api.map_err(failed)?,
            () = self.stop.cancelled() => return Err(CloseReason::Stopping),
            () = accepted.admitted.evicted() => return Err(late),
            () = elapsed => return Err(late),
        };
        match (api, refusal) {
            (None, Some(reason)) => Err(reason),
            (None, None) => Ok(None),
            (Some(api), _) => {
                accepted.admitted.leave_clients();
                Ok(Some(api))
            }
        }
    }

    /// Serves a connection to its end, on the threads that this runs on.
    async fn run(self, mut accepted: Accepted, first: FirstBytes, memory: Arc<RequestMemory>, of_node: bool) {
        let (info, admitted) = (accepted.info, &mut accepted.admitted);
        let stream = match accepted.stream.into_std().and_then(TcpStream::from_std) {
            Ok(stream) => stream,
            Err(error) => return self.report_end(&info, &CloseReason::Io(error.kind())),
        };
        let connection = Connection::new(stream, &self.scope, memory, Arc::clone(&info), self.stop.clone());
        let serving = connection.begin_with(first.read()).run();
        let served = async {
            match of_node {
                true => serve_node(serving, &info, admitted).await,
                false => serving.await,
            }
        };
        let reason = match AssertUnwindSafe(served).catch_unwind().await {
            Ok(reason) => reason,
            Err(panic) => CloseReason::Panic(panic_text(panic.as_ref())),
        };
        drop(accepted.admitted);
        self.report_end(&info, &reason);
    }

    fn report_end(&self, info: &ConnectionInfo, reason: &CloseReason) {
        let peer = info.peer;
        self.scope.metrics.network.ended(reason.label());
        if matches!(reason, CloseReason::TooMany(_)) {
            self.counts.log_refusal(peer, reason);
        } else if reason.is_fault() {
            error!(%peer, %reason, "connection closed; others go on");
        } else if reason.is_misuse() {
            self.counts.log_misuse(peer, reason);
        } else {
            debug!(%peer, %reason, "connection closed");
        }
    }
}

/// Serves a connection whose first request is one between nodes. It must prove in time whose it is.
async fn serve_node(
    serving: impl Future<Output = CloseReason>,
    info: &ConnectionInfo,
    admitted: &mut Admitted,
) -> CloseReason {
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        reason = serving.as_mut() => return reason,
        () = info.proof() => {}
        () = admitted.evicted() => return CloseReason::TooMany(" that have not proved to be a node's"),
        () = tokio::time::sleep(UNPROVEN_TIME) => return CloseReason::NoProof,
    }
    match admitted.prove_node() {
        Ok(()) => serving.await,
        Err(reason) => reason,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PeerLimits = PeerLimits { first_key: 32000, unproven: 1000, proven: |_| usize::MAX };

    #[test]
    fn the_first_bytes_say_whose_a_connection_is() {
        let key = |key: i16| [&[0, 0, 0, 50][..], &key.to_be_bytes()].concat();
        let cases: [(&[u8], Option<Option<ApiKey>>); 10] = [
            (&[], None),
            (&[0, 0, 0], None),
            (&[0, 0, 0, 50], None),
            (&[0, 0, 0, 50, 0x7d], None),
            (&key(32001), Some(Some(ApiKey(32001)))),
            (&key(31999), Some(None)),
            (&key(-1), Some(None)),
            // Too short for an API, too long for a hello, no size at all: the connection says what is wrong.
            (&[0, 0, 0, 1], Some(None)),
            (&[0, 0, 3, 0xe9], Some(None)),
            (&[0xff, 0, 0, 0], Some(None)),
        ];
        for (bytes, expected) in cases {
            let mut first = FirstBytes { len: bytes.len(), ..FirstBytes::default() };
            first.bytes[..bytes.len()].copy_from_slice(bytes);
            assert_eq!(first.peer_api(&LIMITS), expected, "{bytes:?}");
            assert_eq!(first.read(), bytes);
        }
    }
}
