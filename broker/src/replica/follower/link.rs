//! The connections to leaders, as fetchers see them. The network is elsewhere.
//!
//! Must never: let a second request overtake the first on its way.

use std::sync::Arc;
use std::time::Duration;

use esker_core::replication::wire::ReplicaFetchRequest;
use esker_protocol::messages::fetch::FetchResponse;
use futures_util::future::BoxFuture;
use thiserror::Error;

/// Why a leader did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// There is no connection, and none could be made.
    #[error("the leader cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before the answer.
    #[error("the connection ended: {0}")]
    Closed(String),
    /// The answer did not come in time.
    #[error("the leader did not answer in time")]
    TimedOut,
}

/// A connection to one leader. Answers come in the order of the requests; two may be in flight.
pub trait LeaderLink: Send + Sync {
    /// Sends the request with the first poll, and resolves with the answer. A future that is dropped drops the answer only.
    fn fetch(
        &self,
        request: ReplicaFetchRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<FetchResponse, LinkError>>;
}

/// The connections to other brokers.
pub trait LeaderLinks: Send + Sync {
    /// The connection to a broker; `None` if it has no known address.
    fn to(&self, node_id: i32) -> Option<Arc<dyn LeaderLink>>;
}
