//! A broker without sockets: the caller supplies the connections, the disk and the environment. A simulation starts its brokers so.
//!
//! It is [`super::start`] without HTTP and without listeners. Must never: leave out a step that decides what clients see.

use std::net::SocketAddr;
use std::sync::Arc;

use esker_protocol::primitives::Str;
use esker_storage::Folder;
use esker_storage::io::Disk;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::ServeError;
use super::parts::open_logs;
use super::startup::Startup;
use crate::broker::Broker;
use crate::handlers::NodeService;
use crate::metadata_dir::MetadataDir;
use crate::node::Node;
use crate::server::{CloseReason, ConnectionInfo, ServerScope, Transport};

/// Where connections come in. It serves other nodes from the first moment on, and clients once the broker is ready.
#[derive(Clone)]
pub struct Entrance {
    scope: ServerScope<NodeService>,
    listener: Str,
    stop: CancellationToken,
}

impl Entrance {
    /// Serves one connection until it ends.
    pub fn serve(
        &self,
        transport: impl Transport,
        peer: SocketAddr,
    ) -> impl Future<Output = CloseReason> + Send + 'static {
        let info = Arc::new(ConnectionInfo::new(peer, self.listener.clone()));
        self.scope.serve_connection(transport, info, self.stop.clone())
    }
}

/// A broker that is about to start.
pub struct Starting {
    node: Node,
    disk: Arc<dyn Disk>,
    dir: MetadataDir,
    startup: Startup,
    entrance: Entrance,
    stop: CancellationToken,
    stop_on_drop: DropGuard,
}

impl Starting {
    /// A broker with time, randomness, threads and connections of `node`, over `disk`.
    pub fn new(node: Node, disk: Arc<dyn Disk>) -> Result<Self, ServeError> {
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let dir = MetadataDir::find(disk.as_ref(), node.config())?;
        let startup = Startup::new(&node, disk.as_ref(), &dir, &Arc::default())?;
        let entrance =
            Entrance { scope: startup.scope().clone(), listener: Str::from("PLAINTEXT"), stop: stop.clone() };
        Ok(Self { node, disk, dir, startup, entrance, stop, stop_on_drop })
    }

    /// Where connections come in.
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Starts it; `advertised` is the address in its registration.
    pub async fn run(self, advertised: SocketAddr) -> Result<Embedded, ServeError> {
        let Self { node, disk, dir, startup, entrance, stop, stop_on_drop } = self;
        let addresses = vec![(entrance.listener.clone(), advertised)];
        let (node, place) = startup.find_place(node, disk.as_ref(), &dir).await?;
        let logs = open_logs(Arc::clone(&disk), &node, place.cluster_id.clone(), &Arc::default()).await?;
        let (joined, metadata_folder) = startup.enter(&node, disk, &dir, &logs, (place, &addresses)).await?;
        let (broker, joined) = startup.start_broker(&node, joined, logs, &stop).await?;
        startup.serve_clients(&broker, &joined).await?;
        Ok(Embedded { broker, entrance, _stop_on_drop: stop_on_drop, _metadata_folder: metadata_folder })
    }
}

/// See the module. Its background tasks end with it.
pub struct Embedded {
    /// The broker.
    pub broker: Arc<Broker>,
    entrance: Entrance,
    _stop_on_drop: DropGuard,
    _metadata_folder: Option<Folder>,
}

impl Embedded {
    /// Starts a broker that no other node has to reach meanwhile.
    pub async fn start(node: Node, disk: Arc<dyn Disk>, advertised: SocketAddr) -> Result<Self, ServeError> {
        Starting::new(node, disk)?.run(advertised).await
    }

    /// Serves one connection until it ends.
    pub fn serve(
        &self,
        transport: impl Transport,
        peer: SocketAddr,
    ) -> impl Future<Output = CloseReason> + Send + 'static {
        self.entrance.serve(transport, peer)
    }
}
