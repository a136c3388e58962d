//! Reassignments in progress: how far they are, and what they wait for.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion as boxed;
use esker_client::admin::Reassignment;
use esker_client::{Admin, Client, Error, ErrorCode, TopicPartition};
use esker_core::plan::{Blocker, Move, find_blocker};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
use super::observe::{assignments, sizes};
use super::throttle::clear_moves;

/// Partitions of one request.
pub(super) const PARTITIONS_AT_ONCE: usize = 1000;

/// A reassignment in progress.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReassignmentReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All its replicas, those that are added or removed among them.
    pub replicas: Vec<i32>,
    /// Replicas that are added.
    pub adding: Vec<i32>,
    /// Replicas that are removed.
    pub removing: Vec<i32>,
    /// Bytes that the added replicas have by now.
    pub copied_bytes: u64,
    /// Bytes that they will have.
    pub bytes: u64,
    /// What the reassignment waits for; null while it is about to complete.
    pub waits_for: Option<WaitsFor>,
}

/// What a reassignment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitsFor {
    /// `no_leader`, `broker_not_alive` or `catching_up`.
    pub reason: &'static str,
    /// The broker that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<i32>,
}

impl From<Blocker> for WaitsFor {
    fn from(blocker: Blocker) -> Self {
        match blocker {
            Blocker::NoLeader => Self { reason: "no_leader", broker: None },
            Blocker::NotAlive(broker) => Self { reason: "broker_not_alive", broker: Some(broker) },
            Blocker::CatchingUp(broker) => Self { reason: "catching_up", broker: Some(broker) },
        }
    }
}

/// Reports reassignments in progress, each with what it waits for.
#[boxed]
pub async fn list_reassignments(
    client: &Client,
    ongoing: Vec<Reassignment>,
) -> Result<Vec<(ReassignmentReport, Option<Blocker>)>, AdminError> {
    let partitions: Vec<TopicPartition> = ongoing.iter().map(|found| found.partition.clone()).collect();
    let now = assignments(client, &partitions).await?;
    let mut replicas: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for found in &ongoing {
        for broker in &found.replicas {
            replicas.entry(*broker).or_default().push(found.partition.clone());
        }
    }
    let sizes = sizes(client, &replicas).await;
    let cluster = client.cluster();
    let report = |found: Reassignment| {
        let is_alive = |id| cluster.brokers.contains_key(&id);
        let blocker = now.get(&found.partition).and_then(|assignment| find_blocker(assignment, is_alive));
        let size = |broker: &i32| sizes.get(&(*broker, found.partition.clone())).copied().unwrap_or_default();
        let largest = found.replicas.iter().map(size).max().unwrap_or_default();
        let report = ReassignmentReport {
            topic: found.partition.topic.to_string(),
            partition: found.partition.partition,
            copied_bytes: found.adding.iter().map(size).sum(),
            bytes: largest.saturating_mul(found.adding.len() as u64),
            waits_for: blocker.map(WaitsFor::from),
            replicas: found.replicas,
            adding: found.adding,
            removing: found.removing,
        };
        (report, blocker)
    };
    Ok(ongoing.into_iter().map(report).collect())
}

/// Checks that a reassignment has begun. A partition that was deleted meanwhile has nothing to move.
pub fn check_begun(tp: &TopicPartition, result: Result<(), Error>) -> Result<(), AdminError> {
    match result {
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(()),
        Err(error) => {
            Err(AdminError::Refused(format!("{tp} does not move: {error}; reassignments that were begun go on")))
        }
        Ok(()) => Ok(()),
    }
}

/// The move that a reassignment in progress carries out; `bytes` are those of one replica.
pub fn move_of(found: &Reassignment, bytes: u64) -> Move {
    Move {
        topic: found.partition.topic.clone(),
        partition: found.partition.partition,
        from: found.replicas.iter().copied().filter(|id| !found.adding.contains(id)).collect(),
        to: found.replicas.iter().copied().filter(|id| !found.removing.contains(id)).collect(),
        bytes,
    }
}

/// Cancels reassignments, and removes the limits of their copies; returns how many there were.
#[boxed]
pub async fn cancel_reassignments(admin: &Admin, partitions: &[TopicPartition]) -> Result<usize, AdminError> {
    let named: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let ongoing = admin.list_reassignments().await?;
    let moves: Vec<Move> =
        ongoing.iter().filter(|found| named.contains(&found.partition)).map(|found| move_of(found, 0)).collect();
    let targets: Vec<_> = partitions.iter().map(|tp| (tp.clone(), None)).collect();
    let mut count = 0;
    for targets in targets.chunks(PARTITIONS_AT_ONCE) {
        for ((tp, _), result) in targets.iter().zip(admin.alter_reassignments(targets).await?) {
            match result {
                Ok(()) => count += 1,
                // It has completed meanwhile.
                Err(error) if error.code() == Some(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS) => {}
                Err(error) => {
                    return Err(AdminError::Refused(format!("the reassignment of {tp} is not cancelled: {error}")));
                }
            }
        }
    }
    clear_moves(admin, &moves).await?;
    Ok(count)
}
