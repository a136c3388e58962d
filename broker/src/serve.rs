//! Starting and stopping a broker.
//!
//! Order of the start: configuration, HTTP (it reports the progress of recovery), data folder (lock, recovery), listeners (so that
//! a port in use is found before anything is changed), metadata log, partitions, coordinators, and only then the first
//! connection is accepted. [`embedded`] starts the same broker without sockets.

pub mod embedded;
mod error;
mod joined;
mod parts;
mod register;
mod startup;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::ShutDownBroker;
use esker_protocol::primitives::Str;
use esker_storage::Folder;
use esker_storage::io::{Disk, OsDisk};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::broker::Broker;
use crate::config::{BrokerConfig, Listener};
use crate::controller::{Committed, submit};
use crate::http::{self, Access, HttpError, Served};
use crate::metadata_dir::MetadataDir;
use crate::node::{Machine, Node};
use crate::server::Listeners;
use crate::system_limits::limit_open_segments;
use crate::task::spawn;
pub use error::ServeError;
use parts::open_logs;
use register::Addresses;
use startup::Startup;

/// A running broker.
#[derive(Debug)]
pub struct Running {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where the first listener listens.
    pub kafka: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    served: Arc<Served>,
    stop: CancellationToken,
    connections: TaskTracker,
    disk: Arc<dyn Disk>,
    metadata_dir: MetadataDir,
    /// The lock of a `metadata.log.dir` of its own.
    _metadata_folder: Option<Folder>,
}

/// How long connections may take to finish what they are at.
const GRACE: Duration = Duration::from_secs(5);
/// How long other brokers may take to take over what this one leads.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long a broker that leads nothing any more still tells clients who does.
const LINGER: Duration = Duration::from_millis(100);

/// Starts a broker; it serves when this returns.
pub async fn start(config: BrokerConfig) -> Result<Running, ServeError> {
    start_on(Arc::new(OsDisk), config).await
}

/// As [`start`], with the logs and the metadata log on another file system.
pub(crate) async fn start_on(disk: Arc<dyn Disk>, config: BrokerConfig) -> Result<Running, ServeError> {
    start_in(Node::new(config, Arc::new(Machine::default())), disk).await
}

/// As [`start`], with time, randomness and threads of `node`, and everything that is kept on `disk`.
pub(crate) async fn start_in(node: Node, disk: Arc<dyn Disk>) -> Result<Running, ServeError> {
    let stop = CancellationToken::new();
    let stop_on_error = stop.clone().drop_guard();
    let served = Arc::new(Served::default());
    let http_bound = serve_http(&node, &served, &stop).await;
    let metadata_dir = MetadataDir::find(disk.as_ref(), node.config())?;
    let startup = Startup::new(&node, disk.as_ref(), &metadata_dir, &served.progress)?;
    let listening = listen(&node, &startup, &stop).await;
    // A node that forms a cluster, or joins one, must be reached meanwhile. For another a folder in use is a better reason than a port.
    let joins = !node.config().join.is_empty();
    let (listening, bound) = match listening {
        Err(error) if joins => return Err(error),
        Err(error) => ((Addresses::new(), TaskTracker::new()), Err(error)),
        Ok(listening) => (listening, Ok(())),
    };
    let (addresses, connections) = listening;
    if let Some((_, address)) = addresses.first() {
        served.set_kafka(*address);
    }
    let (node, place) = startup.find_place(node, disk.as_ref(), &metadata_dir).await?;
    let logs = open_logs(Arc::clone(&disk), &node, place.cluster_id.clone(), &served.loading).await?;
    logs.limit_open_segments(limit_open_segments(node.config().open_files_max));
    let http = http_bound?;
    bound?;
    let kafka = addresses.first().map_or(http, |(_, address)| *address);
    let (joined, metadata_folder) =
        startup.enter(&node, Arc::clone(&disk), &metadata_dir, &logs, (place, &addresses)).await?;
    let (broker, joined) = startup.start_broker(&node, joined, logs, &stop).await?;
    let _ = served.broker.set(Arc::clone(&broker));
    broker.node.spawn_control(Arc::clone(&broker.metrics.stalls).watch(Handle::current()));
    startup.serve_clients(&broker, &joined).await?;
    stop_on_error.disarm();
    Ok(Running {
        broker,
        kafka,
        http,
        served,
        stop,
        connections,
        disk,
        metadata_dir,
        _metadata_folder: metadata_folder,
    })
}

/// Opens the listeners. Other nodes are served from here on, clients once the broker is ready.
async fn listen(
    node: &Node,
    startup: &Startup,
    stop: &CancellationToken,
) -> Result<(Addresses, TaskTracker), ServeError> {
    let config = node.config();
    let all: Vec<Listener> = config.listeners.iter().chain(&config.controllers).cloned().collect();
    let listeners = Listeners::bind(&all, config.socket_buffers).await?;
    let for_clients = |name: &Str| config.listeners.iter().any(|listener| listener.name == *name);
    let addresses = listeners.addresses().filter(|(name, _)| for_clients(name));
    let addresses: Addresses = addresses.map(|(name, address)| (name.clone(), address)).collect();
    Ok((addresses, listeners.serve(startup.scope(), stop)))
}

/// HTTP answers from the first moment on, so that health checks see how far a start is.
async fn serve_http(node: &Node, served: &Arc<Served>, stop: &CancellationToken) -> Result<SocketAddr, HttpError> {
    let (listener, address) = http::bind(&node.config().http_listen).await?;
    let access = Access::new(address, node.config().http_changes);
    spawn(http::serve(listener, Arc::clone(served), access, stop.clone()));
    Ok(address)
}

impl Running {
    /// Stops: no more connections, what is under way ends, everything is written and marked clean.
    pub async fn stop(self) -> Result<(), esker_storage::LogError> {
        self.served.begin_stop();
        hand_over(&self.broker).await;
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.connections.wait()).await.is_err() {
            error!("some connections did not end in time");
        }
        self.broker.metadata.shutdown().await;
        let logs = Arc::clone(self.broker.replicas.logs());
        let alone = !has_others(&self.broker);
        let epoch = Some(self.broker.session.epoch()).filter(|_| !alone);
        let stopped = self.broker.node.run_blocking(move || {
            logs.shutdown_clean()?;
            if let Some(epoch) = epoch
                && let Err(error) = self.metadata_dir.record_clean_epoch(self.disk.as_ref(), epoch)
            {
                tracing::warn!(%error, "the controller will take this stop for a crash");
            }
            Ok(())
        });
        let stopped = stopped.await;
        info!("stopped");
        stopped.unwrap_or(Ok(()))
    }
}

/// Whether the cluster has other nodes: members of the metadata quorum, or brokers that pull its log.
fn has_others(broker: &Broker) -> bool {
    !broker.metadata.quorum().borrow().is_only_member()
        || broker.metadata.image().brokers().any(|other| other.node_id != broker.node_id)
}

/// Controlled shutdown: others take this broker's leaderships, and the one of the metadata quorum, while it still serves.
async fn hand_over(broker: &Broker) {
    if !has_others(broker) {
        return;
    }
    let deadline = Instant::now() + HAND_OVER;
    let (node_id, epoch, configs) = (broker.node_id, broker.session.epoch(), broker.node_configs());
    let ask = ShutDownBroker { node_id, epoch, configs };
    match submit(broker.controller.as_ref(), ask, deadline).await {
        Ok(Committed { reply: Ok(leaderless), offset, .. }) => {
            if leaderless > 0 {
                tracing::warn!(
                    leaderless,
                    "partitions have no other replica that may lead: they are offline until this broker is back"
                );
            }
            // Clients find the new leaders before the connections end.
            broker.replicas.wait_applied(offset, deadline).await;
            tokio::time::sleep(LINGER).await;
        }
        Ok(Committed { reply: Err(refusal), .. }) => {
            tracing::warn!(why = %refusal.message, "leaderships are not handed over")
        }
        Err(error) => tracing::warn!(%error, "leaderships are not handed over"),
    }
    if !broker.metadata.hand_over(deadline).await {
        tracing::warn!("the metadata quorum elects another leader after this one has stopped");
    }
}
