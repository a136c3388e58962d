//! A broker without sockets: the caller supplies the connections, the disk and the environment. A simulation starts its brokers so.
//!
//! It is [`super::start`] without HTTP and without listeners. Must never: leave out a step that decides what clients see.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use esker_protocol::primitives::Str;
use esker_storage::Folder;
use esker_storage::io::Disk;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ServeError, build_broker, client_scope, open_logs, open_partitions, register, start_metadata, start_tasks,
    wait_until_durable,
};
use crate::broker::Broker;
use crate::handlers::ClientService;
use crate::metadata_dir::MetadataDir;
use crate::node::Node;
use crate::server::{CloseReason, ConnectionInfo, ServerScope, Transport};

/// See the module. Its background tasks end with it.
pub struct Embedded {
    /// The broker.
    pub broker: Arc<Broker>,
    scope: ServerScope<ClientService>,
    listener: Str,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    _metadata_folder: Option<Folder>,
}

impl Embedded {
    /// Starts a broker with time, randomness and threads of `node`, over `disk`. `advertised` is the address in its registration.
    pub async fn start(node: Node, disk: Arc<dyn Disk>, advertised: SocketAddr) -> Result<Self, ServeError> {
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let metadata_dir = MetadataDir::find(disk.as_ref(), node.config())?;
        let logs =
            open_logs(Arc::clone(&disk), &node, metadata_dir.cluster_id(disk.as_ref())?, &Arc::default()).await?;
        let (metadata, metadata_folder) = start_metadata(&node, disk, &metadata_dir, &logs).await?;
        let listener = Str::from("PLAINTEXT");
        register(&node, &metadata, &[(listener.clone(), advertised)], &logs).await?;
        let (broker, changes) = build_broker(&node, metadata, logs)?;
        open_partitions(&broker).await?;
        start_tasks(&broker, changes, &stop);
        wait_until_durable(&broker).await;
        let scope = client_scope(&broker);
        Ok(Self { broker, scope, listener, stop, _stop_on_drop: stop_on_drop, _metadata_folder: metadata_folder })
    }

    /// Serves one client connection until it ends.
    pub fn serve(
        &self,
        transport: impl Transport,
        peer: SocketAddr,
    ) -> impl Future<Output = CloseReason> + Send + 'static {
        let info = Arc::new(ConnectionInfo { peer, listener: self.listener.clone(), software: OnceLock::new() });
        self.scope.serve_connection(transport, info, self.stop.clone())
    }
}
