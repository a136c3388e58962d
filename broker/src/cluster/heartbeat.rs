//! The broker's side of its session: it says to the active controller that it is alive, and knows when it can no longer be sure to be taken for so.
//!
//! A broker that has had no answer for the time of its lease stops acknowledging: another may lead its partitions by then. The lease counts
//! from the sending of the last heartbeat that was answered, and ends before the controller's session can. A broker whose registration is not
//! the one that counts registers again.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::Lease;
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use tokio::sync::watch;
use tokio::time::Instant;

use super::controller::Controller;
use crate::peer::messages::{HeartbeatRequest, HeartbeatResponse};
use crate::peer::{Lane, PeerError, PeerId, PeerLink};
use crate::raft::{QuorumView, RaftId};
use crate::session::BrokerSession;
use crate::telemetry::RepeatLimiter;

/// Where heartbeats go, kept from one to the next.
struct Way {
    controller: Arc<Controller>,
    link: Option<(RaftId, PeerLink)>,
    refusals: RepeatLimiter,
}

impl Way {
    /// The answer, or why there is none.
    async fn beat(
        &mut self,
        view: &QuorumView,
        request: &HeartbeatRequest,
        deadline: Instant,
    ) -> Result<HeartbeatResponse, String> {
        let leader = view.leader.ok_or("the metadata quorum has no leader")?;
        if view.is_leading() {
            let local = self.controller.local();
            let peer =
                PeerId { node_id: leader.node_id, directory: local.directory(), incarnation: local.incarnation() };
            let beat = tokio::time::timeout_at(deadline, self.controller.heartbeat(peer, request)).await;
            return beat.map_err(|_| "this node does not answer itself in time".to_owned());
        }
        let address = view.leader_address().ok_or("its address is not known")?;
        if self.link.as_ref().is_none_or(|(id, link)| *id != leader || link.address() != address) {
            let target = (leader.node_id, Uuid(leader.directory));
            let (node, local) = (self.controller.node(), self.controller.local());
            self.link = Some((leader, PeerLink::new(node, local, target, address, Lane::Control)));
        }
        let (_, link) = self.link.as_ref().ok_or("there is no link to it")?;
        link.call(request, deadline).await.map_err(|error| {
            if matches!(error, PeerError::Refused { .. } | PeerError::NoCluster)
                && let Some(left_out) = self.refusals.admit(&error.to_string(), Instant::now())
            {
                tracing::warn!(%error, left_out = left_out.field(), "the active controller does not take this broker");
            }
            tracing::debug!(%error, "a heartbeat has no answer");
            error.reason()
        })
    }
}

/// Sends heartbeats until it is dropped. Runs beside no client.
pub async fn run_heartbeats(
    controller: Arc<Controller>,
    session: Arc<BrokerSession>,
    applied: watch::Receiver<Arc<MetadataImage>>,
) {
    let config = Arc::clone(controller.node().config());
    let (interval, mut lease) = (config.broker_heartbeat_interval, Lease::of_session(config.broker_session_timeout));
    let lease_time = config.broker_session_timeout * 4 / 5;
    let mut quorum = controller.metadata().quorum();
    let mut was_isolated = true;
    let mut way = Way { controller: Arc::clone(&controller), link: None, refusals: RepeatLimiter::default() };
    loop {
        let (sent, sent_at) = (Instant::now(), session.now());
        let view = quorum.borrow_and_update().clone();
        // Alone after others were there, it is fenced at first as any broker, and lifts that by a heartbeat to itself.
        if view.is_alone() && !session.is_fenced() {
            // It is its own controller, and nobody else could lead.
            lease.renewed(sent_at);
            session.set_lease(end_of(&lease, &view));
            if quorum.changed().await.is_err() {
                return;
            }
            continue;
        }
        let request = HeartbeatRequest {
            node_id: controller.node().id(),
            epoch: session.epoch(),
            applied: i64::try_from(applied.borrow().offset()).unwrap_or(i64::MAX),
        };
        let answered = match request.epoch {
            ..0 => None,
            // A heartbeat to a leader that is none any more must not keep the next one from the new leader.
            _ => tokio::select! {
                biased;
                answered = way.beat(&view, &request, sent + lease_time) => Some(answered),
                _ = quorum.wait_for(|now| now.has_other_leader(&view)) => None,
            },
        };
        if let Some(answered) = answered {
            let applied = applied.borrow().offset();
            record_answer(&session, (answered, applied), &mut lease, sent_at);
        }
        // Whatever the answer: a lease without an end does not outlast the time alone.
        session.set_lease(end_of(&lease, &quorum.borrow()));
        let isolated = session.is_isolated();
        if std::mem::replace(&mut was_isolated, isolated) != isolated {
            match isolated {
                true => {
                    let controller = session.contact(&view);
                    let why = if session.is_fenced() { "fenced" } else { "no answer within the lease" };
                    tracing::warn!(why, %controller, "this broker is isolated: nothing is acknowledged");
                }
                false => tracing::info!("the active controller knows this broker"),
            }
        }
        // While it is fenced, each new state of its metadata may end that.
        let pause = if session.is_fenced() { interval.min(Duration::from_millis(10)) } else { interval };
        let next = sent + pause;
        // A new leader gets a heartbeat at once: it knows of none yet. New voters may elect another.
        let voters = view.voters().count();
        let other = quorum.wait_for(|now| now.has_other_leader(&view) || now.voters().count() != voters);
        if let Ok(Err(_)) = tokio::time::timeout_at(next.max(Instant::now()), other).await {
            // The quorum's tasks have ended: so does this broker.
            return session.set_lease(None);
        }
    }
}

/// Takes in the answer to the heartbeat that was sent at `sent_at`, or why there is none.
fn record_answer(
    session: &BrokerSession,
    (answered, applied): (Result<HeartbeatResponse, String>, u64),
    lease: &mut Lease,
    sent_at: Duration,
) {
    let failure = match answered {
        Ok(answer) if !answer.error_code.is_error() => {
            session.set_controller_offset(u64::try_from(answer.offset).unwrap_or_default(), applied);
            session.set_fenced(answer.fenced);
            // Others lead the partitions of a fenced broker, and its metadata may not say so yet.
            match answer.fenced {
                true => lease.release(),
                false => lease.renewed(sent_at),
            }
            None
        }
        Ok(answer) => {
            if answer.error_code == ErrorCode::STALE_BROKER_EPOCH {
                lease.release();
                session.set_stale();
            }
            Some(format!("it answers {}", answer.error_code))
        }
        Err(why) => Some(why),
    };
    session.set_failure(failure);
}

/// When the lease ends. It has no end while this node is the only voter of the metadata quorum: no other node could fence it.
fn end_of(lease: &Lease, view: &QuorumView) -> Option<Duration> {
    let is_alone = view.is_leading() && view.voters().count() == 1;
    if is_alone { Some(Duration::MAX) } else { lease.expires_at() }
}
