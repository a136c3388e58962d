//! What goes on beside requests: loading and unloading by leadership, timers, expiry.

use std::sync::Arc;
use std::time::Duration;

use esker_core::group::{Effects, GroupRecord, GroupShard};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::markers::act;
use super::shard::ShardHandle;
use super::{OFFSETS_TOPIC, TRANSACTION_TOPIC};
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::replica::LeadershipChange;

/// First and longest pause before offsets of a deleted topic are removed again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Starts the coordinators' tasks.
pub fn start(broker: &Arc<Broker>, changes: mpsc::UnboundedReceiver<LeadershipChange>, stop: &CancellationToken) {
    // Before the first shard comes into being.
    broker.transactions.follow(&broker.metadata.image());
    tokio::spawn(stop.clone().run_until_cancelled_owned(follow(Arc::clone(broker), changes)));
    let groups = Arc::clone(broker);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { groups.groups.keep_time().await }));
    let transactions = Arc::clone(broker);
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move { transactions.transactions.keep_time().await }));
    tokio::spawn(stop.clone().run_until_cancelled_owned(expire(Arc::clone(broker))));
    if let Some(jobs) = broker.groups.take_actions() {
        tokio::spawn(stop.clone().run_until_cancelled_owned(super::regexes::run(Arc::clone(broker), jobs)));
    }
    tokio::spawn(stop.clone().run_until_cancelled_owned(follow_version(Arc::clone(broker))));
    if let Some(actions) = broker.transactions.take_actions() {
        tokio::spawn(stop.clone().run_until_cancelled_owned(act(Arc::clone(broker), actions)));
    }
}

/// Tells the transaction coordinator what `transaction.version` is.
async fn follow_version(broker: Arc<Broker>) {
    let mut images = broker.metadata.subscribe();
    loop {
        let image = images.borrow_and_update().clone();
        broker.transactions.follow(&image);
        if images.changed().await.is_err() {
            return;
        }
    }
}

async fn follow(broker: Arc<Broker>, mut changes: mpsc::UnboundedReceiver<LeadershipChange>) {
    while let Some(change) = changes.recv().await {
        match change {
            LeadershipChange::Gained { partition, leader_epoch } if partition.topic() == OFFSETS_TOPIC => {
                broker.groups.gained(partition, leader_epoch);
            }
            LeadershipChange::Lost { topic, partition } if *topic == *OFFSETS_TOPIC => {
                broker.groups.lost(partition);
            }
            LeadershipChange::Gained { partition, leader_epoch } if partition.topic() == TRANSACTION_TOPIC => {
                broker.transactions.gained(partition, leader_epoch);
            }
            LeadershipChange::Lost { topic, partition } if *topic == *TRANSACTION_TOPIC => {
                broker.transactions.lost(partition);
            }
            LeadershipChange::TopicDeleted { topic } => {
                for shard in broker.groups.shards() {
                    remove_offsets_of(shard, topic.clone(), now_ms());
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
    tokio::spawn(async move {
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

async fn expire(broker: Arc<Broker>) {
    let every = broker.config.offsets_retention_check_interval.max(Duration::from_secs(1));
    loop {
        tokio::time::sleep(every).await;
        for shard in broker.groups.shards() {
            let expired = shard.write(|s| {
                let effects = s.expire(now_ms());
                let offsets = effects.records.iter().filter(|record| matches!(record, GroupRecord::Offset(_, None)));
                let count = offsets.count();
                Ok((effects, count))
            });
            match expired {
                Ok((count, _)) => broker.metrics.groups.expired(count),
                Err(error) => tracing::debug!(%error, "offsets were not expired"),
            }
        }
    }
}
