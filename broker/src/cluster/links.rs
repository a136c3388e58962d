//! What replication and transactions need of the cluster: connections to other brokers, and to the controller that knows who is in sync.
//!
//! Each purpose has connections of its own, because answers come in the order of the requests: a fetch that waits for records must not
//! hold up a verification.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::AlterPartition;
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::trace::TraceContext;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_partitions_to_txn::AddPartitionsToTxnResponse;
use esker_protocol::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::messages::write_txn_markers::WriteTxnMarkersResponse;
use esker_protocol::primitives::{Str, Uuid};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::controller::Controller;
use super::locations::locate;
use super::route::RoutedController;
use crate::controller::{SubmitError, submit};
use crate::coordinator::{PeerAnswer, PeerUnavailable, TransactionPeers};
use crate::peer::{Lane, PeerError, PeerLink, TracedRequest};
use crate::replica::{IsrProposer, LeaderLink, LeaderLinks, LinkError};

/// Why a broker without an address is not asked.
const UNKNOWN_ADDRESS: &str = "its address is not known";
/// How long the controller may take to decide a change of in-sync replicas.
const ALTER: Duration = Duration::from_secs(10);

/// A connection, and the node id and metadata folder of its broker.
#[derive(Debug)]
struct KnownLink {
    target: (i32, Uuid),
    link: Arc<PeerLink>,
}

/// Connections to other brokers for one purpose, one for each broker.
#[derive(Debug)]
struct LinkTable {
    controller: Arc<Controller>,
    links: Mutex<BTreeMap<i32, KnownLink>>,
}

impl LinkTable {
    fn new(controller: &Arc<Controller>) -> Self {
        Self { controller: Arc::clone(controller), links: Mutex::default() }
    }

    /// The connection to a broker; `None` if it has no known address.
    fn to(&self, node_id: i32) -> Option<Arc<PeerLink>> {
        let quorum = self.controller.metadata().quorum();
        let image = self.controller.metadata().image();
        let location = locate(&quorum.borrow(), &image, node_id)?;
        let mut links = self.links.lock();
        if let Some(known) = links.get(&node_id)
            && known.target == location.target
            && known.link.address() == location.address
        {
            return Some(Arc::clone(&known.link));
        }
        let (node, local) = (self.controller.node(), self.controller.local());
        let link = Arc::new(PeerLink::new(node, local, location.target, &location.address, Lane::Data));
        links.insert(node_id, KnownLink { target: location.target, link: Arc::clone(&link) });
        Some(link)
    }
}

/// Connections to other brokers for records.
pub struct BrokerLinks(LinkTable);

struct BrokerLink {
    link: Arc<PeerLink>,
}

impl BrokerLinks {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self(LinkTable::new(controller))
    }
}

impl LeaderLinks for BrokerLinks {
    fn to(&self, node_id: i32) -> Option<Arc<dyn LeaderLink>> {
        Some(Arc::new(BrokerLink { link: self.0.to(node_id)? }))
    }
}

impl LeaderLink for BrokerLink {
    fn fetch(
        &self,
        request: ReplicaFetchRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<FetchResponse, LinkError>> {
        let link = Arc::clone(&self.link);
        async move {
            link.call(&request, Instant::now() + timeout).await.map_err(|error| match error {
                PeerError::TimedOut { .. } => LinkError::TimedOut,
                PeerError::Lost(_) => LinkError::Closed(error.to_string()),
                error => LinkError::Unreachable(error.to_string()),
            })
        }
        .boxed()
    }
}

/// Connections to other brokers for transactions: for markers, and for verifications, which must not wait behind markers.
#[derive(Debug)]
pub struct TransactionLinks {
    markers: LinkTable,
    additions: LinkTable,
}

impl TransactionLinks {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self { markers: LinkTable::new(controller), additions: LinkTable::new(controller) }
    }
}

/// Sends a request of transactions on a connection, or says why there is no answer.
fn call<R: TracedRequest + Send + Sync + 'static>(
    link: Option<Arc<PeerLink>>,
    node_id: i32,
    request: R,
    causes: Vec<TraceContext>,
    timeout: Duration,
) -> PeerAnswer<R::Response>
where
    R::Response: Send,
{
    async move {
        let unavailable = |reason: String| PeerUnavailable { node_id, reason };
        let link = link.ok_or_else(|| unavailable(UNKNOWN_ADDRESS.to_owned()))?;
        let answer = link.call_traced(request, &causes, Instant::now() + timeout).await;
        answer.map_err(|error| unavailable(error.to_string()))
    }
    .boxed()
}

impl TransactionPeers for TransactionLinks {
    fn write_markers(
        &self,
        node_id: i32,
        request: WriteMarkersRequest,
        causes: Vec<TraceContext>,
        timeout: Duration,
    ) -> PeerAnswer<WriteTxnMarkersResponse> {
        call(self.markers.to(node_id), node_id, request, causes, timeout)
    }

    fn add_partitions(
        &self,
        node_id: i32,
        request: AddPartitionsRequest,
        causes: Vec<TraceContext>,
        timeout: Duration,
    ) -> PeerAnswer<AddPartitionsToTxnResponse> {
        call(self.additions.to(node_id), node_id, request, causes, timeout)
    }
}

/// Connections to other brokers for offsets, which metrics show.
#[derive(Debug)]
pub struct OffsetLinks(LinkTable);

impl OffsetLinks {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self(LinkTable::new(controller))
    }

    /// High watermarks of partitions that a broker leads, without those that it does not lead (any more).
    pub async fn high_watermarks(
        &self,
        node_id: i32,
        partitions: Vec<(Str, i32)>,
        timeout: Duration,
    ) -> Result<Vec<((Str, i32), i64)>, PeerUnavailable> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for (name, partition_index) in partitions {
            let partition = ListOffsetsPartition { partition_index, timestamp: LATEST, ..Default::default() };
            match topics.last_mut().filter(|topic| topic.name == name) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(ListOffsetsTopic { name, partitions: vec![partition] }),
            }
        }
        let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
        let unavailable = |reason: String| PeerUnavailable { node_id, reason };
        let link = self.0.to(node_id).ok_or_else(|| unavailable(UNKNOWN_ADDRESS.to_owned()))?;
        let answer = link.call(&request, Instant::now() + timeout).await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        let rows = answer.topics.into_iter().flat_map(|topic| {
            let known = topic.partitions.into_iter().filter(|partition| partition.error_code == ErrorCode::NONE);
            let name = topic.name.detached();
            known.map(move |partition| ((name.clone(), partition.partition_index), partition.offset))
        });
        Ok(rows.collect())
    }
}

/// The timestamp that stands for the end of a partition.
const LATEST: i64 = -1;

/// Proposes in-sync replicas to the active controller.
pub struct ControllerProposer {
    controller: Arc<Controller>,
    routed: Arc<RoutedController>,
}

impl ControllerProposer {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>, routed: &Arc<RoutedController>) -> Self {
        Self { controller: Arc::clone(controller), routed: Arc::clone(routed) }
    }
}

impl IsrProposer for ControllerProposer {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, SubmitError>> {
        let ask = AlterPartition { request, configs: self.controller.configs() };
        async move { Ok(submit(self.routed.as_ref(), ask, Instant::now() + ALTER).await?.reply) }.boxed()
    }
}
