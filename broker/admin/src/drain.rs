//! Draining a node by requests that need no process behind them: each begins reassignments, which the cluster carries out by itself.

use std::time::Duration;

use async_recursion::async_recursion as boxed;
use esker_client::{Admin, Client, TopicPartition};
use esker_core::plan::plan_drain;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::error::AdminError;
use super::nodes::set_cordoned;
use super::reassignments::{PARTITIONS_AT_ONCE, ReassignmentReport, check_begun, list_reassignments};
use super::survey::Survey;

/// A broker applies its own config a moment after the cluster knows it.
const CORDON_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// Reassignments that a report lists.
const LISTED: usize = 100;

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// The node gets new replicas: it is not drained.
    InService,
    /// The node gets no new replicas, and none are moving off it.
    Cordoned,
    /// Replicas are moving off the node.
    Draining,
    /// The node has no replicas, and gets none.
    Drained,
}

/// A node that is drained.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DrainReport {
    /// The node.
    pub node_id: i32,
    /// How far the drain is.
    pub state: DrainState,
    /// Replicas on the node, those that are moving off among them.
    pub replicas: usize,
    /// Reassignments in progress that move replicas off the node.
    pub in_progress: usize,
    /// Replicas whose reassignments have not begun: begin them by another request.
    pub not_begun: usize,
    /// The first of the reassignments in progress.
    pub reassignments: Vec<ReassignmentReport>,
}

/// Begins to drain a node: cordons it, and begins reassignments until `at_once` are in progress. The same request again begins those that
/// are left.
#[boxed]
pub async fn begin_drain(client: &Client, node_id: i32, at_once: usize) -> Result<DrainReport, AdminError> {
    let admin = Admin::new(client);
    let mut survey = Survey::read(client).await?;
    // Nothing is cordoned where the rest of the cluster cannot take the replicas.
    plan_drain(&survey.layout, node_id)?;
    if !survey.facts(node_id).cordoned {
        set_cordoned(&admin, node_id, true).await?;
        survey = wait_cordoned(client, node_id).await?;
    }
    let moves = plan_drain(&survey.layout, node_id)?;
    let room = at_once.saturating_sub(count_in_progress(&survey, node_id));
    let wave: Vec<(TopicPartition, Option<Vec<i32>>)> =
        moves.into_iter().take(room).map(|one| (TopicPartition::new(one.topic, one.partition), Some(one.to))).collect();
    for targets in wave.chunks(PARTITIONS_AT_ONCE) {
        for ((tp, _), result) in targets.iter().zip(admin.alter_reassignments(targets).await?) {
            check_begun(tp, result)?;
        }
    }
    read_drain(client, node_id).await
}

/// How far the drain of a node is.
#[boxed]
pub async fn read_drain(client: &Client, node_id: i32) -> Result<DrainReport, AdminError> {
    let survey = Survey::read(client).await?;
    let facts = survey.facts(node_id);
    if !facts.registered {
        return Err(AdminError::Missing(format!("the cluster has no broker {node_id}")));
    }
    let in_progress = count_in_progress(&survey, node_id);
    let not_begun = survey.layout.partitions.iter().filter(|found| found.replicas.contains(&node_id)).count();
    let leaving = survey.reassignments.into_iter().filter(|found| found.removing.contains(&node_id));
    let listed = list_reassignments(client, leaving.take(LISTED).collect()).await?;
    Ok(DrainReport {
        node_id,
        state: state_of(facts.cordoned, facts.replicas, in_progress),
        replicas: facts.replicas,
        in_progress,
        not_begun,
        reassignments: listed.into_iter().map(|(report, _)| report).collect(),
    })
}

fn state_of(cordoned: bool, replicas: usize, in_progress: usize) -> DrainState {
    match (cordoned, replicas, in_progress) {
        (_, _, 1..) => DrainState::Draining,
        (true, 0, _) => DrainState::Drained,
        (true, ..) => DrainState::Cordoned,
        (false, ..) => DrainState::InService,
    }
}

fn count_in_progress(survey: &Survey, node_id: i32) -> usize {
    survey.reassignments.iter().filter(|found| found.removing.contains(&node_id)).count()
}

/// A broker that does not run is not placed on, cordoned or not.
async fn wait_cordoned(client: &Client, node_id: i32) -> Result<Survey, AdminError> {
    let deadline = Instant::now() + CORDON_WAIT;
    loop {
        let survey = Survey::read(client).await?;
        let facts = survey.facts(node_id);
        if facts.cordoned || !facts.alive {
            return Ok(survey);
        }
        if Instant::now() >= deadline {
            return Err(AdminError::Refused(format!(
                "node {node_id} is cordoned, but its broker has not applied it yet: send the request again"
            )));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_drain() {
        for (cordoned, replicas, in_progress, expected) in [
            (false, 0, 0, DrainState::InService),
            (false, 5, 0, DrainState::InService),
            (true, 5, 0, DrainState::Cordoned),
            (true, 5, 2, DrainState::Draining),
            (true, 0, 0, DrainState::Drained),
        ] {
            assert_eq!(state_of(cordoned, replicas, in_progress), expected, "{cordoned} {replicas} {in_progress}");
        }
    }
}
