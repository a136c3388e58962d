//! What replication needs of the cluster: ways to the brokers that lead, and to the controller that knows who is in sync.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::AlterPartition;
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_protocol::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::Uuid;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::controller::Controller;
use super::route::RoutedController;
use crate::controller::{SubmitError, submit};
use crate::peer::{Lane, PeerError, PeerLink};
use crate::replica::{IsrProposer, LeaderLink, LeaderLinks, LinkError};

/// How long the controller may take to decide a change of in-sync replicas.
const ALTER: Duration = Duration::from_secs(10);

/// Connections to other brokers for records, one for each.
pub struct BrokerLinks {
    controller: Arc<Controller>,
    links: Mutex<BTreeMap<i32, Arc<BrokerLink>>>,
}

struct BrokerLink {
    target: (i32, Uuid),
    link: Arc<PeerLink>,
}

impl BrokerLinks {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self { controller: Arc::clone(controller), links: Mutex::default() }
    }
}

impl LeaderLinks for BrokerLinks {
    fn to(&self, node_id: i32) -> Option<Arc<dyn LeaderLink>> {
        let quorum = self.controller.metadata().quorum();
        let view = quorum.borrow();
        let member = view.member(node_id).filter(|member| !member.address.is_empty())?;
        let target = (node_id, Uuid(member.id.directory));
        let mut links = self.links.lock();
        if let Some(known) = links.get(&node_id)
            && known.target == target
            && known.link.address() == member.address
        {
            return Some(Arc::clone(known) as _);
        }
        let (node, local) = (self.controller.node(), self.controller.local());
        let link = Arc::new(PeerLink::new(node, local, target, &member.address, Lane::Data));
        let link = Arc::new(BrokerLink { target, link });
        links.insert(node_id, Arc::clone(&link));
        Some(link)
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
