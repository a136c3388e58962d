//! Binding: every listener is open before anything of the broker is changed.

use std::net::SocketAddr;
use std::sync::Arc;

use esker_protocol::primitives::Str;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::Acceptor;
use super::admission::Counts;
use super::scope::ServerScope;
use super::service::Service;
use crate::config::{Listener, SocketBuffers};

/// Why a listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; is another broker running there? Choose another address with --listen")]
pub struct BindError {
    /// The requested address.
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

    /// Accepts until `stop`; the returned tracker is done when every connection has ended. Clients are served on the runtime of the caller.
    pub fn serve<S: Service>(self, scope: &ServerScope<S>, stop: &CancellationToken) -> TaskTracker {
        let tracker = TaskTracker::new();
        let acceptor = Acceptor {
            scope: scope.clone(),
            stop: stop.clone(),
            tracker: tracker.clone(),
            counts: Arc::new(Counts::default()),
            clients: Handle::current(),
        };
        for (name, socket, _) in self.bound {
            scope.nodes.node.spawn_control(tracker.track_future(acceptor.clone().accept(name, socket)));
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
