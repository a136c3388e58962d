//! A node on its way into service. Other nodes are served from the first moment on; clients once the broker is ready.
//!
//! The order: who this node is (`cluster::find_place`), its log dirs, its seat in the metadata quorum, its registration, its partitions, and
//! then the controller lifts the fence.

use std::sync::{Arc, OnceLock};

use esker_core::controller::overridden_min_isr;
use esker_core::health::StartStep;
use esker_protocol::Request;
use esker_protocol::primitives::Str;
use esker_storage::io::Disk;
use esker_storage::{Folder, LogManager};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::error::ServeError;
use super::joined::{Joined, Shared};
use super::parts::{build_broker, open_partitions, start_tasks, wait_until_durable};
use super::register::{Addresses, advertised, registration};
use crate::broker::Broker;
use crate::cluster::{
    BrokerLinks, Controller, ControllerProposer, DirectoryReports, Place, PlaceError, RoutedController, find_place,
    peer_address, run_balance, run_fencer, run_growth, run_heartbeats, run_voters, take_seat,
};
use crate::config::connection_limits;
use crate::controller::SubmitError;
use crate::handlers::{ClientService, NodeService, PEER_LIMITS, PeerService, fetch_of_followers, served_apis};
use crate::metadata_dir::MetadataDir;
use crate::node::Node;
use crate::peer::LocalNode;
use crate::peer::messages::HelloRequest;
use crate::raft::{self, Begin, Metadata, RaftId, Seat};
use crate::replica::{FollowerFetchers, IsrManager};
use crate::server::{Admission, ConnectionLimits, NodeLanes, Patience, RequestMemory, ServerScope};
use crate::session::BrokerSession;
use crate::start_progress::StartProgress;
use crate::system_limits::{limit_connections, request_bytes};
use crate::task::spawn_until;
use crate::telemetry::Metrics;

/// What requests of other controllers may take: votes, heartbeats, entries of the metadata log.
const CONTROL_MEMORY: u64 = 256 << 20;
/// What other requests of nodes may take: fetches of followers, pieces of snapshots, requests to the active controller.
const DATA_MEMORY: u64 = 256 << 20;

/// See the module.
pub(super) struct Startup {
    local: Arc<LocalNode>,
    service: Arc<NodeService>,
    shared: Shared,
    /// Where the limits of connections are read, once it is there.
    metadata: Arc<OnceLock<Arc<Metadata>>>,
    scope: ServerScope<NodeService>,
    progress: Arc<StartProgress>,
}

impl Startup {
    /// A node of which nothing is started.
    pub(super) fn new(
        node: &Node,
        disk: &dyn Disk,
        dir: &MetadataDir,
        progress: &Arc<StartProgress>,
    ) -> Result<Self, ServeError> {
        let config = node.config();
        let directory = dir.directory(disk)?.unwrap_or_else(|| node.random_id());
        let local = Arc::new(LocalNode::new(node.random_id(), config.join.clone(), directory));
        let for_nodes = config.controllers.iter().map(|listener| listener.name.clone()).collect();
        let service = Arc::new(NodeService::new(PeerService::new(Arc::clone(&local)), for_nodes));
        let metrics = Arc::new(Metrics::new(served_apis().chain(std::iter::once(fetch_of_followers())))?);
        let memory = |bytes| Arc::new(RequestMemory::new(bytes, metrics.network.memory_waits.clone()));
        let of_clients = memory(request_bytes(config.queued_max_request_bytes));
        let nodes = NodeLanes {
            control_key: HelloRequest::KEY.0,
            node: node.clone(),
            control_memory: memory(Some(CONTROL_MEMORY)),
            data_memory: memory(Some(DATA_MEMORY)),
        };
        let shared = Shared { metrics: Arc::clone(&metrics), memory: of_clients };
        let limits = ConnectionLimits {
            clients: limit_connections(config.open_files_max),
            request_bytes: config.socket_request_max_bytes,
            peers: PEER_LIMITS,
            max_idle: config.connections_max_idle,
            patience: Patience::default(),
        };
        let metadata: Arc<OnceLock<Arc<Metadata>>> = Arc::default();
        let (known, statics, node_id) = (Arc::clone(&metadata), Arc::clone(&config.statics), config.node_id);
        let admission: Admission = Arc::new(move || {
            let image = known.get().map(|metadata| metadata.image()).unwrap_or_default();
            connection_limits(&image, node_id, &statics)
        });
        let scope = ServerScope {
            service: Arc::clone(&service),
            metrics: Arc::clone(&shared.metrics),
            memory: Arc::clone(&shared.memory),
            limits,
            admission,
            nodes,
        };
        Ok(Self { local, service, shared, metadata, scope, progress: Arc::clone(progress) })
    }

    /// What connections are served with.
    pub(super) fn scope(&self) -> &ServerScope<NodeService> {
        &self.scope
    }

    /// Which cluster this node is in, or comes into; waits for the other nodes if need be. The node has its id then.
    pub(super) async fn find_place(
        &self,
        node: Node,
        disk: &dyn Disk,
        dir: &MetadataDir,
    ) -> Result<(Node, Place), ServeError> {
        let place = find_place(&node, &self.local, disk, dir, &self.progress).await?;
        self.progress.begin(StartStep::OpeningLogs);
        let node = if place.node_id == node.id() { node } else { node.with_id(place.node_id) };
        Ok((node, place))
    }

    /// Takes this node's seat in the metadata quorum, and starts what it does there.
    pub(super) async fn enter(
        &self,
        node: &Node,
        disk: Arc<dyn Disk>,
        dir: &MetadataDir,
        logs: &Arc<LogManager>,
        (place, addresses): (Place, &Addresses),
    ) -> Result<(Joined, Option<Folder>), ServeError> {
        self.progress.begin(StartStep::Entering);
        let (directory, folder) = dir.open(disk.as_ref(), logs, node.id())?;
        self.local.enter(Str::copy(logs.cluster_id()), node.id(), directory);
        let listeners = advertised(node, addresses);
        let address = peer_address(&listeners);
        let id = RaftId { node_id: node.id(), directory: directory.0 };
        let seat = Seat { id, address: address.clone(), begin: place.begin };
        let metadata = raft::start(node, &self.local, Arc::clone(&disk), dir.log(), seat).await?;
        dir.record_location(disk.as_ref(), &node.config().log_dirs);
        let metadata = Arc::new(metadata);
        // It is started once.
        let _ = self.metadata.set(Arc::clone(&metadata));
        let controller = Controller::new(node, &self.local, &address, &metadata);
        self.service.peers().set_controller(Arc::clone(&controller));
        let of = |controller: &Arc<Controller>| Arc::clone(controller);
        let (fencer, voters) = (of(&controller), of(&controller));
        let (balance, growth) = (of(&controller), of(&controller));
        node.keep_control("fencer", move || run_fencer(Arc::clone(&fencer)));
        node.keep_control("voters", move || run_voters(Arc::clone(&voters)));
        node.keep_control("balance", move || run_balance(Arc::clone(&balance)));
        node.keep_control("growth", move || run_growth(Arc::clone(&growth)));
        // The first view comes from the log.
        let mut quorum = metadata.quorum();
        let view = quorum.wait_for(|view| view.own.is_some()).await.map_err(|_| SubmitError::Stopping)?.clone();
        if view.own_votes() && !node.config().may_vote {
            warn!(
                node = node.id(),
                "this node is a voter of the metadata quorum and keeps its vote, in spite of process.roles=broker: add another voter and remove this one (esker cluster voters), or set process.roles=broker,controller"
            );
        }
        let has_others = !view.is_only_member() || metadata.image().brokers().any(|broker| broker.node_id != node.id());
        if place.begin == Begin::Member || has_others {
            take_seat(&controller, &address, &self.progress).await?;
        }
        if let Some((given, cluster)) = overridden_min_isr(&metadata.image(), &node.config().statics) {
            warn!(
                given,
                %cluster,
                "min.insync.replicas was read from the configuration when the cluster began, and is changed by command since: esker config set broker default min.insync.replicas=N"
            );
        }
        if metadata.image().is_removed_voter(controller.local().directory()) {
            warn!(
                node = node.id(),
                "this node was removed from the voters of the metadata quorum: it follows the log without a vote until it is added again (esker cluster voters add)"
            );
        }
        dir.record_seat(disk.as_ref());
        let previous_epoch =
            dir.take_clean_epoch(disk.as_ref()).map_err(PlaceError::from)?.filter(|_| logs.was_clean());
        let routed = Arc::new(RoutedController::new(&controller));
        let session = Arc::<BrokerSession>::default();
        let progress = Arc::clone(&self.progress);
        Ok((Joined { metadata, controller, session, routed, directory, previous_epoch, listeners, progress }, folder))
    }

    /// Registers the broker and starts it. It works, and serves no client yet.
    pub(super) async fn start_broker(
        &self,
        node: &Node,
        joined: Joined,
        logs: Arc<LogManager>,
        stop: &CancellationToken,
    ) -> Result<(Arc<Broker>, Arc<Joined>), ServeError> {
        self.progress.begin(StartStep::Registering);
        let registered = joined.register(node, self.local.incarnation(), &logs).await?;
        joined.wait_for(registered).await?;
        self.progress.begin(StartStep::OpeningPartitions);
        let (broker, changes) = build_broker(node, &joined, logs, &self.shared);
        open_partitions(&broker).await?;
        self.service.peers().set_broker(Arc::clone(&broker));
        start_tasks(&broker, changes, stop);
        start_replication(&broker, &joined, stop);
        let joined = Arc::new(joined);
        spawn_until(stop.clone(), register_again(Arc::clone(&joined), Arc::clone(&broker)));
        let applied = broker.replicas.applied();
        let (controller, session) = (Arc::clone(&joined.controller), Arc::clone(&joined.session));
        let until = stop.clone();
        node.keep_control("heartbeats", move || {
            let beats = run_heartbeats(Arc::clone(&controller), Arc::clone(&session), applied.clone());
            let beats = until.clone().run_until_cancelled_owned(beats);
            async move {
                let _: Option<()> = beats.await;
            }
        });
        Ok((broker, joined))
    }

    /// Serves clients, once the broker is not fenced.
    pub(super) async fn serve_clients(&self, broker: &Arc<Broker>, joined: &Joined) -> Result<(), ServeError> {
        self.progress.begin(StartStep::Unfencing);
        wait_until_durable(broker).await;
        joined.wait_unfenced(broker.node_id).await?;
        joined.wait_lease().await;
        self.service.serve_clients(ClientService::new(Arc::clone(broker)));
        self.progress.begin(StartStep::Serving);
        Ok(())
    }
}

/// Starts what follows other brokers, and what says who follows this one.
fn start_replication(broker: &Arc<Broker>, joined: &Joined, stop: &CancellationToken) {
    // Unit tests give a broker images of clusters that do not exist, and follow and propose themselves.
    if cfg!(test) {
        return;
    }
    let (node, replicas) = (broker.node.clone(), Arc::clone(&broker.replicas));
    let links = Arc::new(BrokerLinks::new(&joined.controller));
    let fetchers = FollowerFetchers::new(node.clone(), Arc::clone(&replicas), links);
    spawn_until(stop.clone(), fetchers.run());
    let proposer = Arc::new(ControllerProposer::new(&joined.controller, &joined.routed));
    let reports = DirectoryReports::new(&joined.controller, &joined.routed, &joined.session, &replicas);
    spawn_until(stop.clone(), reports.run());
    let isr = IsrManager::new(node, replicas, proposer);
    spawn_until(stop.clone(), isr.run());
}

/// Registers this broker again whenever its registration is not the one that counts any more: an operator has unregistered it, or another
/// took its id while it was away.
async fn register_again(joined: Arc<Joined>, broker: Arc<Broker>) {
    loop {
        joined.session.stale().await;
        // The id of a broker that was unregistered is free: it is reserved again first.
        let address = peer_address(&joined.listeners);
        if let Err(error) = take_seat(&joined.controller, &address, &joined.progress).await {
            error!(%error, "this broker is registered no more, and the cluster does not take it in again: restart it");
            return;
        }
        let incarnation = joined.controller.local().incarnation();
        let registration = registration(&broker.node, incarnation, joined.listeners.clone(), broker.replicas.logs());
        if let Err(error) = joined.join(&broker.node, registration).await {
            error!(%error, "this broker is registered no more, and cannot register again: restart it");
            return;
        }
    }
}
