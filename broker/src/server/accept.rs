//! Accepting: how many connections there may be, and one task for each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
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
        let info = Arc::new(ConnectionInfo { peer, listener: name.clone(), software: OnceLock::new() });
        let (scope, stop, counts) = (scope.clone(), stop.clone(), Arc::clone(&counts));
        tracker.spawn(async move {
            let reason = match AssertUnwindSafe(serve(&scope, info, stream, stop)).catch_unwind().await {
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
    scope: &ServerScope<S>,
    info: Arc<ConnectionInfo>,
    stream: TcpStream,
    stop: CancellationToken,
) -> CloseReason {
    // Small answers must not wait for the acknowledgement of the last one.
    // A peer that vanished without a word must not be waited for for ever.
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_keepalive(true)) {
        return CloseReason::Io(error.kind());
    }
    Connection::new(stream, scope, info, stop).run().await
}
