//! Markers: the end of a transaction, written into each partition that it wrote to.
//!
//! A transaction whose end is recorded is always completed: markers that cannot be written are tried again until they
//! are, or until another broker coordinates the transaction. The partition of a topic that is gone needs none.
//!
//! Today every partition's leader is this broker; where it is another one, WriteTxnMarkers must be sent to it in place of
//! [`write_marker`].

use std::sync::Arc;
use std::time::Duration;

use esker_core::internal_topics::OFFSETS_TOPIC;
use esker_core::transaction::{Action, Markers, Producer, TransactionShard};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use tokio::sync::mpsc;

use super::commit::wait_committed;
use super::marker::Marker;
use super::scope::CoordinatorScope;
use super::shard::{ShardAction, ShardHandle};
use crate::error::{KafkaError, coordinator_code, marker_code};
use crate::replica::TopicRef;

/// First and longest pause before markers are tried again.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// Writes a marker into a partition that this broker leads, and waits until it is committed.
pub async fn write_marker(scope: &CoordinatorScope, marker: &Marker, topic: &Str, index: i32) -> Result<(), ErrorCode> {
    let partition = scope.replicas.partition(&TopicRef::by_name(topic), index).map_err(|error| error.code())?;
    let role = partition.leader_for_epoch(-1).map_err(|error| error.code())?;
    if partition.topic() == OFFSETS_TOPIC {
        // Offsets that wait for the marker are the group coordinator's.
        let shard = scope.groups.shard_of(index).map_err(marker_code)?;
        let position = shard.end_transaction(marker).map_err(marker_code)?;
        let committed = wait_committed(shard.partition(), position.end, shard.leader_epoch()).await;
        return committed.map_err(|error| marker_code(coordinator_code(&error)));
    }
    let end = marker.append_to(&partition, scope.node.now_ms())?;
    wait_committed(&partition, end, role.assignment.leader_epoch).await.map_err(|error| error.code())
}

/// Carries out the actions of transactions until the broker stops.
pub(super) async fn carry_out_actions(
    scope: CoordinatorScope,
    mut actions: mpsc::UnboundedReceiver<ShardAction<TransactionShard>>,
) {
    while let Some((shard, action)) = actions.recv().await {
        let scope = scope.clone();
        match action {
            Action::WriteMarkers(markers) => drop(tokio::spawn(complete_transaction(scope, shard, markers))),
            Action::AbortLate(id) => drop(tokio::spawn(abort_late(scope, shard, id))),
        }
    }
}

/// Aborts a transaction that outlived its time-out and needs a producer id for that. If that fails, the timer retries.
async fn abort_late(scope: CoordinatorScope, shard: Arc<ShardHandle<TransactionShard>>, id: Str) {
    let aborted = match scope.producer_ids.next().await {
        Ok(fresh) => shard.write(|s| Ok((s.abort_late(&id, fresh, scope.node.now_ms()), ()))).map(|_| ()),
        Err(error) => Err(error),
    };
    if let Err(error) = aborted {
        tracing::warn!(%error, %id, "a transaction that timed out is not aborted yet: its producer id has no epoch left");
    }
}

/// Writes all markers of a transaction, then records that they are.
async fn complete_transaction(scope: CoordinatorScope, shard: Arc<ShardHandle<TransactionShard>>, markers: Markers) {
    let marker = Marker {
        producer_id: markers.producer_id,
        producer_epoch: markers.epoch,
        commit: markers.commit,
        coordinator_epoch: shard.leader_epoch(),
        version: markers.version,
    };
    let mut remaining: Vec<(Str, i32)> = Vec::new();
    for (topic, partitions) in &markers.topics {
        remaining.extend(partitions.iter().map(|partition| (topic.clone(), *partition)));
    }
    let mut pause = RETRY_AFTER;
    loop {
        remaining = write_all(&scope, &marker, remaining, &markers.id).await;
        if remaining.is_empty() {
            let producer = Producer { id: markers.producer_id, epoch: markers.epoch };
            match shard.write(|s| Ok((s.markers_written(&markers.id, producer, scope.node.now_ms()), ()))) {
                Ok(_) | Err(ErrorCode::NOT_COORDINATOR) => return,
                Err(error) => tracing::warn!(%error, id = %markers.id, "the end of a transaction is not recorded yet"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_AFTER_MAX);
        if shard.is_gone() {
            return;
        }
    }
}

/// Writes the markers; returns those that must be tried again.
async fn write_all(scope: &CoordinatorScope, marker: &Marker, wanted: Vec<(Str, i32)>, id: &Str) -> Vec<(Str, i32)> {
    let writes = wanted.iter().map(|(topic, partition)| write_marker(scope, marker, topic, *partition));
    let outcomes = futures_util::future::join_all(writes).await;
    let image = scope.image();
    let mut remaining = Vec::new();
    for ((topic, partition), outcome) in wanted.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => {}
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if image.topic(&topic).is_none() => {}
            // The partition saw a newer epoch of this producer, or a newer coordinator: its transaction has ended there.
            Err(error @ (ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::TRANSACTION_COORDINATOR_FENCED)) => {
                tracing::warn!(%error, %id, %topic, partition, "a transaction's marker is refused and left out");
            }
            Err(error) => {
                tracing::debug!(%error, %id, %topic, partition, "a transaction's marker is tried again");
                remaining.push((topic, partition));
            }
        }
    }
    remaining
}
