//! What the listeners of one service share.

use std::sync::Arc;
use std::time::Duration;

use super::memory::RequestMemory;
use crate::node::Node;
use crate::telemetry::Metrics;

/// What one connection may do.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// `socket.request.max.bytes`.
    pub request_bytes: usize,
    /// `connections.max.idle.ms`; `None` for no limit.
    pub max_idle: Option<Duration>,
}

/// `max.connections` and `max.connections.per.ip` as they hold now.
pub type Admission = Arc<dyn Fn() -> (usize, usize) + Send + Sync>;

/// What the listeners of one service share.
pub struct ServerScope<S> {
    /// Serves the requests.
    pub service: Arc<S>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the requests of all connections may take.
    pub memory: Arc<RequestMemory>,
    /// What one connection may do.
    pub limits: ConnectionLimits,
    /// How many connections there may be; called once a connection.
    pub admission: Admission,
    /// Connections that are served beside no client.
    pub control: Option<ControlLane>,
}

/// Connections whose first request has this key are served on the threads of the cluster's control.
#[derive(Debug, Clone)]
pub struct ControlLane {
    /// The key.
    pub first_key: i16,
    /// Whose threads.
    pub node: Node,
}

impl<S> Clone for ServerScope<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            metrics: Arc::clone(&self.metrics),
            memory: Arc::clone(&self.memory),
            limits: self.limits,
            admission: Arc::clone(&self.admission),
            control: self.control.clone(),
        }
    }
}
