//! What goes on beside requests: loading and unloading by leadership, timers, expiry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::group::{Effects, GroupShard};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::replay::Replay;
use super::shard::ShardHandle;
use super::{GroupCoordinator, OFFSETS_TOPIC};
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::replica::LeadershipChange;

/// Starts the coordinator's tasks.
pub fn start(broker: &Arc<Broker>, changes: mpsc::UnboundedReceiver<LeadershipChange>, stop: &CancellationToken) {
    tokio::spawn(stop.clone().run_until_cancelled_owned(follow(Arc::clone(broker), changes)));
    tokio::spawn(stop.clone().run_until_cancelled_owned(keep_time(Arc::clone(broker))));
    tokio::spawn(stop.clone().run_until_cancelled_owned(expire(Arc::clone(broker))));
}

async fn follow(broker: Arc<Broker>, mut changes: mpsc::UnboundedReceiver<LeadershipChange>) {
    while let Some(change) = changes.recv().await {
        match change {
            LeadershipChange::Gained { partition, leader_epoch } if partition.topic() == OFFSETS_TOPIC => {
                let handle = Arc::new(ShardHandle::new(partition, leader_epoch, Arc::clone(&broker.groups.sooner)));
                broker.groups.put(&handle);
                let broker = Arc::clone(&broker);
                tokio::task::spawn_blocking(move || load(&broker.groups, &handle));
            }
            LeadershipChange::Lost { topic, partition } if *topic == *OFFSETS_TOPIC => {
                broker.groups.drop_shard(partition)
            }
            LeadershipChange::TopicDeleted { topic } => {
                for shard in broker.groups.shards() {
                    let removed = shard.write(|s| {
                        let records = s.topic_deleted(&topic);
                        Ok((Effects { records, ..Effects::default() }, ()))
                    });
                    if let Err(error) = removed {
                        tracing::debug!(%error, %topic, "offsets of a deleted topic stay for now");
                    }
                }
            }
            LeadershipChange::Gained { .. } | LeadershipChange::Lost { .. } => {}
        }
    }
}

/// Bytes read at once while loading.
const LOAD_BYTES: usize = 4 << 20;

/// Replays a partition. Blocks on the disk.
fn load(groups: &GroupCoordinator, handle: &Arc<ShardHandle>) {
    let mut replay = Replay::new(GroupShard::new(groups.limits.clone()), handle.index(), now_ms());
    let log = handle.partition().log();
    let end = log.log_end_offset();
    let mut at = log.log_start_offset();
    while at < end {
        let read = match log.read(at, LOAD_BYTES, end, true) {
            Ok(read) if read.next_offset > at => read,
            Ok(_) => break,
            Err(error) => {
                tracing::error!(%error, partition = handle.index(), "cannot load groups; they stay unavailable");
                return;
            }
        };
        replay.take(read.records);
        at = read.next_offset;
    }
    let (mut shard, records) = replay.finish();
    shard.loaded(now_ms());
    handle.activate(shard);
    if records > 0 {
        tracing::info!(partition = handle.index(), records, "groups loaded");
    }
}

/// The longest that the timer sleeps.
const LONGEST: i64 = 60_000;

async fn keep_time(broker: Arc<Broker>) {
    loop {
        let now = now_ms();
        let mut next = now + LONGEST;
        for shard in broker.groups.shards() {
            if shard.deadline() <= now {
                shard.tick();
            }
            next = next.min(shard.deadline());
        }
        let wait = Duration::from_millis(u64::try_from(next - now_ms()).unwrap_or_default());
        // A deadline that came nearer wakes us; one that did not is found in time.
        let _ = tokio::time::timeout(wait, broker.groups.sooner.notified()).await;
    }
}

async fn expire(broker: Arc<Broker>) {
    let every = broker.config.offsets_retention_check_interval.max(Duration::from_secs(1));
    loop {
        tokio::time::sleep(every).await;
        for shard in broker.groups.shards() {
            let expired = shard.write(|s| Ok((s.expire(now_ms()), ())));
            if let Err(error) = expired {
                tracing::debug!(%error, "offsets were not expired");
            }
        }
    }
}

impl GroupCoordinator {
    pub(super) fn shards(&self) -> Vec<Arc<ShardHandle>> {
        self.shards.load().values().cloned().collect()
    }

    fn put(&self, handle: &Arc<ShardHandle>) {
        let mut shards = HashMap::clone(&self.shards.load());
        if let Some(old) = shards.insert(handle.index(), Arc::clone(handle)) {
            old.unload();
        }
        self.shards.store(Arc::new(shards));
    }

    fn drop_shard(&self, partition: i32) {
        let mut shards = HashMap::clone(&self.shards.load());
        if let Some(old) = shards.remove(&partition) {
            old.unload();
        }
        self.shards.store(Arc::new(shards));
    }
}
