//! Ends the sessions of brokers that are gone, while this node is the active controller.
//!
//! A session ends when no heartbeat came for `broker.session.timeout.ms`. A process that died is known at once: the controller keeps a
//! connection to each broker, and when it breaks, and nothing listens at the broker's address any more, the session ends there. All else that
//! breaks a connection is left to the session, and so is a broker whose heartbeats go on although its address refuses this node. Must never: fence
//! on a broken connection alone, or fence a living broker time and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{FenceBroker, SettleMinIsr};
use esker_core::metadata::{BrokerImage, MetadataImage};
use esker_protocol::primitives::Uuid;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::controller::{Controller, TICK};
use super::locations::locate;
use crate::controller::{Committed, submit};
use crate::peer::{Lane, PeerError, PeerLink};
use crate::raft::wait_to_lead;
use crate::task::spawn;
use crate::telemetry::RepeatLimiter;

/// How long a broker may take to answer a new connection.
const CONNECT: Duration = Duration::from_millis(500);
/// And the first one after a connection to it broke, doubled with each attempt: a listener that is being closed, since its process was killed, may
/// drop a SYN, which would be sent again after a second.
const FIRST_CONNECT: Duration = Duration::from_millis(50);
/// Between attempts to connect to a broker that cannot be reached and is not known to be gone.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the quorum may take to commit a fencing.
const FENCE: Duration = Duration::from_secs(5);

/// Connections to brokers, by node id; each is for one incarnation.
type Probes = BTreeMap<i32, (Uuid, AbortOnDropHandle<()>)>;

/// Runs until it is dropped.
pub async fn run_fencer(controller: Arc<Controller>) {
    let (mut quorum, mut images) = (controller.metadata().quorum(), controller.metadata().subscribe());
    loop {
        if !wait_to_lead(&mut quorum).await {
            return;
        }
        let _settling = AbortOnDropHandle::new(spawn(settle_min_isr(Arc::clone(&controller))));
        let image = controller.metadata().image();
        // An incarnation of this node's own broker before this one is dead.
        let (own, current) = (controller.node().id(), controller.local().incarnation());
        let alive = image.live_brokers().filter(|broker| broker.node_id != own || broker.incarnation == current);
        let alive = alive.map(|broker| (broker.node_id, broker.epoch)).collect::<Vec<_>>();
        let now = controller.now();
        controller.sessions(|sessions| sessions.begin_leading(now, alive.iter().copied()));
        let (mut probes, refusals) = (Probes::new(), RepeatLimiter::default());
        while quorum.has_changed().is_ok() && quorum.borrow_and_update().is_leading() {
            // The only member that is left after a recovery still has to fence the brokers of the others.
            let is_only_broker = images.borrow_and_update().live_brokers().all(|broker| broker.node_id == own);
            if quorum.borrow().is_alone() && is_only_broker {
                let ended = tokio::select! {
                    biased;
                    changed = quorum.changed() => changed.is_err(),
                    changed = images.changed() => changed.is_err(),
                };
                if ended {
                    return;
                }
                continue;
            }
            probe_brokers(&controller, &controller.metadata().image(), &mut probes);
            fence_expired(&controller, &refusals).await;
            let tick = Instant::now() + TICK;
            let _ = timeout_at(tick, controller.session_ended()).await;
        }
    }
}

/// Clusters of an earlier build have no minimum of their own. Tries until it is settled.
async fn settle_min_isr(controller: Arc<Controller>) {
    let ask = SettleMinIsr { configs: controller.configs() };
    while let Err(error) = submit(controller.metadata().as_ref(), ask.clone(), Instant::now() + FENCE).await {
        tracing::debug!(%error, "the cluster's min.insync.replicas is not settled yet");
        tokio::time::sleep(FENCE).await;
    }
}

async fn fence_expired(controller: &Arc<Controller>, refusals: &RepeatLimiter) {
    let (now, own) = (controller.now(), controller.node().id());
    let image = controller.metadata().image();
    let current = controller.local().incarnation();
    let live = image.live_brokers().filter(|broker| broker.node_id != own || broker.incarnation == current);
    let live: Vec<_> = live.map(|broker| (broker.node_id, broker.epoch)).collect();
    let expired = controller.sessions(|sessions| {
        sessions.track(now, live.iter().copied());
        // A controller that runs is alive, and so is its broker.
        for (_, epoch) in live.iter().filter(|(node_id, _)| *node_id == own) {
            sessions.heartbeat(now, own, *epoch);
        }
        sessions.expired(now)
    });
    for (node_id, epoch) in expired {
        let is_current = |broker: &&BrokerImage| !broker.fenced && broker.epoch == epoch;
        if image.broker(node_id).filter(is_current).is_none() {
            controller.sessions(|sessions| sessions.remove(node_id, epoch));
            continue;
        }
        let ask = FenceBroker { node_id, epoch, configs: controller.configs() };
        match submit(controller.metadata().as_ref(), ask, Instant::now() + FENCE).await {
            Ok(Committed { reply, .. }) => {
                controller.forget_fenced(node_id);
                let silent = controller.sessions(|sessions| {
                    let silent = sessions.silent_for(controller.now(), node_id);
                    sessions.remove(node_id, epoch);
                    silent
                });
                if matches!(reply, Ok(true)) {
                    let at_ms = controller.node().now_ms();
                    controller.metadata().metrics().record_fail_over(node_id, at_ms, silent.unwrap_or_default());
                    tracing::warn!(node = node_id, epoch, "a broker is fenced: its session ended");
                }
            }
            Err(error) => {
                if let Some(left_out) = refusals.admit(&format!("{node_id}: {error}"), Instant::now()) {
                    tracing::warn!(node = node_id, %error, left_out = left_out.field(), "a broker whose session ended cannot be fenced yet");
                }
            }
        }
    }
}

/// Keeps one probe for each broker that is not fenced, in its current incarnation.
fn probe_brokers(controller: &Arc<Controller>, image: &MetadataImage, probes: &mut Probes) {
    let own = controller.node().id();
    let wanted = |node_id: i32| image.broker(node_id).filter(|broker| !broker.fenced && node_id != own);
    let now = controller.now();
    let is_alive = |node_id: i32| controller.sessions(|sessions| sessions.is_alive(now, node_id));
    probes.retain(|node_id, (incarnation, probe)| {
        // One that took its broker for gone begins anew where the broker's heartbeats go on.
        let is_mistaken = probe.is_finished() && is_alive(*node_id);
        wanted(*node_id).is_some_and(|broker| broker.incarnation == *incarnation) && !is_mistaken
    });
    for broker in image.live_brokers().filter(|broker| broker.node_id != own) {
        if probes.contains_key(&broker.node_id) {
            continue;
        }
        let Some(location) = locate(&controller.metadata().quorum().borrow(), image, broker.node_id) else { continue };
        let link =
            PeerLink::new(controller.node(), controller.local(), location.target, &location.address, Lane::Control);
        let probe = probe(Arc::clone(controller), link, (broker.node_id, broker.epoch), broker.incarnation);
        probes.insert(broker.node_id, (broker.incarnation, AbortOnDropHandle::new(spawn(probe))));
    }
}

/// Says to an observer that this node leads: the observer learns of an election within milliseconds, also while the leader before hangs.
async fn announce(controller: &Controller, link: &PeerLink, node_id: i32) {
    if controller.metadata().quorum().borrow().voters().any(|voter| voter.id.node_id == node_id) {
        return;
    }
    if let Some(announcement) = controller.raft().announcement()
        && let Err(error) = link.call(&announcement, Instant::now() + CONNECT).await
    {
        tracing::debug!(node = node_id, %error, "an observer does not answer the announcement of the leader");
    }
}

/// Watches one incarnation of a broker until it is known to be gone.
async fn probe(controller: Arc<Controller>, link: PeerLink, (node_id, epoch): (i32, i64), incarnation: Uuid) {
    let (mut is_known, mut patience) = (false, CONNECT);
    loop {
        let deadline = Instant::now() + patience;
        patience = (patience * 2).min(CONNECT);
        match link.connect(deadline).await {
            Ok((_, peer)) if peer.incarnation != incarnation => {
                tracing::info!(node = node_id, "a broker has started anew: the session of the one before ends");
                return controller.end_session(node_id, epoch);
            }
            Ok((connection, _)) => {
                is_known = false;
                controller.sessions(|sessions| sessions.note_reached(node_id, epoch));
                announce(&controller, &link, node_id).await;
                let why = connection.closed().await;
                patience = FIRST_CONNECT;
                tracing::debug!(node = node_id, %why, "the connection to a broker ended");
            }
            Err(PeerError::NotListening { address }) => {
                if controller.end_refused_session(node_id, epoch) {
                    tracing::info!(node = node_id, address, "nothing listens at a broker's address: its session ends");
                    return;
                }
                if !std::mem::replace(&mut is_known, true) {
                    tracing::warn!(
                        node = node_id,
                        address,
                        "a broker sends heartbeats, and its address refuses connections of this node: its advertised.listeners, or a firewall, keep other nodes from it"
                    );
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                tracing::debug!(node = node_id, %error, "a broker cannot be reached");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
