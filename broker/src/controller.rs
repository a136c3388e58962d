//! The way to the active controller: a request goes in as data, and its answer comes when the records are committed and in the image.
//!
//! Everything that changes the metadata of the cluster goes through [`ControllerClient`]. Today the controller is this broker's own
//! metadata log ([`crate::raft`]); a forwarding client has the same face. Must never: wait without a deadline.

use std::fmt;

use esker_core::controller::{ControllerRequest, Reply, Request};
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::time::Instant;

/// Why a decision was not committed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The quorum does not answer; trying again may help.
    #[error("the metadata log cannot be written: {0}")]
    Unavailable(String),
    /// Another node is the active controller.
    #[error("this node is not the active controller{}", .0.map(|id| format!("; node {id} is")).unwrap_or_default())]
    NotController(Option<i32>),
    /// The records cannot be encoded.
    #[error("the metadata records cannot be encoded: {0}")]
    Encode(String),
    /// A fault of this broker: the decision panicked, or its answer is one to another request.
    #[error("a fault of this broker: {0}")]
    Fault(String),
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
    /// The caller's time is over.
    #[error("the change is not in force in time; it may come later")]
    TimedOut,
}

/// An answer and the offset of the metadata log at which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<R> {
    /// The answer.
    pub reply: R,
    /// An image at least this new has what was decided.
    pub offset: u64,
    /// There were records.
    pub changed: bool,
}

/// Submits requests to the active controller.
pub trait ControllerClient: fmt::Debug + Send + Sync {
    /// Has a request decided and its records committed. At `deadline` the caller is released: a decision that is not made by then is
    /// never made, one whose records are on their way may still be committed.
    fn submit(&self, request: Request, deadline: Instant) -> BoxFuture<'_, Result<Committed<Reply>, SubmitError>>;
}

/// As [`ControllerClient::submit`], with the answer in the form of its request.
pub async fn submit<R: ControllerRequest>(
    client: &dyn ControllerClient,
    request: R,
    deadline: Instant,
) -> Result<Committed<R::Reply>, SubmitError> {
    let request = request.into_request();
    let name = request.name();
    let Committed { reply, offset, changed } = client.submit(request, deadline).await?;
    match R::from_reply(reply) {
        Some(reply) => Ok(Committed { reply, offset, changed }),
        None => Err(SubmitError::Fault(format!("{name} was answered as another request"))),
    }
}
