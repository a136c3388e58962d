//! The way of an admin request about the metadata quorum to the node that leads it.
//!
//! While nobody leads, a request waits for the next leader until its deadline. A change that was sent and has no answer may have been made: it is
//! not sent again.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{MemberKey, Refusal};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::controller::Controller;
use super::members::{ChangeVoterError, VoterChange};
use crate::peer::messages::{ChangeVoterRequest, DescribeMembersRequest, DescribeMembersResponse};
use crate::peer::{Lane, PeerError, PeerLink};
use crate::raft::{QuorumView, RaftId};

/// A leader that cannot be reached, or hands over, is tried again after this time, if no other leads by then.
const RETRY: Duration = Duration::from_millis(20);
/// How long the leader may take to describe the quorum, before another may lead by now.
const DESCRIBE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct QuorumClient {
    controller: Arc<Controller>,
    /// For descriptions. A change takes its time and has a connection of its own: answers come in the order of the requests.
    link: Mutex<Option<(RaftId, Arc<PeerLink>)>>,
}

impl QuorumClient {
    /// Of this node.
    pub fn new(controller: &Arc<Controller>) -> Self {
        Self { controller: Arc::clone(controller), link: Mutex::new(None) }
    }

    fn open_link(&self, view: &QuorumView) -> Option<(RaftId, PeerLink)> {
        let (leader, address) = (view.leader?, view.leader_address()?);
        let target = (leader.node_id, Uuid(leader.directory));
        let link = PeerLink::new(self.controller.node(), self.controller.local(), target, address, Lane::Data);
        Some((leader, link))
    }

    fn known_link(&self, view: &QuorumView) -> Option<Arc<PeerLink>> {
        let (leader, opened) = self.open_link(view)?;
        let mut known = self.link.lock();
        if let Some((id, link)) = known.as_ref()
            && *id == leader
            && link.address() == opened.address()
        {
            return Some(Arc::clone(link));
        }
        let link = Arc::new(opened);
        *known = Some((leader, Arc::clone(&link)));
        Some(link)
    }

    /// Changes the voters.
    pub async fn change_voter(&self, change: VoterChange, deadline: Instant) -> Result<(), ChangeVoterError> {
        let mut quorum = self.controller.metadata().quorum();
        loop {
            let view = quorum.borrow_and_update().clone();
            let tried = if view.is_leading() {
                self.controller.change_voter(change, deadline).await
            } else if let Some((_, link)) = self.open_link(&view) {
                send_change(&link, change, deadline).await
            } else {
                Err(ChangeVoterError::NotController)
            };
            match tried {
                Err(ChangeVoterError::NotController) => {}
                decided => return decided,
            }
            let retry = (Instant::now() + RETRY).min(deadline);
            if let Ok(Err(_)) = timeout_at(retry, quorum.changed()).await {
                return Err(ChangeVoterError::Stopping);
            }
            if Instant::now() >= deadline {
                return Err(ChangeVoterError::NotController);
            }
        }
    }

    /// The quorum as its leader knows it; as this node knows it, with NOT_CONTROLLER, where no leader answers by `deadline`.
    pub async fn describe(&self, deadline: Instant) -> DescribeMembersResponse {
        let mut quorum = self.controller.metadata().quorum();
        loop {
            let view = quorum.borrow_and_update().clone();
            if view.is_leading() {
                let own = self.controller.describe_members();
                if own.error_code == ErrorCode::NONE {
                    return own;
                }
            } else if let Some(link) = self.known_link(&view) {
                match link.call(&DescribeMembersRequest {}, deadline.min(Instant::now() + DESCRIBE)).await {
                    Ok(answer) if answer.error_code == ErrorCode::NONE => return answer,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the leader of the metadata quorum does not answer"),
                }
            }
            let retry = (Instant::now() + RETRY).min(deadline);
            let stopped = matches!(timeout_at(retry, quorum.changed()).await, Ok(Err(_)));
            if stopped || Instant::now() >= deadline {
                return self.controller.describe_members();
            }
        }
    }
}

/// Sends a change to the node that leads. `NotController`: it surely was not made.
async fn send_change(link: &PeerLink, change: VoterChange, deadline: Instant) -> Result<(), ChangeVoterError> {
    let (adds, MemberKey { node_id, directory }) = match change {
        VoterChange::Add(key) => (true, key),
        VoterChange::Remove(key) => (false, key),
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
    match link.call(&ChangeVoterRequest { timeout_ms, adds, node_id, directory }, deadline).await {
        Ok(answer) if answer.error_code == ErrorCode::NOT_CONTROLLER => Err(ChangeVoterError::NotController),
        Ok(answer) if answer.error_code.is_error() => {
            let message = answer.error_message.unwrap_or_default();
            Err(ChangeVoterError::Refused(Refusal { code: answer.error_code, message }))
        }
        Ok(_) => Ok(()),
        Err(error @ (PeerError::TimedOut { .. } | PeerError::Lost(_))) => {
            Err(ChangeVoterError::Unknown(error.to_string()))
        }
        Err(error) => {
            tracing::debug!(%error, "the active controller cannot be reached");
            Err(ChangeVoterError::NotController)
        }
    }
}
