//! What the listeners of one service share.

use std::sync::Arc;
use std::time::Duration;

use esker_protocol::api::ApiKey;

use super::memory::RequestMemory;
use crate::node::Node;
use crate::telemetry::Metrics;

/// What one connection may do.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections of clients that the descriptors of this process allow, whatever `max.connections` says.
    pub clients: usize,
    /// `socket.request.max.bytes`: the largest request of a client.
    pub request_bytes: usize,
    /// The largest requests of nodes.
    pub peers: PeerLimits,
    /// `connections.max.idle.ms`; `None` for no limit.
    pub max_idle: Option<Duration>,
    /// How long it may keep what others need.
    pub patience: Patience,
}

/// How long a connection may keep what others need.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one that may not be a client's may take to begin a request between nodes.
    pub first_request: Duration,
    /// How long a request may take to arrive once its memory is reserved and other connections wait for memory.
    pub slow_request: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first_request: Duration::from_secs(1), slow_request: Duration::from_secs(30) }
    }
}

/// The largest requests between nodes. They do not depend on `socket.request.max.bytes`: a small one must not stop a cluster.
#[derive(Debug, Clone, Copy)]
pub struct PeerLimits {
    /// APIs from this key on are those between nodes.
    pub first_key: i16,
    /// The largest request of a sender that has not proved who it is.
    pub unproven: usize,
    /// The largest request of a node, by API.
    pub proven: fn(ApiKey) -> usize,
}

/// `max.connections` and `max.connections.per.ip` as they hold now.
pub type Admission = Arc<dyn Fn() -> (usize, usize) + Send + Sync>;

/// What the listeners of one service share.
pub struct ServerScope<S> {
    /// Serves the requests.
    pub service: Arc<S>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the requests of all clients may take.
    pub memory: Arc<RequestMemory>,
    /// What one connection may do.
    pub limits: ConnectionLimits,
    /// How many connections of clients there may be; called once a connection.
    pub admission: Admission,
    /// Connections of other nodes.
    pub nodes: NodeLanes,
}

/// Connections of other nodes: those whose first request is one between nodes. Clients take none of their threads and memory.
#[derive(Debug, Clone)]
pub struct NodeLanes {
    /// A connection that begins with this API is served on the threads of the cluster's control.
    pub control_key: i16,
    /// Whose threads.
    pub node: Node,
    /// What the requests of such connections may take.
    pub control_memory: Arc<RequestMemory>,
    /// What those of all other nodes' connections may take.
    pub data_memory: Arc<RequestMemory>,
}

impl<S> Clone for ServerScope<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            metrics: Arc::clone(&self.metrics),
            memory: Arc::clone(&self.memory),
            limits: self.limits,
            admission: Arc::clone(&self.admission),
            nodes: self.nodes.clone(),
        }
    }
}
