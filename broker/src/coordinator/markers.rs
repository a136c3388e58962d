//! Markers: the end of a transaction, written into each partition that it wrote to.
//!
//! A transaction whose end is recorded is always completed: markers that cannot be written are tried again until they
//! are, or until another broker coordinates the transaction. The partition of a topic that is gone needs none.
//!
//! The leader of a partition may be another broker: its markers are sent there, in batches ([`super::remote`]). An attempt ends when the leadership
//! moves, and the next one follows at once.
//!
//! Must never: record the end of a transaction before each of its markers is committed, or its partition is gone.

use std::sync::Arc;
use std::time::Duration;

use esker_core::internal_topics::OFFSETS_TOPIC;
use esker_core::metadata::MetadataImage;
use esker_core::transaction::{Action, Markers, Producer, TransactionShard};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::commit::wait_committed;
use super::location::Location;
use super::marker::Marker;
use super::remote::MarkerWrite;
use super::routing::moved;
use super::scope::CoordinatorScope;
use super::shard::{ShardAction, ShardHandle};
use crate::error::{KafkaError, coordinator_code, marker_code};
use crate::replica::TopicRef;
use crate::task::spawn;
use crate::trace::Span;

/// First and longest pause before markers are tried again.
const RETRY_AFTER: Duration = Duration::from_millis(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// Writes a marker into a partition that this broker leads, and waits until it is committed.
pub async fn write_marker(scope: &CoordinatorScope, marker: &Marker, topic: &Str, index: i32) -> Result<(), ErrorCode> {
    let partition = scope.replicas.partition(&TopicRef::by_name(topic), index).map_err(|error| error.code())?;
    let leader_epoch = partition.leader_for_epoch(-1).map_err(|error| error.code())?.assignment.leader_epoch;
    if partition.topic() == OFFSETS_TOPIC {
        // Offsets that wait for the marker are the group coordinator's.
        let shard = scope.groups.shard_of(index).map_err(marker_code)?;
        let position = shard.end_transaction(marker).map_err(marker_code)?;
        let committed = wait_committed(shard.partition(), position.end, shard.leader_epoch()).await;
        return committed.map_err(|error| marker_code(coordinator_code(&error)));
    }
    let end = marker.append_to(&partition, leader_epoch, scope.node.now_ms())?;
    wait_committed(&partition, end, leader_epoch).await.map_err(|error| error.code())
}

/// Carries out the actions of transactions until the broker stops.
pub(super) async fn carry_out_actions(
    scope: CoordinatorScope,
    mut actions: mpsc::UnboundedReceiver<ShardAction<TransactionShard>>,
) {
    while let Some((shard, action)) = actions.recv().await {
        let scope = scope.clone();
        match action {
            Action::WriteMarkers(markers) => drop(spawn(complete_transaction(scope, shard, markers))),
            Action::AbortLate(id) => drop(spawn(abort_late(scope, shard, id))),
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
    let span = scope.transactions.begin_markers(&markers.id);
    let cause = span.as_ref().map(Span::context);
    let marker = Marker {
        producer_id: markers.producer_id,
        producer_epoch: markers.epoch,
        commit: markers.commit,
        coordinator_epoch: shard.leader_epoch(),
        version: markers.version,
    };
    let mut writes: Vec<BoxFuture<'_, Outcome>> = Vec::new();
    for (topic, partitions) in &markers.topics {
        for partition in partitions.iter().copied() {
            let (scope, shard, marker, id) = (&scope, &shard, &marker, &markers.id);
            let marked = MarkedPartition { own_id: scope.node.id(), topic, partition, id, first_pause: RETRY_AFTER };
            let mut leaderless = None;
            let attempt = move |location| {
                // Counted until the next attempt.
                let waits = matches!(location, Location::Leaderless);
                leaderless.take();
                leaderless = waits.then(|| scope.transactions.marker_queues().count_leaderless());
                let write = MarkerWrite { marker: *marker, topic: topic.clone(), partition, cause };
                write_at(scope, write, location)
            };
            writes.push(write_until_done(scope.images.clone(), marked, attempt, || shard.is_gone()).boxed());
        }
    }
    let outcomes = futures_util::future::join_all(writes).await;
    if outcomes.contains(&Outcome::Abandoned) {
        if let Some(span) = span {
            span.set_failed();
        }
        return;
    }
    let producer = Producer { id: markers.producer_id, epoch: markers.epoch };
    let mut pause = RETRY_AFTER;
    loop {
        match shard.write(|s| Ok((s.markers_written(&markers.id, producer, scope.node.now_ms()), ()))) {
            Ok(_) | Err(ErrorCode::NOT_COORDINATOR) => return scope.transactions.notify_end(&markers.id),
            Err(error) => tracing::warn!(%error, id = %markers.id, "the end of a transaction is not recorded yet"),
        }
        let _counted = scope.transactions.marker_queues().count_unrecorded();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_AFTER_MAX);
        if shard.is_gone() {
            return;
        }
    }
}

/// One attempt to write a marker where the partition's leader is.
async fn write_at(scope: &CoordinatorScope, write: MarkerWrite, location: Location) -> Result<(), ErrorCode> {
    match location {
        Location::Here { .. } => write_marker(scope, &write.marker, &write.topic, write.partition).await,
        Location::Broker { node_id, .. } => {
            let (topic, partition) = (write.topic.clone(), write.partition);
            let answer = scope.remote.write_marker(node_id, write);
            tokio::select! {
                biased;
                code = answer => if code.is_error() { Err(code) } else { Ok(()) },
                () = moved(scope.images.clone(), scope.node.id(), &topic, partition, location) => {
                    Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
                }
            }
        }
        Location::Leaderless => Err(ErrorCode::LEADER_NOT_AVAILABLE),
        Location::Deleted => Ok(()),
    }
}

/// A partition of a transaction that ends.
#[derive(Debug, Clone, Copy)]
struct MarkedPartition<'a> {
    own_id: i32,
    topic: &'a Str,
    partition: i32,
    /// The transactional id.
    id: &'a Str,
    /// Before the second attempt.
    first_pause: Duration,
}

/// What became of the marker of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is committed, or the partition needs none.
    Done,
    /// Another broker coordinates the transaction, or this one stops.
    Abandoned,
}

/// Attempts to write a marker until it is written. The attempt after a failed one comes after a pause, or at once when the leadership moves.
async fn write_until_done<F: Future<Output = Result<(), ErrorCode>>>(
    mut images: watch::Receiver<Arc<MetadataImage>>,
    marked: MarkedPartition<'_>,
    mut attempt: impl FnMut(Location) -> F,
    is_gone: impl Fn() -> bool,
) -> Outcome {
    let MarkedPartition { own_id, topic, partition, id, first_pause } = marked;
    let locate = |image: &MetadataImage| Location::of(image, own_id, topic, partition);
    let mut pause = first_pause;
    loop {
        // The image that the partition's leadership is looked up in is never older than the one in which the transaction wrote to it: the
        // metadata is one log, and the coordinator's own leadership came later in it. So a partition that is missing is deleted.
        let location = locate(&images.borrow_and_update());
        match attempt(location).await {
            Ok(()) => return Outcome::Done,
            // The partition saw a newer epoch of this producer, or a newer coordinator: its transaction has ended there.
            Err(error @ (ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::TRANSACTION_COORDINATOR_FENCED)) => {
                tracing::warn!(%error, %id, %topic, partition, "a transaction's marker is refused and left out");
                return Outcome::Done;
            }
            Err(error) => tracing::debug!(%error, %id, %topic, partition, "a transaction's marker is tried again"),
        }
        pause = match tokio::time::timeout(pause, images.wait_for(|image| locate(image) != location)).await {
            Ok(Ok(_)) => first_pause,
            Ok(Err(_)) => return Outcome::Abandoned,
            Err(_) => (pause * 2).min(RETRY_AFTER_MAX),
        };
        if is_gone() {
            return Outcome::Abandoned;
        }
    }
}

#[cfg(test)]
mod tests;
