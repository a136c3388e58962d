//! Fills the quorum: the first nodes of a cluster become voters by themselves, up to `controller.quorum.size`.
//!
//! The number of voters stays odd: a second voter alone would make the cluster stop with either of the two. A voter that was removed on command
//! stays removed. Must never: take a vote away; that is an operator's decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker_core::metadata::MetadataImage;
use esker_protocol::primitives::Uuid;
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use crate::raft::{QuorumView, RaftId, wait_to_lead};

/// How often the quorum is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(10);
/// A node that is at most so many entries behind has caught up: the rest comes while it joins.
const CAUGHT_UP: u64 = 100;

/// Runs until it is dropped.
pub async fn run_voters(controller: Arc<Controller>) {
    let size = controller.node().config().quorum_size;
    let mut quorum = controller.metadata().quorum();
    loop {
        if !wait_to_lead(&mut quorum).await {
            return;
        }
        let view = quorum.borrow_and_update().clone();
        let next = next_voters(&view, &controller.metadata().image(), size);
        if view.changing {
            // Its leader went between the two steps of a change: an empty one ends it.
            match controller.metadata().add_voters(BTreeSet::new(), Instant::now() + CHANGE).await {
                Ok(()) => {
                    tracing::info!("nodes have become voters of the metadata quorum, as an earlier leader began it")
                }
                Err(error) => tracing::warn!(%error, "a change of the metadata quorum is not ended yet"),
            }
        } else if !next.is_empty() {
            let ids: Vec<String> = next.iter().map(RaftId::to_string).collect();
            match controller.metadata().add_voters(next, Instant::now() + CHANGE).await {
                Ok(()) => tracing::info!(voters = ids.join(", "), "nodes have become voters of the metadata quorum"),
                Err(error) => tracing::warn!(%error, "nodes do not become voters of the metadata quorum yet"),
            }
        }
        match view.is_alone() {
            true if quorum.changed().await.is_err() => return,
            true => {}
            false => sleep(EVERY).await,
        }
    }
}

/// The nodes that become voters now: as many as an odd number of voters up to `size` takes.
fn next_voters(view: &QuorumView, image: &MetadataImage, size: usize) -> BTreeSet<RaftId> {
    let voters = view.voters().count();
    if view.changing || voters >= size {
        return BTreeSet::new();
    }
    let is_ready = |id: &RaftId, entries: Option<u64>| {
        let live = image.broker(id.node_id).is_some_and(|broker| broker.is_active());
        let caught_up = entries.is_some_and(|entries| entries + CAUGHT_UP >= view.entries);
        live && caught_up && !image.is_removed_voter(Uuid(id.directory))
    };
    let ready: BTreeSet<RaftId> = view
        .members
        .iter()
        .filter(|member| !member.votes && !member.address.is_empty() && is_ready(&member.id, member.entries))
        .map(|member| member.id)
        .collect();
    let most = size.min(voters + ready.len());
    let odd = if most.is_multiple_of(2) { most - 1 } else { most };
    ready.into_iter().take(odd.saturating_sub(voters)).collect()
}
