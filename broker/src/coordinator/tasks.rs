//! The tasks of coordinators: loading and unloading by leadership, timers, expiry.

use std::sync::Arc;
use std::time::Duration;

use esker_core::group::{Effects, GroupRecord, GroupShard};
use esker_core::internal_topics::{OFFSETS_TOPIC, TRANSACTION_TOPIC};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::markers::carry_out_actions;
use super::scope::CoordinatorScope;
use super::shard::ShardHandle;
use crate::replica::LeadershipChange;
use crate::task::{spawn, spawn_until};

/// First and longest pause before offsets of a deleted topic are removed again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Starts the coordinators' tasks; they end with `stop`.
pub fn start(scope: &CoordinatorScope, changes: mpsc::UnboundedReceiver<LeadershipChange>, stop: &CancellationToken) {
    // Before the first shard is created.
    scope.transactions.set_version(&scope.image());
    let until_stop = || stop.clone();
    spawn_until(until_stop(), update_shards(scope.clone(), changes));
    let (groups, transactions) = (Arc::clone(&scope.groups), Arc::clone(&scope.transactions));
    spawn_until(until_stop(), async move { groups.run_timer().await });
    spawn_until(until_stop(), async move { transactions.run_timer().await });
    spawn_until(until_stop(), expire(scope.clone()));
    if let Some(jobs) = scope.groups.take_actions() {
        spawn_until(until_stop(), super::regexes::run(scope.clone(), jobs));
    }
    spawn_until(until_stop(), update_versions(scope.clone()));
    if let Some(actions) = scope.transactions.take_actions() {
        spawn_until(until_stop(), carry_out_actions(scope.clone(), actions));
    }
}

/// Keeps `transaction.version` of the transaction coordinator up to date.
async fn update_versions(scope: CoordinatorScope) {
    let mut images = scope.images.clone();
    loop {
        let image = images.borrow_and_update().clone();
        scope.transactions.set_version(&image);
        if images.changed().await.is_err() {
            return;
        }
    }
}

async fn update_shards(scope: CoordinatorScope, mut changes: mpsc::UnboundedReceiver<LeadershipChange>) {
    while let Some(change) = changes.recv().await {
        match change {
            LeadershipChange::Gained { partition, leader_epoch } if partition.topic() == OFFSETS_TOPIC => {
                scope.groups.add_shard(partition, leader_epoch);
            }
            LeadershipChange::Lost { topic, partition } if *topic == *OFFSETS_TOPIC => {
                scope.groups.remove_shard(partition);
            }
            LeadershipChange::Gained { partition, leader_epoch } if partition.topic() == TRANSACTION_TOPIC => {
                scope.transactions.add_shard(partition, leader_epoch);
            }
            LeadershipChange::Lost { topic, partition } if *topic == *TRANSACTION_TOPIC => {
                scope.transactions.remove_shard(partition);
            }
            LeadershipChange::TopicDeleted { topic } => {
                for shard in scope.groups.shards() {
                    remove_offsets_of(shard, topic.clone(), scope.node.now_ms());
                }
            }
            LeadershipChange::Gained { .. } | LeadershipChange::Lost { .. } => {}
        }
    }
}

/// Removes the offsets of a deleted topic from a shard. What cannot be written (a full disk, a shard that loads still) is tried again:
/// groups would go on at these offsets in another topic of this name.
fn remove_offsets_of(shard: Arc<ShardHandle<GroupShard>>, topic: Str, deleted_at: i64) {
    let remove = move || {
        let removed = shard.write(|s| {
            let records = s.topic_deleted(&topic, deleted_at);
            Ok((Effects { records, divisible: true, ..Effects::default() }, ()))
        });
        match removed {
            Ok(_) | Err(ErrorCode::NOT_COORDINATOR) => true,
            Err(error) => {
                let partition = shard.index();
                tracing::warn!(%error, %topic, partition, "offsets of a deleted topic are not removed yet; it is tried again");
                shard.is_gone()
            }
        }
    };
    if remove() {
        return;
    }
    spawn(async move {
        let mut pause = RETRY_AFTER;
        loop {
            tokio::time::sleep(pause).await;
            if remove() {
                return;
            }
            pause = (pause * 2).min(RETRY_AFTER_MAX);
        }
    });
}

async fn expire(scope: CoordinatorScope) {
    let every = scope.node.config().offsets_retention_check_interval.max(Duration::from_secs(1));
    loop {
        tokio::time::sleep(every).await;
        for shard in scope.groups.shards() {
            let expired = shard.write(|s| {
                let effects = s.expire(scope.node.now_ms());
                let offsets = effects.records.iter().filter(|record| matches!(record, GroupRecord::Offset(_, None)));
                let count = offsets.count();
                Ok((effects, count))
            });
            match expired {
                Ok((count, _)) => scope.groups.metrics.expired(count),
                Err(error) => tracing::debug!(%error, "offsets were not expired"),
            }
        }
    }
}
