//! The partitions that this broker follows: one fetcher for each broker that leads some of them.
//!
//! The roles of the partitions say what is followed; they come from the metadata image. The image that is in force is watched, and each fetcher
//! is sent what changed for its leader. The network is behind [`LeaderLinks`]. Must never: follow a partition in a leader epoch that its role
//! does not have.

mod answer;
mod fetcher;
mod followed;
mod link;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_core::metadata::{MetadataImage, PartitionId};
use esker_protocol::primitives::Uuid;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::error;

use super::manager::{ReplicaManager, TopicRef};
use super::partition::Partition;
use super::role::Role;
use crate::node::Node;
use fetcher::{Change, Fetcher};
pub use link::{LeaderLink, LeaderLinks, LinkError};

/// A fetcher that panicked starts again after this time.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Whom a partition follows, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Following {
    leader: i32,
    leader_epoch: i32,
    /// It reports what it has flushed.
    flushes: bool,
    /// It catches up, throttled while producers wait for others.
    is_catching_up: bool,
}

fn following(partition: &Partition, own: i32) -> Option<Following> {
    let role = partition.role();
    match &*role {
        // What is fetched for a log in a failed log dir cannot be appended.
        Role::Follower(follower) if follower.assignment.leader >= 0 && !partition.log().is_offline() => {
            Some(Following {
                leader: follower.assignment.leader,
                leader_epoch: follower.assignment.leader_epoch,
                flushes: follower.settings.flush_before_ack,
                is_catching_up: role.is_catching_up(own),
            })
        }
        _ => None,
    }
}

/// See the module.
pub struct FollowerFetchers {
    node: Node,
    replicas: Arc<ReplicaManager>,
    links: Arc<dyn LeaderLinks>,
    followed: BTreeMap<PartitionId, (Following, Arc<Partition>)>,
    fetchers: BTreeMap<i32, mpsc::UnboundedSender<Change>>,
    /// Each ends with its leader's id.
    tasks: JoinSet<i32>,
}

impl FollowerFetchers {
    /// Fetchers for the partitions of `replicas`.
    pub fn new(node: Node, replicas: Arc<ReplicaManager>, links: Arc<dyn LeaderLinks>) -> Self {
        let (followed, fetchers) = (BTreeMap::new(), BTreeMap::new());
        Self { node, replicas, links, followed, fetchers, tasks: JoinSet::new() }
    }

    /// Fetches until it is dropped.
    pub async fn run(mut self) {
        let mut images = self.replicas.applied();
        let mut before = Arc::<MetadataImage>::default();
        loop {
            let image = images.borrow_and_update().clone();
            self.update(&before, &image);
            before = image;
            loop {
                tokio::select! {
                    biased;
                    changed = images.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(ended) = self.tasks.join_next() => {
                        if let Ok(leader) = ended {
                            self.restart(leader);
                        }
                    }
                }
            }
        }
    }

    /// Follows what `image` changed.
    fn update(&mut self, before: &MetadataImage, image: &MetadataImage) {
        let delta = image.changes_since(before);
        for (_, id) in &delta.deleted_topics {
            self.update_topic(*id, BTreeMap::new());
        }
        let mut changed = self.replicas.take_late_topics();
        changed.extend(delta.changed_topics.iter().map(|topic| topic.id));
        for id in changed {
            let (here, own) = (self.replicas.topic(&TopicRef::Id(id)), self.node.id());
            let now = here
                .iter()
                .flat_map(|topic| topic.local_partitions())
                .filter_map(|partition| Some((partition.id(), (following(partition, own)?, Arc::clone(partition)))));
            let now = now.collect();
            self.update_topic(id, now);
        }
        // A leader that is back may have another address.
        let renewed = self.fetchers.iter().filter(|(leader, _)| before.broker(**leader) != image.broker(**leader));
        renewed.for_each(|(_, fetcher)| drop(fetcher.send(Change::Retry)));
        self.fetchers.retain(|leader, _| self.followed.values().any(|(following, _)| following.leader == *leader));
    }

    fn update_topic(&mut self, topic: Uuid, now: BTreeMap<PartitionId, (Following, Arc<Partition>)>) {
        let all = PartitionId { topic, partition: i32::MIN }..=PartitionId { topic, partition: i32::MAX };
        let former: Vec<PartitionId> = self.followed.range(all).map(|(id, _)| *id).collect();
        for id in former {
            let stays = |following: &Following| now.get(&id).is_some_and(|(now, _)| now.leader == following.leader);
            if let Some((following, _)) = self.followed.get(&id).filter(|(following, _)| !stays(following)) {
                let leader = following.leader;
                self.followed.remove(&id);
                if let Some(fetcher) = self.fetchers.get(&leader) {
                    let _ = fetcher.send(Change::Leave(id));
                }
            }
        }
        for (id, (following, partition)) in now {
            let is_known = self
                .followed
                .get(&id)
                .is_some_and(|(known, held)| *known == following && Arc::ptr_eq(held, &partition));
            if !is_known {
                self.followed.insert(id, (following, Arc::clone(&partition)));
                self.send(following, partition);
            }
        }
    }

    fn send(&mut self, following: Following, partition: Arc<Partition>) {
        let Following { leader_epoch, is_catching_up, .. } = following;
        let change = Change::Follow { partition, leader_epoch, is_catching_up };
        let sent = match self.fetchers.get(&following.leader) {
            Some(fetcher) => fetcher.send(change),
            None => Err(mpsc::error::SendError(change)),
        };
        if let Err(mpsc::error::SendError(change)) = sent {
            let fetcher = self.start(following.leader);
            let _ = fetcher.send(change);
            self.fetchers.insert(following.leader, fetcher);
        }
    }

    fn start(&mut self, leader: i32) -> mpsc::UnboundedSender<Change> {
        let (sender, changes) = mpsc::unbounded_channel();
        let fetcher = Fetcher::new(&self.node, &self.replicas, Arc::clone(&self.links), leader, changes);
        let replicas = Arc::clone(&self.replicas);
        self.tasks.spawn(async move {
            if AssertUnwindSafe(fetcher.run()).catch_unwind().await.is_err() {
                error!(leader, "a fault of this broker: a fetcher ended; see the panic above; it starts again");
                let dead = &replicas.fetching().dead;
                dead.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RESTART_AFTER).await;
                dead.fetch_sub(1, Ordering::Relaxed);
            }
            leader
        });
        sender
    }

    /// A fetcher ended. If it had to, nothing is left for it.
    fn restart(&mut self, leader: i32) {
        // One that was started meanwhile for the same leader lives.
        if self.fetchers.get(&leader).is_none_or(|fetcher| !fetcher.is_closed()) {
            return;
        }
        self.fetchers.remove(&leader);
        let left = self.followed.values().filter(|(following, _)| following.leader == leader);
        for (following, partition) in left.cloned().collect::<Vec<_>>() {
            self.send(following, partition);
        }
    }
}
