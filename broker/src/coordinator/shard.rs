//! One loaded (or loading) state machine with its partition and the requests that are parked in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use esker_core::coordinator::{Applied, EffectsOf, StateMachine, Token};
use esker_protocol::error::ErrorCode;
use esker_protocol::records::BatchHeader;
use esker_storage::Origin;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};

use super::batches::{self, MAX_DIVISIBLE};
use super::commit::{wait_committed, wait_committed_within};
use super::marker::Marker;
use crate::blocking;
use crate::error::coordinator_code;
use crate::node::Node;
use crate::replica::Partition;
use crate::task::spawn;

/// The rules for what a coordinator writes of its own accord.
const COORDINATOR: Origin = Origin::Coordinator { transaction_v2: false };

/// Due groups (or transactions) that are decided before the lock is released.
const MAX_TICKS: usize = 64;
/// Pause before a due decision that could not be written is made again.
const RETRY_MS: i64 = 500;

/// Pause before the wait for a commit that actions depend on is repeated.
const COMMIT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An action of a state machine, and its shard.
pub type ShardAction<M> = (Arc<ShardHandle<M>>, <M as StateMachine>::Action);

/// Logs and counts the events of a state machine.
pub type EventSink<M> = Arc<dyn Fn(&<M as StateMachine>::Event) + Send + Sync>;

/// What a shard is doing.
enum Phase<M> {
    Loading,
    Active(Box<M>),
    Gone,
}

/// The reply to a parked request, and the position that must be committed before it is sent.
type Delivery<M> = (<M as StateMachine>::Reply, Option<Position>);

struct Inner<M: StateMachine> {
    phase: Phase<M>,
    parked: HashMap<Token, oneshot::Sender<Delivery<M>>>,
    next_token: Token,
    /// The position behind the shard's last write.
    written: Option<Position>,
}

/// A shard behind its lock.
pub struct ShardHandle<M: StateMachine> {
    partition: Arc<Partition>,
    leader_epoch: i32,
    inner: Mutex<Inner<M>>,
    deadline: AtomicI64,
    /// The log could not be read: the shard stays unavailable, as while loading.
    failed: AtomicBool,
    links: ShardLinks<M>,
}

/// What all shards of a coordinator share.
pub(super) struct ShardLinks<M: StateMachine> {
    pub(super) node: Node,
    /// Notified when a shard's deadline moves forward.
    pub(super) deadline_moved: Arc<Notify>,
    pub(super) actions: mpsc::UnboundedSender<ShardAction<M>>,
    pub(super) report_event: EventSink<M>,
    /// How long a request waits for what it wrote to be committed.
    pub(super) commit_timeout: Duration,
}

impl<M: StateMachine> Clone for ShardLinks<M> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            deadline_moved: Arc::clone(&self.deadline_moved),
            actions: self.actions.clone(),
            report_event: Arc::clone(&self.report_event),
            commit_timeout: self.commit_timeout,
        }
    }
}

impl<M: StateMachine> fmt::Debug for ShardHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle").field("partition", &self.index()).field("epoch", &self.leader_epoch).finish()
    }
}

/// Where the log must be committed up to before an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub(super) end: i64,
}

/// A request that is parked in a shard.
pub struct ParkedRequest<M: StateMachine> {
    shard: Arc<ShardHandle<M>>,
    delivery: oneshot::Receiver<Delivery<M>>,
}

impl<M: StateMachine> ParkedRequest<M> {
    /// The answer, once it may be given.
    pub async fn wait_for_reply(self) -> Result<M::Reply, ErrorCode> {
        let (reply, position) = self.delivery.await.map_err(|_| ErrorCode::NOT_COORDINATOR)?;
        self.shard.wait_committed(position).await?;
        Ok(reply)
    }
}

impl<M: StateMachine> ShardHandle<M> {
    /// A shard that is to be loaded.
    pub(super) fn new(partition: Arc<Partition>, leader_epoch: i32, links: ShardLinks<M>) -> Self {
        let inner = Inner { phase: Phase::Loading, parked: HashMap::new(), next_token: 0, written: None };
        let deadline = AtomicI64::new(i64::MAX);
        let failed = AtomicBool::new(false);
        let inner = Mutex::new(inner);
        Self { partition, leader_epoch, inner, deadline, failed, links }
    }

    /// The partition's number.
    pub fn index(&self) -> i32 {
        self.partition.index()
    }

    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// The leader epoch of the shard.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// When [`ShardHandle::tick`] is due next; `i64::MAX` for never.
    pub fn deadline(&self) -> i64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// Its state. Another thread may hold it across an append that waits for the disk: an async caller waits off its worker.
    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        blocking::lock(&self.inner)
    }

    /// Loading is over.
    pub fn activate(self: &Arc<Self>, mut machine: M) {
        let mut inner = self.lock();
        if matches!(inner.phase, Phase::Loading) {
            let effects = machine.loaded(self.links.node.now_ms());
            inner.phase = Phase::Active(Box::new(machine));
            // What was loaded is answered for only when it is committed in this epoch.
            inner.written = Some(Position { end: self.partition.log().log_end_offset() });
            if let Err(error) = self.carry_out(&mut inner, effects, COORDINATOR) {
                tracing::warn!(%error, topic = self.partition.topic(), partition = self.index(), "what follows from loading is not written");
            }
            self.note_deadline(&inner);
        }
    }

    /// Unloads the shard after the loss of leadership: parked requests are answered with NOT_COORDINATOR.
    pub fn unload(&self) {
        let mut inner = self.lock();
        if let Phase::Active(mut machine) = std::mem::replace(&mut inner.phase, Phase::Gone) {
            inner.deliver(machine.abandon(ErrorCode::NOT_COORDINATOR), None);
        }
        inner.parked.clear();
        self.deadline.store(i64::MAX, Ordering::Release);
    }

    /// Records that loading failed.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Kafka's name for the shard's state; `None` after the loss of leadership.
    pub fn state(&self) -> Option<&'static str> {
        match self.lock().phase {
            Phase::Loading if self.failed.load(Ordering::Relaxed) => Some("failed"),
            Phase::Loading => Some("loading"),
            Phase::Active(_) => Some("active"),
            Phase::Gone => None,
        }
    }

    /// Whether this broker still leads the partition in the epoch of the shard.
    pub(super) fn leads(&self) -> bool {
        self.partition.role().leading_epoch() == Some(self.leader_epoch)
    }

    /// Whether leadership was lost.
    pub fn is_gone(&self) -> bool {
        matches!(self.lock().phase, Phase::Gone)
    }

    /// Runs `read` on the machine.
    pub fn read<R>(&self, read: impl FnOnce(&M) -> R) -> Result<R, ErrorCode> {
        let mut inner = self.lock();
        Ok(read(inner.active()?))
    }

    /// Updates the machine from outside of its log: the cluster's metadata, a feature level.
    pub fn update<R>(&self, update: impl FnOnce(&mut M) -> R) -> Result<R, ErrorCode> {
        let mut inner = self.lock();
        Ok(update(inner.active()?))
    }

    /// Parks a request: `decide` gets its token, and the reply to that token comes with this or a later decision.
    pub fn park_request(
        self: &Arc<Self>,
        decide: impl FnOnce(&M, Token) -> EffectsOf<M>,
    ) -> Result<ParkedRequest<M>, ErrorCode> {
        let mut inner = self.lock();
        inner.active()?;
        let (sender, delivery) = oneshot::channel();
        inner.next_token += 1;
        let token = inner.next_token;
        inner.parked.insert(token, sender);
        let effects = decide(inner.active()?, token);
        if let Err(error) = self.carry_out(&mut inner, effects, COORDINATOR) {
            // The decision is void; requests that it would have answered stay parked.
            inner.parked.remove(&token);
            return Err(error);
        }
        self.note_deadline(&inner);
        Ok(ParkedRequest { shard: Arc::clone(self), delivery })
    }

    /// Runs a change whose answer is known at once: its records are appended, then applied. The answer may be given once the
    /// position is committed: behind everything written so far, as the answer may rest on what an earlier request wrote.
    pub fn write<R>(
        self: &Arc<Self>,
        write: impl FnOnce(&M) -> Result<(EffectsOf<M>, R), ErrorCode>,
    ) -> Result<(R, Option<Position>), ErrorCode> {
        self.write_as(COORDINATOR, write)
    }

    /// As [`ShardHandle::write`], with the records held to the rules of `origin`.
    pub fn write_as<R>(
        self: &Arc<Self>,
        origin: Origin,
        write: impl FnOnce(&M) -> Result<(EffectsOf<M>, R), ErrorCode>,
    ) -> Result<(R, Option<Position>), ErrorCode> {
        let mut inner = self.lock();
        let (effects, result) = write(inner.active()?)?;
        self.carry_out(&mut inner, effects, origin)?;
        self.note_deadline(&inner);
        Ok((result, inner.written.filter(|position| !self.is_committed(*position))))
    }

    /// Makes the decisions that are due, one at a time, so that one that cannot be written does not block the others.
    pub fn tick(self: &Arc<Self>) {
        let mut inner = self.lock();
        for _ in 0..MAX_TICKS {
            let now = self.links.node.now_ms();
            let Ok(machine) = inner.active() else { return };
            if machine.next_deadline().is_none_or(|at| at > now) {
                break;
            }
            let effects = machine.tick(now);
            if let Err(error) = self.carry_out(&mut inner, effects, COORDINATOR) {
                tracing::warn!(%error, topic = self.partition.topic(), partition = self.index(), "what time leads to in a coordinator is not written; it is tried again");
                if let Ok(machine) = inner.active() {
                    machine.postpone(now.saturating_add(RETRY_MS));
                }
            }
        }
        self.note_deadline(&inner);
    }

    /// Waits until `position` is committed, as long as a request may wait for that.
    pub async fn wait_committed(&self, position: Option<Position>) -> Result<(), ErrorCode> {
        match position {
            Some(Position { end }) => {
                let wait = wait_committed_within(self.links.commit_timeout, &self.partition, end, self.leader_epoch);
                wait.await.map_err(|error| coordinator_code(&error))
            }
            None => Ok(()),
        }
    }

    /// Writes the marker of a transaction with records in this partition: they are committed or aborted from now on.
    pub fn end_transaction(&self, marker: &Marker) -> Result<Position, ErrorCode> {
        let mut inner = self.lock();
        let machine = inner.active()?;
        let now = self.links.node.now_ms();
        let appended = marker.append_to(&self.partition, self.leader_epoch, now)?;
        machine.transaction_ended(marker.producer_id, marker.commit, now);
        let position = Position { end: appended };
        inner.written = Some(position);
        Ok(position)
    }

    fn is_committed(&self, position: Position) -> bool {
        matches!(
            self.partition.meets_guarantee(self.partition.full_guarantee(), position.end, self.leader_epoch),
            Ok(true)
        )
    }

    /// Writes a decision's records, applies it, gives answers. A decision that cannot be written is void.
    fn carry_out(
        self: &Arc<Self>,
        inner: &mut Inner<M>,
        mut effects: EffectsOf<M>,
        origin: Origin,
    ) -> Result<(), ErrorCode> {
        self.append(inner, &mut effects, origin)?;
        effects.events.iter().for_each(|event| (self.links.report_event)(event));
        inner.active()?.apply(Applied::all(&mut effects));
        inner.deliver(effects.replies, None);
        // An answer may rest on what an earlier request wrote: everything written so far is waited for.
        let position = inner.written.filter(|position| !self.is_committed(*position));
        inner.deliver(effects.on_commit, position);
        self.run_after_commit(inner, position, effects.stored, effects.actions);
        Ok(())
    }

    /// Does what depends on the commit of everything up to `position`; at once if it is committed.
    fn run_after_commit(
        self: &Arc<Self>,
        inner: &mut Inner<M>,
        position: Option<Position>,
        stored: Option<M::Stored>,
        actions: Vec<M::Action>,
    ) {
        let Some(position) = position else {
            if let Some(stored) = stored {
                self.report_commit(inner, stored, Ok(()));
            }
            return self.send_actions(actions);
        };
        if let Some(stored) = stored {
            let shard = Arc::clone(self);
            spawn(async move {
                let outcome = shard.wait_committed(Some(position)).await;
                shard.report_commit(&mut shard.lock(), stored, outcome);
            });
        }
        if !actions.is_empty() {
            let shard = Arc::clone(self);
            // No other task carries these actions out: the wait ends with the commit or with the leadership.
            spawn(async move {
                while wait_committed(&shard.partition, position.end, shard.leader_epoch).await.is_err() {
                    if shard.is_gone() {
                        return;
                    }
                    tokio::time::sleep(COMMIT_AGAIN_AFTER).await;
                }
                shard.send_actions(actions);
            });
        }
    }

    fn send_actions(self: &Arc<Self>, actions: Vec<M::Action>) {
        for action in actions {
            // The receiver is gone only when the broker stops.
            let _ = self.links.actions.send((Arc::clone(self), action));
        }
    }

    fn report_commit(self: &Arc<Self>, inner: &mut Inner<M>, stored: M::Stored, outcome: Result<(), ErrorCode>) {
        let Ok(machine) = inner.active() else { return };
        let effects = machine.committed(stored, outcome, self.links.node.now_ms());
        if let Err(error) = self.carry_out(inner, effects, COORDINATOR) {
            tracing::warn!(%error, topic = self.partition.topic(), partition = self.index(), "what follows from a commit is not written");
        }
        self.note_deadline(inner);
    }

    fn note_deadline(&self, inner: &Inner<M>) {
        let Phase::Active(machine) = &inner.phase else { return };
        let next = machine.next_deadline().unwrap_or(i64::MAX);
        if next < self.deadline.swap(next, Ordering::AcqRel) {
            self.links.deadline_moved.notify_one();
        }
    }

    /// Appends records: as one batch, or, where they are independent, as several of bounded size. Each of those is in force as
    /// soon as it is written, and is taken out of the decision.
    fn append(&self, inner: &mut Inner<M>, effects: &mut EffectsOf<M>, origin: Origin) -> Result<(), ErrorCode> {
        let limit = if effects.divisible { MAX_DIVISIBLE } else { usize::MAX };
        while !effects.records.is_empty() {
            let now = self.links.node.now_ms();
            let (batch, count) = batches::encode::<M>(&effects.records, effects.writer, limit, now)
                .ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
            inner.written = Some(self.append_batch(batch, origin, now)?);
            if !effects.divisible {
                break;
            }
            let written: Vec<M::Record> = effects.records.drain(..count.min(effects.records.len())).collect();
            inner.active()?.apply(Applied::some(&written, effects.writer));
        }
        Ok(())
    }

    fn append_batch(&self, batch: Bytes, origin: Origin, now: i64) -> Result<Position, ErrorCode> {
        let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        // A state that was loaded in an earlier leadership may lack what another leader wrote since.
        let appended = self.partition.append_in_epoch(self.leader_epoch, &header, &batch, origin, now);
        let appended = appended.map_err(|error| {
            tracing::warn!(%error, partition = self.index(), "cannot append to {}", self.partition.topic());
            coordinator_code(&error)
        })?;
        // No request waits for some records: expired offsets, the end of a transaction.
        self.partition.flush_unawaited();
        Ok(Position { end: appended.last_offset.saturating_add(1) })
    }
}

impl<M: StateMachine> Inner<M> {
    fn active(&mut self) -> Result<&mut M, ErrorCode> {
        match &mut self.phase {
            Phase::Active(machine) => Ok(machine),
            Phase::Loading => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            Phase::Gone => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    fn deliver(&mut self, replies: Vec<(Token, M::Reply)>, position: Option<Position>) {
        for (token, reply) in replies {
            if let Some(parked) = self.parked.remove(&token) {
                // The client may have hung up.
                let _ = parked.send((reply, position));
            }
        }
    }
}
