//! Keeps the members of the quorum in order: the first nodes of a cluster become voters by themselves, up to `controller.quorum.size`, the
//! place of a node that lost its disk ends when the node has joined again, and a member that is not to vote leaves, since it pulls the log.
//!
//! What changes is `esker_core::controller`'s rule (`next_member_change`). Must never: take a vote away without putting another in its place; that is
//! an operator's decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{MemberChange, next_member_change};
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use super::members::{id_of, quorum_of};
use crate::raft::{MembershipError, RaftId, wait_to_lead};

/// How often the quorum is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub async fn run_voters(controller: Arc<Controller>) {
    let size = controller.node().config().quorum_size;
    let (mut quorum, mut images) = (controller.metadata().quorum(), controller.metadata().subscribe());
    loop {
        if !wait_to_lead(&mut quorum).await {
            return;
        }
        let is_alone = quorum.borrow_and_update().is_alone() && images.borrow_and_update().brokers().count() <= 1;
        match change_members(&controller, size).await {
            // The next step may be due.
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the members of the metadata quorum do not change yet"),
        }
        if !is_alone {
            sleep(EVERY).await;
            continue;
        }
        let ended = tokio::select! {
            biased;
            changed = quorum.changed() => changed.is_err(),
            changed = images.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Makes the change that is due; whether there was one.
async fn change_members(controller: &Controller, size: usize) -> Result<bool, MembershipError> {
    let metadata = controller.metadata();
    // A command changes them. A leader whose image lacks committed records does not know which voters were removed.
    let Ok(_changing) = controller.member_changes().try_lock() else { return Ok(false) };
    if !metadata.has_applied_own_term() {
        return Ok(false);
    }
    let deadline = Instant::now() + CHANGE;
    let view = controller.view();
    if view.changing {
        // Its leader went between the two steps of a change: an empty one ends it.
        metadata.add_voters(BTreeSet::new(), deadline).await?;
        tracing::info!("nodes have become voters of the metadata quorum, as an earlier leader began it");
        return Ok(true);
    }
    let members = controller.members(&view);
    let Some(quorum) = quorum_of(&view, &members) else { return Ok(false) };
    match next_member_change(&metadata.image(), quorum, size) {
        None => return Ok(false),
        Some(MemberChange::RemoveLearner(key)) => {
            metadata.remove_learner(id_of(key), deadline).await?;
            tracing::info!(member = %id_of(key), "a member without a vote leaves the metadata quorum: its node pulls the log, or has another disk");
        }
        Some(MemberChange::AddLearners(keys)) => controller.add_learners(keys, deadline).await?,
        Some(MemberChange::ReplaceVoter { outdated, current }) => {
            metadata.replace_voter(id_of(outdated), id_of(current), deadline).await?;
            let (outdated, current) = (id_of(outdated), id_of(current));
            tracing::info!(%outdated, %current, "a voter's vote goes to the new disk of its node");
        }
        Some(MemberChange::AddVoters(keys)) => {
            let ids: BTreeSet<RaftId> = keys.into_iter().map(id_of).collect();
            let voters = ids.iter().map(RaftId::to_string).collect::<Vec<_>>().join(", ");
            metadata.add_voters(ids, deadline).await?;
            tracing::info!(voters, "nodes have become voters of the metadata quorum");
        }
    }
    Ok(true)
}
