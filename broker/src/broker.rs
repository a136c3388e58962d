//! The broker: what all connections share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker_core::controller::{ControllerRequest, NodeConfigs, ReadMetadata};
use esker_core::health::{ServiceState, obstacle};
use esker_protocol::primitives::Str;
use esker_storage::{Cleaner, DamagedRange, Scrubber};
use tokio::time::Instant;

use crate::background::{Background, CleanerThreads};
use crate::client_telemetry::ClientTelemetry;
use crate::cluster::{OffsetLinks, QuorumClient};
use crate::config::BrokerConfig;
use crate::controller::{ControllerClient, SubmitError, submit};
use crate::coordinator::{CoordinatorScope, GroupCoordinator, TransactionCoordinator};
use crate::fetch_sessions::FetchSessions;
use crate::node::Node;
use crate::producer_ids::ProducerIds;
use crate::raft::Metadata;
use crate::replica::ReplicaManager;
use crate::server::RequestMemory;
use crate::session::BrokerSession;
use crate::telemetry::{Metrics, PeersMetrics};

/// Everything that handlers need.
#[derive(Debug)]
pub struct Broker {
    /// What it was started with.
    pub config: Arc<BrokerConfig>,
    /// Time, randomness, threads.
    pub node: Node,
    /// `node.id`.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: Str,
    /// The cluster's metadata.
    pub metadata: Arc<Metadata>,
    /// The way to the active controller, wherever it is.
    pub controller: Arc<dyn ControllerClient>,
    /// The way to the leader of the metadata quorum, for requests about the quorum itself.
    pub quorum: QuorumClient,
    /// Connections to the leaders of partitions that groups read and that are not here.
    pub offset_links: OffsetLinks,
    /// This broker's session with it.
    pub session: Arc<BrokerSession>,
    /// The partitions of this broker.
    pub replicas: Arc<ReplicaManager>,
    /// Consumer groups.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: Arc<TransactionCoordinator>,
    /// What markers are written with.
    pub coordinators: CoordinatorScope,
    /// When a coordinator of groups, and one of transactions, was first asked for whose topic is not there.
    pub first_coordinator_requests: [OnceLock<Instant>; 2],
    /// Producer ids to hand out.
    pub producer_ids: Arc<ProducerIds>,
    /// Fetch sessions of consumers (KIP-227).
    pub fetch_sessions: FetchSessions,
    /// Those of followers, which no client can evict or name.
    pub follower_sessions: FetchSessions,
    /// Compaction; `None` with `log.cleaner.enable=false`.
    pub cleaner: Option<Arc<Cleaner>>,
    /// The loops that run it.
    pub cleaner_threads: Arc<CleanerThreads>,
    /// Metrics of clients.
    pub client_telemetry: Arc<ClientTelemetry>,
    /// What the requests of all connections may take.
    pub request_memory: Arc<RequestMemory>,
    /// Checks closed segments for bit rot.
    pub scrubber: Arc<Scrubber>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Counters of requests to other nodes.
    pub peers: Arc<PeersMetrics>,
}

/// Enough to see what is wrong; the metrics have the count.
const MAX_CONCERNS: usize = 20;

/// Where a client reaches a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Which broker.
    pub node_id: i32,
    /// Its host.
    pub host: Str,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<Str>,
}

impl Broker {
    /// The wall clock in ms.
    pub fn now_ms(&self) -> i64 {
        self.node.now_ms()
    }

    /// The active controller, as far as this broker knows; -1 if it knows none.
    pub fn controller_id(&self) -> i32 {
        self.metadata.quorum().borrow().leader.map_or(-1, |leader| leader.node_id)
    }

    /// The configs of this node, for decisions that depend on some node's.
    pub fn node_configs(&self) -> NodeConfigs {
        NodeConfigs { node_id: self.node_id, statics: Arc::clone(&self.config.statics) }
    }

    /// What the background loops work on.
    pub fn background(&self) -> Background {
        let replicas = Arc::clone(&self.replicas);
        Background { node: self.node.clone(), images: self.metadata.subscribe(), replicas }
    }

    /// This broker's place in the cluster, as far as it knows.
    pub fn service_state(&self) -> ServiceState {
        let own = self.metadata.image().broker(self.node_id).map(|broker| broker.fenced);
        let view = self.metadata.quorum().borrow().clone();
        ServiceState {
            registered: own.is_some(),
            fenced: own.unwrap_or(true) || self.session.is_fenced() && !view.is_alone(),
            isolated: self.session.is_isolated(),
            controller: self.session.contact(&view),
            applied: self.replicas.applied_image().offset(),
            target: self.session.controller_offset(),
        }
    }

    /// Why this broker should not be sent clients right now; `None` when it serves.
    pub fn not_ready(&self) -> Option<String> {
        if let Some(obstacle) = obstacle(&self.service_state()) {
            return Some(obstacle);
        }
        let offline = self.replicas.logs().dirs().into_iter().find(|dir| dir.offline)?;
        Some(format!("log dir {} is offline after a disk error", offline.path.display()))
    }

    /// Damage that an operator should repair although this broker serves: flushed records that cannot be read any more.
    pub fn concerns(&self) -> Vec<String> {
        let partitions = self.replicas.partitions();
        let ranges = partitions.iter().flat_map(|partition| {
            let log = partition.log();
            let describe = |range: DamagedRange| {
                let (first, last) = (range.first_offset, range.end_offset.saturating_sub(1));
                format!(
                    "{}-{}: offsets {first} to {last} are damaged on disk: {}",
                    log.topic(),
                    log.partition(),
                    range.what
                )
            };
            log.damaged_ranges().into_iter().map(describe).collect::<Vec<_>>()
        });
        ranges.take(MAX_CONCERNS).collect()
    }

    /// Where clients of `listener` reach a broker.
    pub fn endpoint_of(&self, node_id: i32, listener: &str) -> Option<Endpoint> {
        let image = self.metadata.image();
        let broker = image.broker(node_id)?;
        let listener = broker.listeners.iter().find(|l| l.name == *listener)?;
        Some(Endpoint { node_id, host: listener.host.clone(), port: listener.port, rack: broker.rack.clone() })
    }

    /// Has a change of the metadata decided, committed, and in force here, all within `timeout`. What is late may still come.
    pub async fn change<R: ControllerRequest>(&self, timeout: Duration, request: R) -> Result<R::Reply, SubmitError> {
        let deadline = Instant::now() + timeout;
        let committed = submit(self.controller.as_ref(), request, deadline).await?;
        if committed.changed && !self.replicas.wait_applied(committed.offset, deadline).await {
            return Err(SubmitError::TimedOut);
        }
        Ok(committed.reply)
    }

    /// Waits until the metadata here has all that was committed before, on whichever node: what is read then is not of the past. As Kafka's
    /// brokers, which send such reads to the active controller.
    pub async fn catch_up(&self, timeout: Duration) -> Result<(), SubmitError> {
        let deadline = Instant::now() + timeout;
        let read = submit(self.controller.as_ref(), ReadMetadata, deadline).await?;
        if self.replicas.wait_applied(read.offset, deadline).await { Ok(()) } else { Err(SubmitError::TimedOut) }
    }
}
