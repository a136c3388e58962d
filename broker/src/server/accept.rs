//! Accepting: how many connections there may be, and one task for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::close::CloseReason;
use super::connection::Connection;
use super::scope::ServerScope;
use super::service::{ConnectionInfo, Service};
use crate::telemetry::Metrics;

/// Connections that are open, in all and from each address.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of_address: Mutex<HashMap<IpAddr, usize>>,
    refused: Mutex<Option<Instant>>,
}

impl Counts {
    fn admit<S>(&self, scope: &ServerScope<S>, ip: IpAddr) -> Result<(), CloseReason> {
        let mut open = self.of_address.lock();
        let total: usize = scope.metrics.network.open_connections();
        let (most, most_from_ip) = (scope.admission)();
        if total >= most {
            return Err(CloseReason::TooMany(" (max.connections)"));
        }
        let from_ip = open.entry(ip).or_default();
        if *from_ip >= most_from_ip {
            return Err(CloseReason::TooMany(" from this address (max.connections.per.ip)"));
        }
        *from_ip += 1;
        scope.metrics.network.record_open();
        Ok(())
    }

    /// Logs a refusal, at most one a second; the metric counts all.
    fn log_refusal(&self, peer: SocketAddr, reason: &CloseReason) {
        let mut last = self.refused.lock();
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            warn!(%peer, %reason, "connection refused");
        }
    }

    fn release(&self, metrics: &Metrics, ip: IpAddr) {
        let mut open = self.of_address.lock();
        if let Some(from_ip) = open.get_mut(&ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.remove(&ip);
            }
        }
        metrics.network.record_close();
    }
}

/// How long to wait when the system refuses to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn accept<S: Service>(
    scope: ServerScope<S>,
    name: Str,
    socket: TcpListener,
    stop: CancellationToken,
    tracker: TaskTracker,
    counts: Arc<Counts>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, listener = %name, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(reason) = counts.admit(&scope, peer.ip()) {
            scope.metrics.network.ended(reason.label());
            counts.log_refusal(peer, &reason);
            continue;
        }
        let info = Arc::new(ConnectionInfo::new(peer, name.clone()));
        let (scope, stop, counts) = (scope.clone(), stop.clone(), Arc::clone(&counts));
        tracker.spawn(async move {
            let reason = match AssertUnwindSafe(serve(scope.clone(), info, stream, stop)).catch_unwind().await {
                Ok(reason) => reason,
                Err(panic) => CloseReason::Panic(panic_text(panic.as_ref())),
            };
            counts.release(&scope.metrics, peer.ip());
            scope.metrics.network.ended(reason.label());
            if reason.is_fault() {
                error!(%peer, %reason, "connection closed; others go on");
            } else if reason.is_misuse() {
                warn!(%peer, %reason, "connection closed");
            } else {
                debug!(%peer, %reason, "connection closed");
            }
        });
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

async fn serve<S: Service>(
    scope: ServerScope<S>,
    info: Arc<ConnectionInfo>,
    stream: TcpStream,
    stop: CancellationToken,
) -> CloseReason {
    // Small answers must not wait for the acknowledgement of the last one.
    // A peer that vanished without a word must not be waited for for ever.
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_keepalive(true)) {
        return CloseReason::Io(error.kind());
    }
    if let Some(control) = &scope.control
        && is_control(&stream, control.first_key).await
    {
        let (node, scope) = (control.node.clone(), scope.clone());
        let moved = node.run_control(serve_control(scope, info, stream, stop)).await;
        return moved.unwrap_or(CloseReason::Stopping);
    }
    Connection::new(stream, &scope, info, stop).run().await
}

/// Serves a connection of the cluster's control, on the threads that it is moved to.
async fn serve_control<S: Service>(
    scope: ServerScope<S>,
    info: Arc<ConnectionInfo>,
    stream: TcpStream,
    stop: CancellationToken,
) -> CloseReason {
    match stream.into_std().and_then(TcpStream::from_std) {
        Ok(stream) => Connection::new(stream, &scope, info, stop).run().await,
        Err(error) => CloseReason::Io(error.kind()),
    }
}

/// How long a connection may take to show its first request before it is taken for a client's.
const FIRST_REQUEST: Duration = Duration::from_millis(50);

/// Whether the first request of a connection has this key. The bytes stay in the socket.
async fn is_control(stream: &TcpStream, key: i16) -> bool {
    let mut first = [0; 6];
    let peek = async {
        loop {
            match stream.peek(&mut first).await {
                Ok(6) => return true,
                Ok(0) | Err(_) => return false,
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let came = tokio::time::timeout(FIRST_REQUEST, peek).await.unwrap_or(false);
    let [_, _, _, _, high, low] = first;
    came && i16::from_be_bytes([high, low]) == key
}
