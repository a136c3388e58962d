//! The broker's side of its session: it says to the active controller that it is alive, and knows when it can no longer be sure to be taken for so.
//!
//! A broker that has had no answer for the time of its lease stops acknowledging: another may lead its partitions by then. The lease counts
//! from the sending of the last heartbeat that was answered, and ends before the controller's session can. A broker whose registration is not
//! the one that counts registers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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

/// The registration of this broker, and whether it may act on it.
#[derive(Debug)]
pub struct BrokerSession {
    epoch: AtomicI64,
    /// The lease has ended.
    isolated: AtomicBool,
    fenced: AtomicBool,
    stale: watch::Sender<bool>,
}

impl Default for BrokerSession {
    fn default() -> Self {
        Self {
            epoch: AtomicI64::new(-1),
            isolated: AtomicBool::new(true),
            fenced: AtomicBool::new(true),
            stale: watch::Sender::new(false),
        }
    }
}

impl BrokerSession {
    /// The broker is registered under this epoch.
    pub fn registered(&self, epoch: i64, fenced: bool) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.fenced.store(fenced, Ordering::SeqCst);
        self.isolated.store(false, Ordering::SeqCst);
        self.stale.send_replace(false);
    }

    /// The epoch of the registration, -1 before it.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Whether the lease has ended: nothing may be acknowledged.
    pub fn is_isolated(&self) -> bool {
        self.isolated.load(Ordering::Relaxed)
    }

    /// Whether the controller said so last.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Waits until the registration is not the one that counts any more.
    pub async fn stale(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.stale.subscribe().wait_for(|stale| *stale).await;
    }
}

/// Where heartbeats go, kept from one to the next.
struct Way {
    controller: Arc<Controller>,
    link: Option<(RaftId, PeerLink)>,
}

impl Way {
    async fn beat(
        &mut self,
        view: &QuorumView,
        request: &HeartbeatRequest,
        deadline: Instant,
    ) -> Option<HeartbeatResponse> {
        let leader = view.leader?;
        if view.is_leading() {
            let local = self.controller.local();
            let peer =
                PeerId { node_id: leader.node_id, directory: local.directory(), incarnation: local.incarnation() };
            return tokio::time::timeout_at(deadline, self.controller.heartbeat(peer, request)).await.ok();
        }
        let address = view.leader_address()?;
        if self.link.as_ref().is_none_or(|(id, link)| *id != leader || link.address() != address) {
            let target = (leader.node_id, Uuid(leader.directory));
            let (node, local) = (self.controller.node(), self.controller.local());
            self.link = Some((leader, PeerLink::new(node, local, target, address, Lane::Control)));
        }
        let (_, link) = self.link.as_ref()?;
        match link.call(request, deadline).await {
            Ok(answer) => Some(answer),
            Err(error @ (PeerError::Refused { .. } | PeerError::NoCluster)) => {
                tracing::warn!(%error, "the active controller does not take this broker");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "a heartbeat has no answer");
                None
            }
        }
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
    let mut quorum = controller.metadata().quorum();
    let origin = Instant::now();
    // The registration was answered a moment ago.
    lease.renewed(Duration::ZERO);
    let mut way = Way { controller: Arc::clone(&controller), link: None };
    loop {
        let sent = Instant::now();
        let view = quorum.borrow_and_update().clone();
        if view.is_alone() {
            // It is its own controller, and nobody else could lead.
            lease.renewed(sent.saturating_duration_since(origin));
            session.isolated.store(false, Ordering::SeqCst);
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
            _ => way.beat(&view, &request, sent + config.broker_session_timeout).await,
        };
        match answered.as_ref().map(|answer| answer.error_code) {
            Some(ErrorCode::NONE) => {
                lease.renewed(sent.saturating_duration_since(origin));
                session.fenced.store(answered.is_some_and(|answer| answer.fenced), Ordering::SeqCst);
            }
            Some(ErrorCode::STALE_BROKER_EPOCH) => {
                session.stale.send_replace(true);
            }
            _ => {}
        }
        let isolated = !lease.holds(origin.elapsed());
        if session.isolated.swap(isolated, Ordering::SeqCst) != isolated {
            match isolated {
                true => tracing::warn!("the active controller cannot be reached: nothing is acknowledged until it is"),
                false => tracing::info!("the active controller knows this broker"),
            }
        }
        // While it is fenced, each new state of its metadata may end that.
        let pause = if session.is_fenced() { interval.min(Duration::from_millis(10)) } else { interval };
        let next = sent + pause;
        // A new leader is told at once: it knows of no heartbeat yet.
        if let Ok(Err(_)) = tokio::time::timeout_at(next.max(Instant::now()), quorum.changed()).await {
            // The quorum's tasks have ended: so does this broker.
            session.isolated.store(true, Ordering::SeqCst);
            return;
        }
    }
}
