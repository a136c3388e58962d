//! The shards of one coordinator: found by partition without a lock, loaded when this broker becomes leader, dropped when it is not.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use esker_core::coordinator::StateMachine;
use esker_core::metadata::MetadataImage;
use esker_protocol::error::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::replay::replay;
use super::shard::{ShardAction, ShardHandle, ShardLinks};
use crate::node::Node;
use crate::replica::Partition;
use crate::session::BrokerSession;

/// The longest that the timer sleeps.
const LONGEST_SLEEP_MS: i64 = 60_000;

/// One coordinator.
pub struct Runtime<M: StateMachine> {
    topic: &'static str,
    make: Box<dyn Fn(i32) -> M + Send + Sync>,
    links: ShardLinks<M>,
    session: OnceLock<Arc<BrokerSession>>,
    shards: ArcSwap<HashMap<i32, Arc<ShardHandle<M>>>>,
    action_receiver: parking_lot::Mutex<Option<mpsc::UnboundedReceiver<ShardAction<M>>>>,
    /// Milliseconds that the slowest load took.
    longest_load: Arc<AtomicU64>,
}

impl<M: StateMachine> fmt::Debug for Runtime<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("topic", &self.topic).field("shards", &self.shards.load().len()).finish()
    }
}

impl<M: StateMachine> Runtime<M> {
    /// A coordinator without shards over `topic`; `make` returns the empty machine of a partition, `report_event` logs and counts events.
    /// An answer waits for its records to be committed until `commit_timeout`.
    pub fn new(
        topic: &'static str,
        node: &Node,
        commit_timeout: Duration,
        make: impl Fn(i32) -> M + Send + Sync + 'static,
        report_event: impl Fn(&M::Event) + Send + Sync + 'static,
    ) -> Self {
        // As many actions wait as there are state machines that want something done; each has one at a time.
        let (actions, action_receiver) = mpsc::unbounded_channel();
        Self {
            topic,
            make: Box::new(make),
            links: ShardLinks {
                node: node.clone(),
                deadline_moved: Arc::default(),
                actions,
                report_event: Arc::new(report_event),
                commit_timeout,
            },
            session: OnceLock::new(),
            shards: ArcSwap::default(),
            action_receiver: parking_lot::Mutex::new(Some(action_receiver)),
            longest_load: Arc::default(),
        }
    }

    /// The internal topic.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The channel of the machines' actions; returned once.
    pub fn take_actions(&self) -> Option<mpsc::UnboundedReceiver<ShardAction<M>>> {
        self.action_receiver.lock().take()
    }

    /// From here on nothing is answered while the lease of `session` has ended: another broker may coordinate, and know more, by then.
    pub fn answer_under(&self, session: &Arc<BrokerSession>) {
        // It is set once, when the broker is put together.
        let _ = self.session.set(Arc::clone(session));
    }

    /// The shard of a partition, if this broker leads it.
    pub fn shard_of(&self, partition: i32) -> Result<Arc<ShardHandle<M>>, ErrorCode> {
        if self.session.get().is_some_and(|session| session.is_isolated()) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        self.shards.load().get(&partition).cloned().ok_or(ErrorCode::NOT_COORDINATOR)
    }

    /// The shard of a key (a group's id, a transactional id), if this broker leads its partition.
    pub fn shard(&self, image: &MetadataImage, key: &str) -> Result<Arc<ShardHandle<M>>, ErrorCode> {
        self.shard_of(self.partition_for(image, key).ok_or(ErrorCode::NOT_COORDINATOR)?)
    }

    /// The partition of the internal topic that a key belongs to, once the topic exists.
    pub fn partition_for(&self, image: &MetadataImage, key: &str) -> Option<i32> {
        let topic = image.topic(self.topic)?;
        Some(esker_core::group::partition_for(key, i32::try_from(topic.partitions.len()).ok()?))
    }

    /// All shards.
    pub fn shards(&self) -> Vec<Arc<ShardHandle<M>>> {
        self.shards.load().values().cloned().collect()
    }

    /// Leadership of a partition began: its shard loads on a blocking thread.
    pub(super) fn add_shard(&self, partition: Arc<Partition>, leader_epoch: i32) {
        let handle = Arc::new(ShardHandle::new(partition, leader_epoch, self.links.clone()));
        let mut shards = HashMap::clone(&self.shards.load());
        if let Some(old) = shards.insert(handle.index(), Arc::clone(&handle)) {
            old.unload();
        }
        self.shards.store(Arc::new(shards));
        let machine = (self.make)(handle.index());
        let longest = Arc::clone(&self.longest_load);
        let now_ms = self.links.node.now_ms();
        self.links.node.spawn_blocking(move || {
            let began = Instant::now();
            load(machine, &handle, now_ms);
            longest.fetch_max(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        });
    }

    /// Milliseconds that the slowest load of a partition took since the start.
    pub fn longest_load_ms(&self) -> u64 {
        self.longest_load.load(Ordering::Relaxed)
    }

    /// Leadership of a partition is gone.
    pub(super) fn remove_shard(&self, partition: i32) {
        let mut shards = HashMap::clone(&self.shards.load());
        if let Some(old) = shards.remove(&partition) {
            old.unload();
        }
        self.shards.store(Arc::new(shards));
    }

    /// Runs the due decisions of every shard until the broker stops.
    pub(super) async fn run_timer(&self) {
        loop {
            let now = self.links.node.now_ms();
            let mut next = now + LONGEST_SLEEP_MS;
            for shard in self.shards() {
                if shard.deadline() <= now {
                    shard.tick();
                }
                next = next.min(shard.deadline());
            }
            let wait = Duration::from_millis(u64::try_from(next - self.links.node.now_ms()).unwrap_or_default());
            // A deadline that moved forward wakes this task; one that moved back is found when it is due.
            let _ = tokio::time::timeout(wait, self.links.deadline_moved.notified()).await;
        }
    }
}

/// Loads a shard, or leaves it unavailable: a state of which a part is missing is never served. Blocks on the disk.
fn load<M: StateMachine>(machine: M, handle: &Arc<ShardHandle<M>>, now_ms: i64) {
    let (topic, partition) = (handle.partition().topic(), handle.index());
    match replay(machine, handle.partition(), now_ms) {
        Ok((machine, records)) => {
            handle.activate(machine);
            if records > 0 {
                tracing::info!(topic, partition, records, "coordinator loaded");
            }
        }
        // The log was truncated meanwhile, or closed.
        Err(error) if !handle.leads() => {
            tracing::debug!(%error, topic, partition, "the leadership ended during the load")
        }
        Err(error) => {
            tracing::error!(%error, topic, partition, "cannot load the coordinator's state; its groups or transactional ids stay unavailable until the log is repaired and the broker restarted");
            handle.fail();
        }
    }
}
