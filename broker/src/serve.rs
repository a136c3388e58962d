//! Starting and stopping a broker.
//!
//! Order of the start: configuration, HTTP (it reports the progress of recovery), data folder (lock, recovery), listeners (so that
//! a port in use is found before anything is changed), metadata log, partitions, coordinators, and only then the first
//! connection is accepted. [`embedded`] starts the same broker without sockets.

pub mod embedded;

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{Adopted, FoundPartition, RegisterBroker, Registration};
use esker_core::group::GroupLimits;
use esker_core::group::consumer::ConsumerLimits;
use esker_core::metadata::{ListenerRecord, MetadataImage};
use esker_core::transaction;
use esker_protocol::primitives::Str;
use esker_storage::io::{Disk, OsDisk};
use esker_storage::{Cleaner, Folder, LoadProgress, Log, LogConfig, LogManager, LogManagerConfig, OpenError, Scrubber};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::background::{self, run_cleaner};
use crate::broker::Broker;
use crate::config::{BrokerConfig, Listener, LiveConfig, connection_limits};
use crate::controller::{ControllerClient, SubmitError, submit};
use crate::coordinator::{self, CoordinatorScope, GroupConfig, GroupCoordinator, TransactionCoordinator};
use crate::fetch_sessions::FetchSessions;
use crate::handlers::{ClientService, served_apis};
use crate::http::{self, HttpError, Served};
use crate::metadata_dir::{MetadataDir, MetadataDirError};
use crate::node::{BlockingError, Machine, Node};
use crate::producer_ids::ProducerIds;
use crate::raft::{self, Metadata, RaftId, StartError};
use crate::replica::{LeadershipChange, ReplicaManager};
use crate::server::{Admission, BindError, ConnectionLimits, Listeners, RequestMemory, ServerScope};
use crate::system_limits::{limit_open_segments, request_bytes};
use crate::telemetry::Metrics;

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
    /// The lock of a `metadata.log.dir` of its own.
    _metadata_folder: Option<Folder>,
}

/// How long connections may take to finish what they are at.
const GRACE: Duration = Duration::from_secs(5);
/// How long a start may wait for flushes of what a crash left.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the metadata log may take to commit the registration.
const REGISTER: Duration = Duration::from_secs(60);
/// The interval of log lines about the progress of a long start.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Starts a broker; it serves when this returns.
pub async fn start(config: BrokerConfig) -> Result<Running, ServeError> {
    start_on(Arc::new(OsDisk), config).await
}

/// As [`start`], with the logs and the metadata log on another file system.
pub(crate) async fn start_on(disk: Arc<dyn Disk>, config: BrokerConfig) -> Result<Running, ServeError> {
    start_in(Node::new(config, Arc::new(Machine)), disk).await
}

/// As [`start`], with time, randomness and threads of `node`, and everything that is kept on `disk`.
pub(crate) async fn start_in(node: Node, disk: Arc<dyn Disk>) -> Result<Running, ServeError> {
    let stop = CancellationToken::new();
    let stop_on_error = stop.clone().drop_guard();
    let served = Arc::new(Served::default());
    let http_bound = serve_http(&node, &served, &stop).await;
    // A data folder that another process holds is the better reason, so it is looked at first.
    let metadata_dir = MetadataDir::find(disk.as_ref(), node.config())?;
    let logs = open_logs(Arc::clone(&disk), &node, metadata_dir.cluster_id(disk.as_ref())?, &served.loading).await?;
    logs.limit_open_segments(limit_open_segments(node.config().open_files_max));
    let http = http_bound?;
    let listeners = Listeners::bind(&node.config().listeners, node.config().socket_buffers).await?;
    let kafka = listeners.addresses().next().map_or(http, |(_, address)| address);
    let (metadata, metadata_folder) = start_metadata(&node, disk, &metadata_dir, &logs).await?;
    let addresses: Vec<_> = listeners.addresses().map(|(name, address)| (name.clone(), address)).collect();
    register(&node, &metadata, &addresses, &logs).await?;
    let (broker, changes) = build_broker(&node, metadata, logs)?;
    open_partitions(&broker).await?;
    start_tasks(&broker, changes, &stop);
    wait_until_durable(&broker).await;
    let _ = served.broker.set(Arc::clone(&broker));
    let connections = accept_connections(&broker, listeners, &stop);
    stop_on_error.disarm();
    Ok(Running { broker, kafka, http, stop, connections, _metadata_folder: metadata_folder })
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

/// Starts the metadata log; the lock of a folder of its own comes with it.
async fn start_metadata(
    node: &Node,
    disk: Arc<dyn Disk>,
    dir: &MetadataDir,
    logs: &Arc<LogManager>,
) -> Result<(Arc<Metadata>, Option<Folder>), ServeError> {
    let (directory, folder) = dir.open(disk.as_ref(), logs, node.id())?;
    let id = RaftId { node_id: node.id(), directory: directory.0 };
    let metadata = raft::start(node, Arc::clone(&disk), dir.log(), id).await?;
    dir.record_location(disk.as_ref(), &node.config().log_dirs);
    Ok((Arc::new(metadata), folder))
}

/// Registers this broker; a new cluster adopts the partitions in its log dirs.
async fn register(
    node: &Node,
    metadata: &Metadata,
    listeners: &[(Str, SocketAddr)],
    logs: &LogManager,
) -> Result<(), ServeError> {
    let registration = registration(node, listeners, logs);
    let found = if metadata.image().brokers().next().is_none() { found_partitions(logs) } else { Vec::new() };
    let fresh_ids = found.iter().map(|_| node.random_id()).collect();
    let request = RegisterBroker { registration, found, fresh_ids };
    let Adopted { topics, left } = submit(metadata, request, Instant::now() + REGISTER).await?.reply;
    if !topics.is_empty() {
        info!(
            ?topics,
            "a new cluster takes over what lies in its log dirs; these topics keep their records for ever until retention.ms is set"
        );
    }
    for (topic, why) in left {
        error!(%topic, why, "what lies in the log dirs of this topic is not taken over");
    }
    Ok(())
}

/// Puts the parts together; nothing runs yet.
fn build_broker(
    node: &Node,
    metadata: Arc<Metadata>,
    logs: Arc<LogManager>,
) -> Result<(Arc<Broker>, mpsc::UnboundedReceiver<LeadershipChange>), ServeError> {
    let config = node.config();
    let cluster_id = Str::from(logs.cluster_id().to_owned());
    let metrics = Arc::new(Metrics::new(served_apis())?);
    let (replicas, changes) = ReplicaManager::new(node.clone(), logs, Arc::clone(&metrics));
    let replicas = Arc::new(replicas);
    let controller: Arc<dyn ControllerClient> = Arc::clone(&metadata) as _;
    let producer_ids = Arc::new(ProducerIds::new(node.id(), controller));
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
    let memory =
        RequestMemory::new(request_bytes(config.queued_max_request_bytes), metrics.network.memory_waits.clone());
    let live = LiveConfig::read(&metadata.image(), node.id(), &config.statics);
    let broker = Broker {
        node_id: node.id(),
        cluster_id,
        config: Arc::clone(config),
        node: node.clone(),
        metadata,
        replicas,
        groups: Arc::clone(&coordinators.groups),
        transactions: Arc::clone(&coordinators.transactions),
        coordinators,
        producer_ids,
        fetch_sessions: FetchSessions::new(config.fetch_session_slots),
        cleaner: config.cleaner_enable.then(|| Arc::new(Cleaner::new(live.cleaner))),
        cleaner_threads: Arc::default(),
        request_memory: Arc::new(memory),
        scrubber: Arc::new(Scrubber::new(live.scrub_bytes_per_second)),
        metrics,
    };
    Ok((Arc::new(broker), changes))
}

/// Brings the partitions in step with the metadata before anything is served.
async fn open_partitions(broker: &Arc<Broker>) -> Result<(), ServeError> {
    let (replicas, first) = (Arc::clone(&broker.replicas), broker.metadata.image());
    let opened = broker.node.run_blocking(move || {
        replicas.apply(&first);
        replicas.set_strays_aside();
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

/// Serves clients; the tracker is done when every connection has ended.
fn accept_connections(broker: &Arc<Broker>, listeners: Listeners, stop: &CancellationToken) -> TaskTracker {
    listeners.serve(&client_scope(broker), stop)
}

/// What all client connections share.
fn client_scope(broker: &Arc<Broker>) -> ServerScope<ClientService> {
    let config = Arc::clone(&broker.config);
    let limits =
        ConnectionLimits { request_bytes: config.socket_request_max_bytes, max_idle: config.connections_max_idle };
    let images = broker.metadata.subscribe();
    let admission: Admission = Arc::new(move || connection_limits(&images.borrow(), config.node_id, &config.statics));
    let service = Arc::new(ClientService::new(Arc::clone(broker)));
    let (metrics, memory) = (Arc::clone(&broker.metrics), Arc::clone(&broker.request_memory));
    ServerScope { service, metrics, memory, limits, admission }
}

impl Running {
    /// Stops: no more connections, what is under way ends, everything is written and marked clean.
    pub async fn stop(self) -> Result<(), esker_storage::LogError> {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, self.connections.wait()).await.is_err() {
            error!("some connections did not end in time");
        }
        self.broker.metadata.shutdown().await;
        let logs = Arc::clone(self.broker.replicas.logs());
        let stopped = self.broker.node.run_blocking(move || logs.shutdown_clean()).await;
        info!("stopped");
        stopped.unwrap_or(Ok(()))
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

/// The partitions in the log dirs, for a new cluster.
fn found_partitions(logs: &LogManager) -> Vec<FoundPartition> {
    let found = |log: &Arc<Log>| FoundPartition {
        topic: Str::copy(log.topic()),
        partition: log.partition(),
        topic_id: Some(log.topic_id()).filter(|id| !id.is_zero()),
        leader_epoch: log.latest_epoch().unwrap_or(-1),
        producer_id: log.producers().iter().map(|producer| producer.producer_id).max().unwrap_or(-1),
    };
    logs.logs().iter().map(found).collect()
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

fn registration(node: &Node, listeners: &[(Str, SocketAddr)], logs: &LogManager) -> Registration {
    let config = node.config();
    let advertised = |name: &Str, bound: SocketAddr| -> ListenerRecord {
        let wanted: Option<&Listener> = config.advertised.iter().find(|l| l.name == *name);
        let host = match wanted.map(|l| l.host.as_str()).filter(|host| !host.is_empty()) {
            Some(host) => host.to_owned(),
            None if bound.ip().is_unspecified() => {
                let host = host_name();
                info!(listener = %name, host, "clients are told this name; advertised.listeners sets another");
                host
            }
            None => bound.ip().to_string(),
        };
        let port = wanted.map(|l| l.port).filter(|port| *port != 0).unwrap_or(bound.port());
        ListenerRecord { name: name.clone(), host: Str::from(host), port: i32::from(port) }
    };
    Registration {
        node_id: config.node_id,
        incarnation: node.random_id(),
        listeners: listeners.iter().map(|(name, address)| advertised(name, *address)).collect(),
        rack: config.rack.clone(),
        log_dirs: logs.dirs().iter().map(|dir| dir.directory_id).collect(),
    }
}

/// What a listener on all addresses advertises: the machine's own name if it resolves, as Kafka does; else the address
/// that it sends from.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let resolves = |name: &str| (name, 0).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some());
    if !name.is_empty() && resolves(&name) {
        return name;
    }
    // Nothing is sent: connecting a datagram socket only picks the way out. The address is one that is kept for examples.
    let way_out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match way_out {
        Ok(address) if !address.ip().is_unspecified() => address.ip().to_string(),
        _ => "localhost".to_owned(),
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
