//! Starting and stopping a broker.
//!
//! Order of the start: configuration, HTTP (it reports the progress of recovery), data folder (lock, recovery), listeners (so that
//! a port in use is found before anything is changed), metadata log, partitions, coordinators, and only then the first
//! connection is accepted. [`embedded`] starts the same broker without sockets.

pub mod embedded;
mod register;
mod startup;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::ShutDownBroker;
use esker_core::group::GroupLimits;
use esker_core::group::consumer::ConsumerLimits;
use esker_core::metadata::MetadataImage;
use esker_core::transaction;
use esker_protocol::primitives::Str;
use esker_storage::io::{Disk, OsDisk};
use esker_storage::{Cleaner, Folder, LoadProgress, LogConfig, LogManager, LogManagerConfig, OpenError, Scrubber};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::background::{self, run_cleaner};
use crate::broker::Broker;
use crate::cluster::PlaceError;
use crate::config::{BrokerConfig, Listener, LiveConfig};
use crate::controller::{Committed, SubmitError, submit};
use crate::coordinator::{self, CoordinatorScope, GroupConfig, GroupCoordinator, TransactionCoordinator};
use crate::fetch_sessions::FetchSessions;
use crate::http::{self, HttpError, Served};
use crate::metadata_dir::{MetadataDir, MetadataDirError};
use crate::node::{BlockingError, Machine, Node};
use crate::producer_ids::ProducerIds;
use crate::raft::StartError;
use crate::replica::{LeadershipChange, ReplicaManager};
use crate::server::{BindError, Listeners};
use crate::system_limits::limit_open_segments;
use register::Addresses;
use startup::{Joined, Shared, Startup};

/// Why a broker does not start. Shown to the user as it is.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP listener.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata log.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The broker could not register.
    #[error("the broker cannot register with the cluster: {0}")]
    Register(#[from] SubmitError),
    /// Counters.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task died.
    #[error("start-up was cut short: {0}")]
    Task(#[from] BlockingError),
    /// The cluster does not take this node.
    #[error("the cluster does not take this broker: {0}")]
    Refused(String),
    /// This node finds no place in a cluster.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The metadata log's folder.
    #[error(transparent)]
    MetadataDir(#[from] MetadataDirError),
}

/// A running broker.
#[derive(Debug)]
pub struct Running {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where the first listener listens.
    pub kafka: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
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
/// How long a start may wait for flushes of what a crash left.
const SETTLE: Duration = Duration::from_millis(500);
/// The interval of log lines about the progress of a long start.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

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
    let startup = Startup::new(&node, disk.as_ref(), &metadata_dir)?;
    let listening = listen(&node, &startup, &stop).await;
    // A node that forms a cluster, or joins one, must be reached meanwhile. For another a folder in use is a better reason than a port.
    let joins = !node.config().join.is_empty();
    let (listening, bound) = match listening {
        Err(error) if joins => return Err(error),
        Err(error) => ((Addresses::new(), TaskTracker::new()), Err(error)),
        Ok(listening) => (listening, Ok(())),
    };
    let (addresses, connections) = listening;
    let (node, place) = startup.find_place(node, disk.as_ref(), &metadata_dir).await?;
    let logs = open_logs(Arc::clone(&disk), &node, place.cluster_id.clone(), &served.loading).await?;
    logs.limit_open_segments(limit_open_segments(node.config().open_files_max));
    let http = http_bound?;
    bound?;
    let kafka = addresses.first().map_or(http, |(_, address)| *address);
    let (joined, metadata_folder) =
        startup.enter(&node, Arc::clone(&disk), &metadata_dir, &logs, (place, &addresses)).await?;
    let broker = startup.start_broker(&node, joined, logs, &stop).await?;
    let _ = served.broker.set(Arc::clone(&broker));
    stop_on_error.disarm();
    Ok(Running { broker, kafka, http, stop, connections, disk, metadata_dir, _metadata_folder: metadata_folder })
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

/// After a crash nobody knows how much of the logs' ends is durable, and consumers read only what is: the flusher brings it to disk before
/// the first client comes, so that a client finds every record that was acknowledged. Where that takes long, clients come first.
async fn wait_until_durable(broker: &Broker) {
    let deadline = Instant::now() + SETTLE;
    while broker.replicas.partitions().iter().any(|partition| partition.awaits_flush()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// HTTP answers from the first moment on, so that health checks see how far a start is.
async fn serve_http(node: &Node, served: &Arc<Served>, stop: &CancellationToken) -> Result<SocketAddr, HttpError> {
    let (listener, address) = http::bind(&node.config().http_listen).await?;
    tokio::spawn(http::serve(listener, Arc::clone(served), stop.clone()));
    Ok(address)
}

/// Puts the parts together; nothing runs yet.
fn build_broker(
    node: &Node,
    joined: &Joined,
    logs: Arc<LogManager>,
    shared: &Shared,
) -> (Arc<Broker>, mpsc::UnboundedReceiver<LeadershipChange>) {
    let config = node.config();
    let cluster_id = Str::from(logs.cluster_id().to_owned());
    let (metadata, metrics) = (Arc::clone(&joined.metadata), Arc::clone(&shared.metrics));
    let (replicas, changes) = ReplicaManager::new(node.clone(), logs, Arc::clone(&metrics));
    let replicas = Arc::new(replicas);
    let controller = joined.client();
    let producer_ids = Arc::new(ProducerIds::new(node.id(), Arc::clone(&controller)));
    let group_config = group_config(node, &metadata.image());
    let groups = GroupCoordinator::new(node, group_config, metadata.subscribe(), metrics.groups.clone());
    let transactions = TransactionCoordinator::new(node, transaction_limits(config), Arc::clone(&producer_ids));
    let coordinators = CoordinatorScope {
        node: node.clone(),
        images: metadata.subscribe(),
        replicas: Arc::clone(&replicas),
        groups: Arc::new(groups),
        transactions: Arc::new(transactions),
        producer_ids: Arc::clone(&producer_ids),
    };
    let live = LiveConfig::read(&metadata.image(), node.id(), &config.statics);
    let broker = Broker {
        node_id: node.id(),
        cluster_id,
        config: Arc::clone(config),
        node: node.clone(),
        metadata,
        controller,
        session: Arc::clone(&joined.session),
        replicas,
        groups: Arc::clone(&coordinators.groups),
        transactions: Arc::clone(&coordinators.transactions),
        coordinators,
        producer_ids,
        fetch_sessions: FetchSessions::new(config.fetch_session_slots),
        cleaner: config.cleaner_enable.then(|| Arc::new(Cleaner::new(live.cleaner))),
        cleaner_threads: Arc::default(),
        request_memory: Arc::clone(&shared.memory),
        scrubber: Arc::new(Scrubber::new(live.scrub_bytes_per_second)),
        metrics,
    };
    (Arc::new(broker), changes)
}

/// Brings the partitions in step with the metadata before anything is served.
async fn open_partitions(broker: &Arc<Broker>) -> Result<(), ServeError> {
    let (replicas, first) = (Arc::clone(&broker.replicas), broker.metadata.image());
    let opened = broker.node.run_blocking(move || {
        replicas.apply(&first);
        replicas.rename_strays();
    });
    opened.await?;
    broker.replicas.resume_moves();
    Ok(())
}

/// Starts what works beside requests.
fn start_tasks(broker: &Arc<Broker>, changes: mpsc::UnboundedReceiver<LeadershipChange>, stop: &CancellationToken) {
    tokio::spawn(stop.clone().run_until_cancelled_owned(follow_metadata(Arc::clone(broker))));
    tokio::spawn(Arc::clone(broker.replicas.flusher()).run());
    let background = broker.background();
    background::start(&background, &broker.scrubber, stop);
    if let Some(cleaner) = &broker.cleaner {
        run_cleaner(&background, Arc::clone(cleaner), &broker.cleaner_threads, stop);
    }
    coordinator::start(&broker.coordinators, changes, stop);
}

impl Running {
    /// Stops: no more connections, what is under way ends, everything is written and marked clean.
    pub async fn stop(self) -> Result<(), esker_storage::LogError> {
        hand_over(&self.broker).await;
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.connections.wait()).await.is_err() {
            error!("some connections did not end in time");
        }
        self.broker.metadata.shutdown().await;
        let logs = Arc::clone(self.broker.replicas.logs());
        let alone = self.broker.metadata.quorum().borrow().members.len() <= 1;
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

/// Controlled shutdown: others take this broker's leaderships, and the one of the metadata quorum, while it still serves.
async fn hand_over(broker: &Broker) {
    let others = broker.metadata.quorum().borrow().members.len() > 1;
    if !others {
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

async fn open_logs(
    disk: Arc<dyn Disk>,
    node: &Node,
    cluster_id: Option<String>,
    progress: &Arc<LoadProgress>,
) -> Result<Arc<LogManager>, ServeError> {
    let config = node.config();
    let open = LogManagerConfig {
        dirs: config.log_dirs.clone(),
        node_id: config.node_id,
        cluster_id,
        load_threads: config.recovery_threads,
        journal_bytes: config.journal_bytes,
        journal_dirs: config.journal_dirs.clone(),
        // What topics are configured to is not known yet: nothing may be forgotten until it is.
        default_config: LogConfig { delete: false, producer_id_expiration_ms: i64::MAX, ..LogConfig::default() },
        progress: Arc::clone(progress),
    };
    let began = Instant::now();
    let now_ms = node.now_ms();
    let env = Arc::clone(node.storage());
    let mut opening = pin!(node.run_blocking(move || LogManager::open_in(env, disk, open, now_ms)));
    let opened = loop {
        match tokio::time::timeout(PROGRESS_EVERY, opening.as_mut()).await {
            Ok(opened) => break opened??,
            Err(_) => {
                let (logs, segments) = (progress.partitions(), progress.segments());
                info!(
                    partitions = logs.done,
                    of = logs.all,
                    recovered_segments = segments.done,
                    segments_left = segments.left(),
                    "opening logs"
                );
            }
        }
    };
    let (partitions, segments) = (progress.partitions().done, progress.segments().done);
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(partitions, recovered_segments = segments, ms, clean = opened.was_clean(), "logs are open");
    Ok(Arc::new(opened))
}

fn group_config(node: &Node, image: &MetadataImage) -> GroupConfig {
    let config = node.config();
    GroupConfig {
        node_id: node.id(),
        statics: Arc::clone(&config.statics),
        limits: group_limits(config),
        consumer_groups: ConsumerLimits::read(image, node.id(), &config.statics).enabled,
        rebalance_history: config.group_rebalance_history_size,
        commit_timeout: config.offsets_commit_timeout,
    }
}

fn group_limits(config: &BrokerConfig) -> GroupLimits {
    GroupLimits {
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        max_size: config.group_max_size,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        offsets_retention_ms: config.offsets_retention_ms,
    }
}

fn transaction_limits(config: &BrokerConfig) -> transaction::Limits {
    transaction::Limits {
        max_timeout_ms: config.transaction_max_timeout_ms,
        id_expiration_ms: config.transactional_id_expiration_ms,
        abort_interval_ms: config.transaction_abort_interval_ms,
        expiry_interval_ms: config.transaction_expiry_interval_ms,
    }
}

/// Brings partitions in step with every new image.
async fn follow_metadata(broker: Arc<Broker>) {
    let mut images = broker.metadata.subscribe();
    loop {
        let image = images.borrow_and_update().clone();
        let replicas = Arc::clone(&broker.replicas);
        if let Err(error) = broker.node.run_blocking(move || replicas.apply(&image)).await {
            error!(%error, "an image of the metadata could not be applied");
        }
        if changed(&mut images).await.is_err() {
            return;
        }
    }
}

async fn changed<T>(images: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    images.changed().await
}
