//! The partitions of this broker: found by name or id without a lock, kept in step with the metadata image.
//!
//! The image is the only source: a replica that it assigns to this broker exists here, with the assigned role; a replica that is no
//! longer in the image is deleted. Logs that are found at the start and are not this broker's are renamed to `-stray`, never deleted:
//! their origin is unknown, or they moved away while the broker was down. Applying an image creates folders and files and so runs on a blocking thread, one image at a time;
//! CreateTopics can wait until the topic is served ([`ReplicaManager::wait_applied`]).

mod topics;
mod unserved;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use esker_core::config::{Scope, list_items, lookup, resolve_broker};
use esker_core::internal_topics::is_internal;
use esker_core::metadata::{MetadataImage, PartitionId, TopicImage};
use esker_protocol::primitives::{Str, Uuid};
use esker_storage::{LogDirListener, LogError, LogManager, RetentionOutcome};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::error::{AccessError, LeaderHint};
use super::fetch::ColdGate;
use super::flusher::Flusher;
use super::isr_requests::IsrRequests;
use super::moves::{MoveError, Moves, is_named};
use super::partition::Partition;
use super::quotas::ReplicationQuotas;
use super::role::{Assignment, NoReplica, Role};
use super::settings::TopicSettings;
use crate::node::Node;
use crate::telemetry::Metrics;
use topics::{Slot, Topics};
pub use topics::{TopicRef, TopicReplicas};
use unserved::Unserved;

/// Leadership of an internal topic's partition that this broker gained or lost: coordinators load and unload by it.
#[derive(Debug, Clone)]
pub enum LeadershipChange {
    /// This broker leads now, in this epoch.
    Gained {
        /// The partition.
        partition: Arc<Partition>,
        /// The leader epoch that began.
        leader_epoch: i32,
    },
    /// This broker no longer leads (or the topic is deleted).
    Lost {
        /// Topic name.
        topic: Str,
        /// Partition number.
        partition: i32,
    },
    /// A topic was deleted from the cluster.
    TopicDeleted {
        /// Topic name.
        topic: Str,
    },
}

/// Why a log is set aside.
const OF_NO_TOPIC: &str = "it belongs to no topic of this cluster";
const NOT_ASSIGNED: &str = "the partition is not assigned to this broker";

/// All partitions of this broker.
#[derive(Debug)]
pub struct ReplicaManager {
    node: Node,
    logs: Arc<LogManager>,
    metrics: Arc<Metrics>,
    flusher: Arc<Flusher>,
    moves: Arc<Moves>,
    cold: ColdGate,
    topics: ArcSwap<Topics>,
    applying: Mutex<Arc<MetadataImage>>,
    applied: watch::Sender<Arc<MetadataImage>>,
    isr_requests: IsrRequests,
    quotas: ReplicationQuotas,
    fetching: FetchCounts,
    directory_changes: Arc<Notify>,
    changes: mpsc::UnboundedSender<LeadershipChange>,
    /// Topics that the image which is being applied has no more.
    deleted: Mutex<Vec<Str>>,
    unserved: Unserved,
}

/// Fetchers that have ended by a fault, and partitions whose last answer was an error.
#[derive(Debug, Default)]
pub(super) struct FetchCounts {
    pub(super) failing: AtomicUsize,
    pub(super) dead: AtomicUsize,
}

/// Wakes a task when a log dir goes offline.
#[derive(Debug)]
struct FailedDirs(Arc<Notify>);

impl LogDirListener for FailedDirs {
    fn log_dir_failed(&self) {
        self.0.notify_one();
    }
}

impl ReplicaManager {
    /// A manager over opened logs, without partitions until the first image is applied. The receiver gets leadership changes of
    /// internal topics and deletions of topics, in order.
    pub fn new(
        node: Node,
        logs: Arc<LogManager>,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::UnboundedReceiver<LeadershipChange>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        let dirs: Vec<_> = logs.dirs().into_iter().map(|dir| dir.path).collect();
        let move_threads = node.config().log_dir_move_threads.unwrap_or(dirs.len());
        let directory_changes = Arc::<Notify>::default();
        let listener: Arc<dyn LogDirListener> = Arc::new(FailedDirs(Arc::clone(&directory_changes)));
        logs.watch_dirs(&listener);
        let moves = Moves::new(node.clone(), Arc::clone(&logs), Arc::clone(&directory_changes), move_threads);
        let quotas = ReplicationQuotas::new(&node.config().replication);
        let flusher = Flusher::new(node.clone(), dirs, metrics.flushes.clone());
        let manager = Self {
            cold: ColdGate::new(&node),
            node,
            logs,
            metrics,
            flusher: Arc::new(flusher),
            moves: Arc::new(moves),
            topics: ArcSwap::default(),
            applying: Mutex::new(Arc::new(MetadataImage::default())),
            applied: watch::Sender::new(Arc::default()),
            isr_requests: IsrRequests::default(),
            quotas,
            fetching: FetchCounts::default(),
            directory_changes,
            changes,
            deleted: Mutex::default(),
            unserved: Unserved::default(),
        };
        (manager, receiver)
    }

    /// The counters of this broker.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The log manager.
    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// The moves of replicas between log dirs.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// AlterReplicaLogDirs for one partition: begins a move, changes its destination, or cancels it. Does not wait for its end.
    /// Blocks shortly on the disk. Must run within the runtime.
    pub fn move_replica(&self, topic: &TopicRef, partition: i32, to: &Path) -> Result<(), MoveError> {
        self.moves.start_move(self.partition(topic, partition)?, to)
    }

    /// Resumes moves that the last stop interrupted.
    pub fn resume_moves(&self) {
        for (topic, partition, to) in self.logs.unfinished_moves() {
            if let Err(error) = self.move_replica(&TopicRef::Id(topic), partition, &to) {
                tracing::warn!(%topic, partition, to = %to.display(), %error, "a move between log dirs does not go on");
            }
        }
    }

    pub(super) fn fetching(&self) -> &FetchCounts {
        &self.fetching
    }

    /// Partitions whose last answer from their leader was an error: they are fetched again after a pause.
    pub fn failing_partitions(&self) -> usize {
        self.fetching.failing.load(Ordering::Relaxed)
    }

    /// Fetchers that ended by a fault and have not started again.
    pub fn dead_fetchers(&self) -> usize {
        self.fetching.dead.load(Ordering::Relaxed)
    }

    /// Whether a reassignment adds a replica, which is not in sync yet.
    pub fn is_adding(&self, partition: &Partition, replica: i32) -> bool {
        // In sync is what most followers are: the image is looked at for the others.
        !partition.is_in_sync(replica)
            && self.applied_image().partition(partition.id()).is_some_and(|found| found.adding.contains(&replica))
    }

    /// The gate for fetches of cold data.
    pub fn cold_gate(&self) -> &ColdGate {
        &self.cold
    }

    /// The flusher of the logs.
    pub fn flusher(&self) -> &Arc<Flusher> {
        &self.flusher
    }

    /// The topic with its partitions on this broker.
    pub fn topic(&self, target: &TopicRef) -> Result<Arc<TopicReplicas>, AccessError> {
        let topics = self.topics.load();
        match target {
            TopicRef::Name(name) => topics.by_name.get(name).cloned().ok_or(AccessError::UnknownPartition),
            TopicRef::Id(id) => topics.by_id.get(id).cloned().ok_or(AccessError::UnknownTopicId),
        }
    }

    /// One partition.
    pub fn partition(&self, target: &TopicRef, index: i32) -> Result<Arc<Partition>, AccessError> {
        let topics = self.topics.load();
        let topic = match target {
            TopicRef::Name(name) => topics.by_name.get(name).ok_or(AccessError::UnknownPartition)?,
            TopicRef::Id(id) => topics.by_id.get(id).ok_or(AccessError::UnknownTopicId)?,
        };
        topic.partition(index)
    }

    /// Every partition on this broker.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics.load().by_id.values().flat_map(|t| t.local_partitions().cloned().collect::<Vec<_>>()).collect()
    }

    /// Whether an image at least as new as `offset` of the metadata log is applied by `deadline`.
    pub async fn wait_applied(&self, offset: u64, deadline: Instant) -> bool {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|image| image.offset() >= offset);
        // The sender lives as long as `self`, so the wait fails only by the deadline.
        tokio::time::timeout_at(deadline, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// The image that is in force here, and each that follows.
    pub fn applied(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.applied.subscribe()
    }

    /// The image that is in force here.
    pub fn applied_image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.applied.borrow())
    }

    /// Partitions whose ISR may change.
    pub fn isr_requests(&self) -> &IsrRequests {
        &self.isr_requests
    }

    /// The replication quotas.
    pub fn quotas(&self) -> &ReplicationQuotas {
        &self.quotas
    }

    /// Is notified when a log dir fails, and when a replica is in another log dir.
    pub fn directory_changes(&self) -> &Arc<Notify> {
        &self.directory_changes
    }

    /// Applies `image` to all partitions. Blocks on the disk: not for async workers. Logs of topics that are no longer in `image`
    /// are deleted.
    pub fn apply(&self, image: &Arc<MetadataImage>) {
        let mut before = self.applying.lock();
        if image.offset() < before.offset() {
            // Of a caller that was overtaken: what came since must not be undone.
            return;
        }
        let former = self.topics.load_full();
        let mut topics = Topics::clone(&former);
        self.run_guarded("the broker's own configs", || self.apply_own_configs(image));
        let delta = image.changes_since(&before);
        for (name, id) in &delta.deleted_topics {
            self.run_guarded(name, || self.remove_topic(&mut topics, name, *id));
        }
        for topic in &delta.changed_topics {
            self.run_guarded(&topic.name, || self.apply_topic(&mut topics, image, topic));
        }
        self.topics.store(Arc::new(topics));
        self.forget_settled(image);
        for topic in &delta.changed_topics {
            self.wake_departed(&former, topic.id);
        }
        // After what was gained: a coordinator that gains a shard with the same image removes the topic's offsets from it.
        for topic in std::mem::take(&mut *self.deleted.lock()) {
            // The receiver is dropped only when the broker stops.
            let _ = self.changes.send(LeadershipChange::TopicDeleted { topic });
        }
        *before = Arc::clone(image);
        self.applied.send_replace(Arc::clone(image));
    }

    /// Wakes fetches of partitions that this broker no longer has, so that they see the new image: those partitions never report a
    /// move again.
    fn wake_departed(&self, former: &Topics, topic: Uuid) {
        for partition in former.by_id.get(&topic).iter().flat_map(|topic| topic.local_partitions()) {
            if self.partition(&TopicRef::Id(topic), partition.index()).is_err() {
                partition.wake_fetchers();
            }
        }
    }

    /// Runs a retention pass and wakes the fetches of partitions whose log start moved. Blocks on the disk.
    pub fn retention_pass(&self, now_ms: i64) -> RetentionOutcome {
        let start_of = |partition: Arc<Partition>| (partition.log().log_start_offset(), partition);
        let before: Vec<_> = self.partitions().into_iter().map(start_of).collect();
        let outcome = self.logs.retention_pass(now_ms);
        for (_, partition) in before.iter().filter(|(start, partition)| partition.log().log_start_offset() != *start) {
            partition.wake_fetchers();
        }
        outcome
    }

    /// Runs one part of applying an image. A panic in it is a fault of this broker that must stop neither the other parts nor
    /// later images; `None` then.
    fn run_guarded<T>(&self, part: &str, run: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(run));
        if done.is_err() {
            self.metrics.apply_errors.inc();
            error!(part, "a fault of this broker: the metadata of this part is not applied here; see the panic above");
        }
        done.ok()
    }

    /// Applies the current values of `cordoned.log.dirs`, `replica.alter.log.dirs.io.max.bytes.per.second` and the replication quotas.
    fn apply_own_configs(&self, image: &MetadataImage) {
        let text = |name: &str| {
            let key = lookup(Scope::Broker, name)?;
            resolve_broker(image, self.node.id(), &self.node.config().statics, key).value().map(str::to_owned)
        };
        let cordoned = text("cordoned.log.dirs").unwrap_or_default();
        let is_cordoned = |dir: &PathBuf| list_items(&cordoned).any(|name| is_named(dir, name));
        self.logs.cordon(self.logs.dirs().into_iter().map(|dir| dir.path).filter(is_cordoned).collect());
        let rate = |name: &str| text(name).and_then(|rate| rate.trim().parse::<i64>().ok()).unwrap_or(i64::MAX);
        let moves = Some(rate("replica.alter.log.dirs.io.max.bytes.per.second"));
        self.logs.limit_moves(moves.filter(|rate| *rate < i64::MAX).map_or(f64::MAX, |rate| rate.max(0) as f64));
        self.quotas.leader.set_limit(rate("leader.replication.throttled.rate"));
        self.quotas.follower.set_limit(rate("follower.replication.throttled.rate"));
    }

    /// At start, once the first image is applied: renames logs that are not this broker's, as Kafka does. One that cannot be served now stays.
    pub fn rename_strays(&self, image: &MetadataImage) {
        for log in self.logs.logs() {
            let (topic, index) = (log.topic(), log.partition());
            let known = match log.topic_id() {
                id if id.is_zero() => image.topic(topic),
                id => image.topic_by_id(id),
            };
            let Some(known) = known else {
                self.rename_to_stray(topic, index, OF_NO_TOPIC);
                continue;
            };
            let partition = usize::try_from(index).ok().and_then(|at| known.partitions.get(at));
            if !partition.is_some_and(|partition| partition.replicas.contains(&self.node.id())) {
                self.rename_to_stray(topic, index, NOT_ASSIGNED);
            }
        }
    }

    fn remove_topic(&self, topics: &mut Topics, name: &Str, id: Uuid) {
        let Some(gone) = topics.by_id.remove(&id) else { return };
        if topics.by_name.get(name).is_some_and(|t| t.id == id) {
            topics.by_name.remove(name);
        }
        for partition in gone.local_partitions() {
            partition.close();
            self.announce_loss(partition);
            self.delete_log(name, partition.index());
        }
        self.metrics.topics.forget(name);
        self.deleted.lock().push(name.clone());
    }

    fn delete_log(&self, topic: &str, partition: i32) {
        if let Err(error) = self.logs.delete(topic, partition) {
            error!(topic, partition, %error, "cannot delete the log");
        }
    }

    fn rename_to_stray(&self, topic: &str, partition: i32, why: &'static str) {
        match self.logs.rename_to_stray(topic, partition) {
            Ok(folder) => {
                warn!(topic, partition, why, folder = %folder.display(), "renamed a log that is not this broker's; remove the folder if nothing in it is needed");
            }
            Err(error) => error!(topic, partition, why, %error, "cannot rename a log that is not this broker's"),
        }
    }

    fn apply_topic(&self, topics: &mut Topics, image: &MetadataImage, topic: &TopicImage) {
        let settings =
            Arc::new(TopicSettings::resolve(image, &topic.name, self.node.id(), &self.node.config().statics));
        let known = topics.by_id.get(&topic.id).cloned();
        if let Some(old) = topics.by_name.get(&topic.name).filter(|t| t.id != topic.id).map(|t| t.id) {
            self.remove_topic(topics, &topic.name, old);
        }
        let unserved_before = self.unserved.of(topic.id);
        let partitions = topic.partitions.iter().enumerate().map(|(index, _)| {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let held = known.as_ref().and_then(|t| t.partition(index).ok());
            self.serve_partition(topic, index, held, &settings, !unserved_before.contains(&index))
        });
        let replicas =
            Arc::new(TopicReplicas { name: topic.name.clone(), id: topic.id, partitions: partitions.collect() });
        topics.by_name.insert(topic.name.clone(), Arc::clone(&replicas));
        topics.by_id.insert(topic.id, replicas);
    }

    /// How many partitions that belong here are not served.
    pub fn unserved_partitions(&self) -> usize {
        self.unserved.count()
    }

    /// Topics with partitions that came into service after their image had been applied, each once.
    pub fn take_late_topics(&self) -> BTreeSet<Uuid> {
        self.unserved.take_late()
    }

    /// Tries again to serve the partitions that could not be served. Blocks on the disk: not for async workers.
    pub fn retry_unserved(&self) {
        let image = self.applying.lock();
        let mut topics = Topics::clone(&self.topics.load());
        let mut served = BTreeSet::new();
        for (id, partitions) in self.unserved.all() {
            let (Some(topic), Some(known)) = (image.topic_by_id(id), topics.by_id.get(&id)) else { continue };
            let settings =
                Arc::new(TopicSettings::resolve(&image, &topic.name, self.node.id(), &self.node.config().statics));
            let mut slots = known.partitions.clone();
            for partition in partitions {
                let slot = usize::try_from(partition).ok().and_then(|at| slots.get_mut(at));
                let Some(slot) = slot else { continue };
                *slot = self.serve_partition(topic, partition, None, &settings, false);
                if let Slot::Here(_) = slot {
                    info!(topic = %topic.name, partition, "the partition could not be served before, and is served now");
                    served.insert(id);
                }
            }
            let replicas = Arc::new(TopicReplicas { name: topic.name.clone(), id, partitions: slots });
            topics.by_name.insert(topic.name.clone(), Arc::clone(&replicas));
            topics.by_id.insert(id, replicas);
        }
        if !served.is_empty() {
            self.topics.store(Arc::new(topics));
            self.forget_settled(&image);
            self.unserved.add_late(served);
            // The metadata may have the replicas in other log dirs, and the image does not change.
            self.directory_changes.notify_one();
            self.applied.send_replace(Arc::clone(&image));
        }
    }

    /// Forgets the unserved partitions that are served by now, or that `image` does not assign to this broker any more.
    fn forget_settled(&self, image: &MetadataImage) {
        let topics = self.topics.load();
        let is_served =
            |id: PartitionId| topics.by_id.get(&id.topic).is_some_and(|t| t.partition(id.partition).is_ok());
        let is_own = |id| image.partition(id).is_some_and(|p| p.replicas.contains(&self.node.id()));
        self.unserved.forget(|id| is_served(id) || !is_own(id));
    }

    /// Brings one partition in step with the image. `is_news`: that it cannot be served was not reported before.
    fn serve_partition(
        &self,
        topic: &TopicImage,
        index: i32,
        held: Option<Arc<Partition>>,
        settings: &Arc<TopicSettings>,
        is_news: bool,
    ) -> Slot {
        let known = usize::try_from(index).ok().and_then(|at| topic.partitions.get(at));
        let Some(p) = known else { return Slot::Elsewhere(LeaderHint { leader: -1, leader_epoch: -1 }) };
        let hint = LeaderHint { leader: p.leader, leader_epoch: p.leader_epoch };
        if !p.replicas.contains(&self.node.id()) {
            if let Some(partition) = held {
                self.drop_replica(&partition, hint);
                self.delete_log(&topic.name, index);
            }
            return Slot::Elsewhere(hint);
        }
        let assignment = Assignment {
            leader: p.leader,
            leader_epoch: p.leader_epoch,
            replicas: p.replicas.clone(),
            isr: p.isr.clone(),
            partition_epoch: p.partition_epoch,
        };
        let role = Role::of(self.node.id(), assignment, Arc::clone(settings));
        match self.run_guarded(&topic.name, || self.assign_partition(topic, index, held.clone(), role, settings)) {
            Some(Ok(partition)) => return Slot::Here(partition),
            Some(Err(error)) => {
                self.unserved.add(topic.id, index);
                if is_news {
                    self.metrics.apply_errors.inc();
                    error!(topic = %topic.name, partition = index, %error, "cannot serve the partition; trying again");
                }
            }
            // A fault of ours: trying again would only repeat it.
            None => {
                self.unserved.forget(|id| id == PartitionId { topic: topic.id, partition: index });
                error!(topic = %topic.name, partition = index, "cannot serve the partition");
            }
        }
        let hint = LeaderHint { leader: -1, ..hint };
        if let Some(partition) = held {
            self.drop_replica(&partition, hint);
        }
        Slot::Elsewhere(hint)
    }

    /// Sets the role of a partition; creates the partition and its log if necessary.
    fn assign_partition(
        &self,
        topic: &TopicImage,
        index: i32,
        held: Option<Arc<Partition>>,
        role: Role,
        settings: &TopicSettings,
    ) -> Result<Arc<Partition>, LogError> {
        let led = held.as_ref().and_then(|partition| partition.role().leading_epoch());
        let leads = role.leading_epoch();
        let partition = match held {
            Some(partition) => {
                let loses_member = partition.role().loses_member(&role);
                partition.set_role(role)?;
                if loses_member {
                    // It may be back already, and an idle follower fetches without naming the partition: one image can have both.
                    self.isr_requests.add(&partition);
                }
                partition
            }
            None => {
                // A log without a topic id belongs to this topic: `create` sets the id.
                let other = |id: Uuid| id != topic.id && !id.is_zero();
                if self.logs.get(&topic.name, index).is_some_and(|log| other(log.topic_id())) {
                    self.rename_to_stray(&topic.name, index, OF_NO_TOPIC);
                }
                let config = settings.log.clone();
                let log = self.logs.create(&topic.name, index, topic.id, config, self.node.now_ms())?;
                let rates = self.metrics.topics.of(&topic.name);
                Arc::new(Partition::new(topic.id, log, rates, Arc::clone(&self.flusher), role)?)
            }
        };
        // The role first: a log that is moved from here on takes its configuration from it. A log that was found at the start has
        // the defaults until now, whose retention may be shorter than the topic's.
        let log = partition.log();
        if settings.log != *log.config() {
            log.update_config(settings.log.clone());
        }
        match leads {
            Some(leader_epoch) if led != leads => {
                let gained = LeadershipChange::Gained { partition: Arc::clone(&partition), leader_epoch };
                self.announce_change(&topic.name, gained);
            }
            None if led.is_some() => self.announce_loss(&partition),
            _ => {}
        }
        // Flushes records that a crash left and that are not known to be durable.
        partition.flush_unread();
        Ok(partition)
    }

    /// Ends the role of a replica that this broker no longer has: pending requests read again and find the new leader.
    fn drop_replica(&self, partition: &Partition, hint: LeaderHint) {
        let led = partition.role().is_leader();
        partition.end_role(NoReplica::Elsewhere(hint));
        if led {
            self.announce_loss(partition);
        }
    }

    fn announce_loss(&self, partition: &Partition) {
        let lost = LeadershipChange::Lost { topic: Str::copy(partition.topic()), partition: partition.index() };
        self.announce_change(partition.topic(), lost);
    }

    fn announce_change(&self, topic: &str, change: LeadershipChange) {
        if is_internal(topic) {
            // The receiver is dropped only when the broker stops.
            let _ = self.changes.send(change);
        }
    }
}

#[cfg(test)]
mod tests;
