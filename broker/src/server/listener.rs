//! Binding and accepting.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::connection::Connection;
use super::{CloseReason, ConnectionInfo};
use crate::broker::Broker;
use crate::config::{Listener, SocketBuffers, connection_limits};

/// Why a listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; is another broker running there? Choose another address with --listen")]
pub struct BindError {
    /// The address asked for.
    pub address: String,
    /// The system's answer.
    #[source]
    pub source: std::io::Error,
}

/// Open listeners that do not accept yet.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<(Str, TcpListener, SocketAddr)>,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

impl Listeners {
    /// Opens all listeners. Needs a runtime.
    pub async fn bind(listeners: &[Listener], buffers: SocketBuffers) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        for listener in listeners {
            let failed = |source| BindError { address: format!("{}:{}", listener.host, listener.port), source };
            let host = if listener.host.is_empty() { "0.0.0.0" } else { &listener.host };
            let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
            let mut socket = None;
            for address in tokio::net::lookup_host((host, listener.port)).await.map_err(failed)? {
                match open(address, buffers) {
                    Ok(open) => {
                        socket = Some(open);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            let Some(socket) = socket else { return Err(failed(last)) };
            let address = socket.local_addr().map_err(failed)?;
            bound.push((listener.name.clone(), socket, address));
        }
        Ok(Self { bound })
    }

    /// Name and address of each listener, with the port that port 0 became.
    pub fn addresses(&self) -> impl Iterator<Item = (&Str, SocketAddr)> {
        self.bound.iter().map(|(name, _, address)| (name, *address))
    }

    /// Accepts until `stop`; the returned tracker is done when every connection has ended.
    pub fn serve(self, broker: &Arc<Broker>, stop: &CancellationToken) -> TaskTracker {
        let tracker = TaskTracker::new();
        let counts = Arc::new(Counts::default());
        for (name, socket, _) in self.bound {
            let accept = accept(Arc::clone(broker), name, socket, stop.clone(), tracker.clone(), Arc::clone(&counts));
            tracker.spawn(accept);
        }
        tracker.close();
        tracker
    }
}

/// Connections inherit the buffers, and the window that they offer when they are made must know its size by then.
fn open(address: SocketAddr, buffers: SocketBuffers) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = buffers.send {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = buffers.receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connections that are open, in all and from each address.
#[derive(Debug, Default)]
struct Counts {
    of_address: Mutex<HashMap<IpAddr, usize>>,
    refused: Mutex<Option<Instant>>,
}

impl Counts {
    fn enter(&self, broker: &Broker, ip: IpAddr) -> Result<(), CloseReason> {
        let mut open = self.of_address.lock();
        let total: usize = broker.metrics.network.open_connections();
        let (most, most_from_ip) =
            connection_limits(&broker.metadata.image(), broker.config.node_id, &broker.config.statics);
        if total >= most {
            return Err(CloseReason::TooMany(" (max.connections)"));
        }
        let from_ip = open.entry(ip).or_default();
        if *from_ip >= most_from_ip {
            return Err(CloseReason::TooMany(" from this address (max.connections.per.ip)"));
        }
        *from_ip += 1;
        broker.metrics.network.opened();
        Ok(())
    }

    /// Says so, but not for every one of a flood; the metric has them all.
    fn refused(&self, peer: SocketAddr, reason: &CloseReason) {
        let mut last = self.refused.lock();
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            warn!(%peer, %reason, "connection refused");
        }
    }

    fn leave(&self, broker: &Broker, ip: IpAddr) {
        let mut open = self.of_address.lock();
        if let Some(from_ip) = open.get_mut(&ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.remove(&ip);
            }
        }
        broker.metrics.network.closed();
    }
}

/// How long to wait when the system refuses to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn accept(
    broker: Arc<Broker>,
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
        if let Err(reason) = counts.enter(&broker, peer.ip()) {
            broker.metrics.network.ended(reason.label());
            counts.refused(peer, &reason);
            continue;
        }
        let info = Arc::new(ConnectionInfo { peer, listener: name.clone(), software: OnceLock::new() });
        let (broker, stop, counts) = (Arc::clone(&broker), stop.clone(), Arc::clone(&counts));
        tracker.spawn(async move {
            let reason = match AssertUnwindSafe(serve(Arc::clone(&broker), info, stream, stop)).catch_unwind().await {
                Ok(reason) => reason,
                Err(panic) => CloseReason::Panic(panic_text(panic.as_ref())),
            };
            counts.leave(&broker, peer.ip());
            broker.metrics.network.ended(reason.label());
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

async fn serve(
    broker: Arc<Broker>,
    info: Arc<ConnectionInfo>,
    stream: TcpStream,
    stop: CancellationToken,
) -> CloseReason {
    // Small answers must not wait for the acknowledgement of the last one.
    // A peer that vanished without a word must not be waited for for ever.
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_keepalive(true)) {
        return CloseReason::Io(error.kind());
    }
    Connection::new(stream, broker, info, stop).run().await
}
