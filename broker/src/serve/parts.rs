//! The parts of a broker, put together and set to work. Must never: serve anybody.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker_core::group::GroupLimits;
use esker_core::group::consumer::ConsumerLimits;
use esker_core::metadata::MetadataImage;
use esker_core::transaction;
use esker_protocol::primitives::Str;
use esker_storage::io::Disk;
use esker_storage::{Cleaner, LoadProgress, LogConfig, LogManager, LogManagerConfig, Scrubber};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::error::ServeError;
use super::joined::{Joined, Shared};
use crate::background::{self, run_cleaner};
use crate::broker::Broker;
use crate::build::BUILD;
use crate::client_telemetry::ClientTelemetry;
use crate::cluster::{OffsetLinks, QuorumClient, TransactionLinks};
use crate::config::{BrokerConfig, LiveConfig};
use crate::coordinator::{
    self, CoordinatorScope, GroupConfig, GroupCoordinator, RemoteTransactions, TransactionCoordinator,
};
use crate::fetch_sessions::FetchSessions;
use crate::node::Node;
use crate::otlp::{SpanSource, forward_metrics, start_exports};
use crate::producer_ids::ProducerIds;
use crate::replica::{LeadershipChange, ReplicaManager};
use crate::task::{spawn, spawn_until};

/// How long a start may wait for flushes of what a crash left.
const SETTLE: Duration = Duration::from_millis(500);

/// Fetch sessions of followers: each other broker has one, and its earlier incarnations' go after two minutes.
const FOLLOWER_SESSIONS: usize = 1000;

/// The interval of log lines about the progress of a long start.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// After a crash nobody knows how much of the logs' ends is durable, and consumers read only what is: the flusher brings it to disk before
/// the first client comes, so that a client finds every record that was acknowledged. Where that takes long, clients come first.
pub(super) async fn wait_until_durable(broker: &Broker) {
    let deadline = Instant::now() + SETTLE;
    while broker.replicas.partitions().iter().any(|partition| partition.awaits_flush()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Puts the parts together; nothing runs yet.
pub(super) fn build_broker(
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
    groups.answer_under(&joined.session);
    transactions.answer_under(&joined.session);
    let coordinators = CoordinatorScope {
        node: node.clone(),
        images: metadata.subscribe(),
        replicas: Arc::clone(&replicas),
        groups: Arc::new(groups),
        transactions: Arc::new(transactions),
        producer_ids: Arc::clone(&producer_ids),
        remote: Arc::new(RemoteTransactions::new(Arc::new(TransactionLinks::new(&joined.controller)))),
    };
    let live = LiveConfig::read(&metadata.image(), node.id(), &config.statics);
    let broker = Broker {
        first_coordinator_requests: [OnceLock::new(), OnceLock::new()],
        node_id: node.id(),
        cluster_id,
        config: Arc::clone(config),
        node: node.clone(),
        metadata,
        controller,
        quorum: QuorumClient::new(&joined.controller),
        offset_links: OffsetLinks::new(&joined.controller),
        session: Arc::clone(&joined.session),
        replicas,
        groups: Arc::clone(&coordinators.groups),
        transactions: Arc::clone(&coordinators.transactions),
        coordinators,
        producer_ids,
        fetch_sessions: FetchSessions::new(config.fetch_session_slots),
        follower_sessions: FetchSessions::new(FOLLOWER_SESSIONS),
        cleaner: config.cleaner_enable.then(|| Arc::new(Cleaner::new(live.cleaner))),
        cleaner_threads: Arc::default(),
        client_telemetry: Arc::new(ClientTelemetry::new(node)),
        request_memory: Arc::clone(&shared.memory),
        scrubber: Arc::new(Scrubber::new(live.scrub_bytes_per_second)),
        metrics,
        peers: Arc::clone(joined.controller.local().peers()),
    };
    (Arc::new(broker), changes)
}

/// Brings the partitions in step with the metadata before anything is served.
pub(super) async fn open_partitions(broker: &Arc<Broker>) -> Result<(), ServeError> {
    let (replicas, first) = (Arc::clone(&broker.replicas), broker.metadata.image());
    let opened = broker.node.run_blocking(move || {
        replicas.apply(&first);
        replicas.rename_strays(&first);
    });
    opened.await?;
    broker.replicas.resume_moves();
    Ok(())
}

/// Starts what works beside requests.
pub(super) fn start_tasks(
    broker: &Arc<Broker>,
    changes: mpsc::UnboundedReceiver<LeadershipChange>,
    stop: &CancellationToken,
) {
    spawn_until(stop.clone(), follow_metadata(Arc::clone(broker)));
    spawn(Arc::clone(broker.replicas.flusher()).run());
    let background = broker.background();
    background::start(&background, &broker.scrubber, stop);
    if let Some(cleaner) = &broker.cleaner {
        run_cleaner(&background, Arc::clone(cleaner), &broker.cleaner_threads, stop);
    }
    coordinator::start(&broker.coordinators, changes, stop);
    start_exports(&broker.node, SpanSource { node_id: broker.node_id, version: BUILD.version }, stop);
    forward_metrics(&broker.node, broker.client_telemetry.forwarder(), stop);
}

pub(super) async fn open_logs(
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

/// Between attempts to serve partitions that belong here and could not be served.
const RETRY_UNSERVED: Duration = Duration::from_millis(500);

/// Brings partitions in step with every new image.
async fn follow_metadata(broker: Arc<Broker>) {
    let mut images = broker.metadata.subscribe();
    loop {
        let image = images.borrow_and_update().clone();
        let replicas = Arc::clone(&broker.replicas);
        if let Err(error) = broker.node.run_blocking(move || replicas.apply(&image)).await {
            error!(%error, "an image of the metadata could not be applied");
        }
        loop {
            if broker.replicas.unserved_partitions() == 0 {
                match changed(&mut images).await {
                    Ok(()) => break,
                    Err(_) => return,
                }
            }
            match timeout(RETRY_UNSERVED, changed(&mut images)).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_elapsed) => {}
            }
            let replicas = Arc::clone(&broker.replicas);
            if let Err(error) = broker.node.run_blocking(move || replicas.retry_unserved()).await {
                error!(%error, "partitions that could not be served are not tried again");
            }
        }
    }
}

async fn changed<T>(images: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    images.changed().await
}
