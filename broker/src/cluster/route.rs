//! The way to the active controller, wherever it is: decided here, or sent to the node that leads.
//!
//! While nobody leads, a request waits for the next leader until its deadline. A request that was sent and has no answer may have been
//! carried out: it is not sent again, and its caller learns that; but for those that may be repeated, which do not wait for a controller that
//! hangs while another leads.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::wire::{decode_reply, encode_request};
use esker_core::controller::{Reply, Request};
use esker_protocol::primitives::Uuid;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::controller::{Controller, outcome};
use crate::controller::{Committed, ControllerClient, SubmitError};
use crate::peer::messages::SubmitRequest;
use crate::peer::{Lane, PeerError, PeerLink};
use crate::raft::{QuorumView, RaftId};
use crate::trace::current_context;

/// See the module.
#[derive(Debug)]
pub struct RoutedController {
    controller: Arc<Controller>,
    link: Mutex<Option<(RaftId, Arc<PeerLink>)>>,
}

/// A leader that cannot be reached is tried again after this time, if no other leads by then.
const RETRY: Duration = Duration::from_millis(20);

impl RoutedController {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self { controller: Arc::clone(controller), link: Mutex::new(None) }
    }

    fn link_to(&self, view: &QuorumView) -> Option<Arc<PeerLink>> {
        let (leader, address) = (view.leader?, view.leader_address()?);
        let mut known = self.link.lock();
        if let Some((id, link)) = known.as_ref()
            && *id == leader
            && link.address() == address
        {
            return Some(Arc::clone(link));
        }
        let target = (leader.node_id, Uuid(leader.directory));
        let link = PeerLink::new(self.controller.node(), self.controller.local(), target, address, Lane::Data);
        let link = Arc::new(link);
        *known = Some((leader, Arc::clone(&link)));
        Some(link)
    }

    async fn route(&self, request: Request, deadline: Instant) -> Result<Committed<Reply>, SubmitError> {
        let mut quorum = self.controller.metadata().quorum();
        loop {
            let view = quorum.borrow_and_update().clone();
            let tried = if view.is_leading() {
                self.controller.decide(request.clone(), deadline).await
            } else if let Some(link) = self.link_to(&view) {
                let sent = send(&link, &request, deadline);
                tokio::select! {
                    biased;
                    answered = sent => answered,
                    other = quorum.wait_for(|now| now.has_other_leader(&view)), if request.may_be_repeated() => match other {
                        Ok(_) => Err(SubmitError::NotController(None)),
                        Err(_) => return Err(SubmitError::Stopping),
                    },
                }
            } else {
                Err(SubmitError::NotController(None))
            };
            match tried {
                Err(SubmitError::NotController(_)) => {}
                decided => return decided,
            }
            let retry = (Instant::now() + RETRY).min(deadline);
            if let Ok(Err(_)) = timeout_at(retry, quorum.changed()).await {
                return Err(SubmitError::Stopping);
            }
            if Instant::now() >= deadline {
                return Err(SubmitError::NotController(view.leader.map(|leader| leader.node_id)));
            }
        }
    }
}

/// Sends a request to the node that leads. `NotController`: it was not carried out, or may be repeated.
async fn send(link: &PeerLink, request: &Request, deadline: Instant) -> Result<Committed<Reply>, SubmitError> {
    let bytes = encode_request(request).map_err(|error| SubmitError::Encode(error.to_string()))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
    let submit = SubmitRequest { timeout_ms, request: bytes, ..SubmitRequest::default() };
    let answer = match link.call_traced(submit, current_context().as_slice(), deadline).await {
        Ok(answer) => answer,
        Err(PeerError::TimedOut { .. }) => return Err(SubmitError::TimedOut),
        Err(error @ PeerError::Lost(_)) if request.may_be_repeated() => {
            tracing::debug!(%error, "the active controller has not answered");
            return Err(SubmitError::NotController(None));
        }
        Err(error @ PeerError::Lost(_)) => return Err(SubmitError::Unavailable(error.to_string())),
        Err(error) => {
            tracing::debug!(%error, "the active controller cannot be reached");
            return Err(SubmitError::NotController(None));
        }
    };
    match answer.outcome {
        outcome::DECIDED => {
            let reply = decode_reply(answer.reply).map_err(|error| SubmitError::Fault(error.to_string()))?;
            let offset = u64::try_from(answer.offset).unwrap_or_default();
            Ok(Committed { reply, offset, changed: answer.changed })
        }
        outcome::NOT_CONTROLLER => Err(SubmitError::NotController(Some(answer.controller).filter(|id| *id >= 0))),
        _ => Err(SubmitError::Unavailable(answer.message.as_ref().map_or_else(String::new, ToString::to_string))),
    }
}

impl ControllerClient for RoutedController {
    fn submit(&self, request: Request, deadline: Instant) -> BoxFuture<'_, Result<Committed<Reply>, SubmitError>> {
        self.route(request, deadline).boxed()
    }
}
