//! One loaded (or loading) state machine with its partition and the requests that are parked in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use esker_core::coordinator::{EffectsOf, StateMachine, Token, Writer};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::records::{BatchBuilder, BatchHeader, NO_SEQUENCE};
use esker_storage::Origin;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::commit::committed;
use super::markers::Marker;
use super::runtime::{Act, Tell};
use crate::clock::now_ms;
use crate::error::KafkaError;
use crate::replica::Partition;

/// The rules for what a coordinator writes of its own accord.
const COORDINATOR: Origin = Origin::Coordinator { transaction_v2: false };

/// What a shard is doing.
enum Phase<M> {
    Loading,
    Active(Box<M>),
    Gone,
}

/// What comes to a parked request: its answer, and what must be committed before it is given.
type Delivery<M> = Result<(<M as StateMachine>::Reply, Option<Position>), ErrorCode>;

struct Inner<M: StateMachine> {
    phase: Phase<M>,
    parked: HashMap<Token, oneshot::Sender<Delivery<M>>>,
    next_token: Token,
    /// Behind what this shard wrote last.
    written: Option<Position>,
}

/// A shard behind its lock.
pub struct ShardHandle<M: StateMachine> {
    partition: Arc<Partition>,
    leader_epoch: i32,
    inner: Mutex<Inner<M>>,
    deadline: AtomicI64,
    /// Its log could not be read: it stays as good as loading.
    failed: AtomicBool,
    /// Told when the deadline comes nearer.
    sooner: Arc<Notify>,
    actions: mpsc::UnboundedSender<Act<M>>,
    tell: Tell<M>,
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
pub struct Asked<M: StateMachine> {
    shard: Arc<ShardHandle<M>>,
    delivery: oneshot::Receiver<Delivery<M>>,
}

impl<M: StateMachine> Asked<M> {
    /// The answer, once it may be given.
    pub async fn answer(self) -> Result<M::Reply, ErrorCode> {
        let (reply, position) = self.delivery.await.map_err(|_| ErrorCode::NOT_COORDINATOR)??;
        self.shard.committed(position).await?;
        Ok(reply)
    }
}

impl<M: StateMachine> ShardHandle<M> {
    /// A shard that is to be loaded.
    pub(super) fn new(
        partition: Arc<Partition>,
        leader_epoch: i32,
        sooner: Arc<Notify>,
        actions: mpsc::UnboundedSender<Act<M>>,
        tell: Tell<M>,
    ) -> Self {
        let inner = Inner { phase: Phase::Loading, parked: HashMap::new(), next_token: 0, written: None };
        let deadline = AtomicI64::new(i64::MAX);
        let failed = AtomicBool::new(false);
        Self { partition, leader_epoch, inner: Mutex::new(inner), deadline, failed, sooner, actions, tell }
    }

    /// The partition's number.
    pub fn index(&self) -> i32 {
        self.partition.index()
    }

    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// The leader epoch that the shard lives in.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// When time must pass here next; `i64::MAX` for never.
    pub fn deadline(&self) -> i64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// Loading is over.
    pub fn activate(self: &Arc<Self>, mut machine: M) {
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Loading) {
            let effects = machine.loaded(now_ms());
            inner.phase = Phase::Active(Box::new(machine));
            // What was loaded is answered for only when it is committed in this epoch.
            inner.written = Some(Position { end: self.partition.log().log_end_offset() });
            self.carry_out(&mut inner, effects);
        }
    }

    /// Leadership is gone: whoever is parked must look elsewhere.
    pub fn unload(&self) {
        let mut inner = self.inner.lock();
        if let Phase::Active(mut machine) = std::mem::replace(&mut inner.phase, Phase::Gone) {
            inner.deliver(machine.abandon(ErrorCode::NOT_COORDINATOR), Ok(None));
        }
        inner.parked.clear();
        self.deadline.store(i64::MAX, Ordering::Release);
    }

    /// Loading is over, and came to nothing.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Kafka's name for what it is doing; `None` if leadership went.
    pub fn state(&self) -> Option<&'static str> {
        match self.inner.lock().phase {
            Phase::Loading if self.failed.load(Ordering::Relaxed) => Some("failed"),
            Phase::Loading => Some("loading"),
            Phase::Active(_) => Some("active"),
            Phase::Gone => None,
        }
    }

    /// Whether leadership went.
    pub fn is_gone(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Gone)
    }

    /// Runs `read` on the machine; nothing is written.
    pub fn read<R>(&self, read: impl FnOnce(&mut M) -> R) -> Result<R, ErrorCode> {
        let mut inner = self.inner.lock();
        let result = read(inner.active()?);
        if let Phase::Active(machine) = &inner.phase {
            self.note_deadline(machine);
        }
        Ok(result)
    }

    /// Parks a request: `ask` is given its token, and the answer comes to it sooner or later.
    pub fn ask(self: &Arc<Self>, ask: impl FnOnce(&mut M, Token) -> EffectsOf<M>) -> Result<Asked<M>, ErrorCode> {
        let mut inner = self.inner.lock();
        inner.active()?;
        let (sender, delivery) = oneshot::channel();
        inner.next_token += 1;
        let token = inner.next_token;
        inner.parked.insert(token, sender);
        let effects = ask(inner.active()?, token);
        self.carry_out(&mut inner, effects);
        Ok(Asked { shard: Arc::clone(self), delivery })
    }

    /// Runs a change whose answer is known at once: its records are appended, then applied. The answer may be given once the
    /// position is committed: behind everything written so far, as the answer may rest on what an earlier request wrote.
    pub fn write<R>(
        self: &Arc<Self>,
        write: impl FnOnce(&mut M) -> Result<(EffectsOf<M>, R), ErrorCode>,
    ) -> Result<(R, Option<Position>), ErrorCode> {
        self.write_as(COORDINATOR, write)
    }

    /// As [`ShardHandle::write`], with the records held to the rules of `origin`.
    pub fn write_as<R>(
        self: &Arc<Self>,
        origin: Origin,
        write: impl FnOnce(&mut M) -> Result<(EffectsOf<M>, R), ErrorCode>,
    ) -> Result<(R, Option<Position>), ErrorCode> {
        let mut inner = self.inner.lock();
        let (effects, result) = write(inner.active()?)?;
        let position = match self.append(&mut inner, &effects, origin) {
            Ok(position) => position,
            Err(error) => {
                inner.active()?.not_written();
                return Err(error);
            }
        };
        self.carry_out_written(&mut inner, effects, Ok(position));
        Ok((result, inner.written.filter(|position| !self.is_committed(*position))))
    }

    /// Lets time pass.
    pub fn tick(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        let Ok(machine) = inner.active() else { return };
        let effects = machine.tick(now_ms());
        self.carry_out(&mut inner, effects);
    }

    /// Waits until `position` is committed.
    pub async fn committed(&self, position: Option<Position>) -> Result<(), ErrorCode> {
        match position {
            Some(Position { end }) => committed(&self.partition, end, self.leader_epoch).await,
            None => Ok(()),
        }
    }

    /// Writes the marker of a transaction that wrote records here: they count, or do not, from now on.
    pub fn end_transaction(&self, marker: &Marker) -> Result<Position, ErrorCode> {
        let mut inner = self.inner.lock();
        let machine = inner.active()?;
        let now = now_ms();
        let appended = marker.append_to(&self.partition, now)?;
        machine.transaction_ended(marker.producer_id, marker.commit, now);
        let position = Position { end: appended };
        inner.written = Some(position);
        Ok(position)
    }

    fn is_committed(&self, position: Position) -> bool {
        matches!(self.partition.holds(self.partition.full_guarantee(), position.end, self.leader_epoch), Ok(true))
    }

    /// Writes records, applies them, gives answers.
    fn carry_out(self: &Arc<Self>, inner: &mut Inner<M>, effects: EffectsOf<M>) {
        let appended = self.append(inner, &effects, COORDINATOR);
        if let Err(error) = appended {
            tracing::warn!(%error, topic = self.partition.topic(), partition = self.index(), "a coordinator's state could not be written");
        }
        self.carry_out_written(inner, effects, appended);
    }

    /// Applies records that were written, gives answers. What waits for the commit is told at once if that has come already.
    fn carry_out_written(
        self: &Arc<Self>,
        inner: &mut Inner<M>,
        effects: EffectsOf<M>,
        appended: Result<Option<Position>, ErrorCode>,
    ) {
        // A decision that could not be written is void, or is made again.
        for event in effects.events.iter().filter(|_| appended.is_ok()) {
            (self.tell)(event);
            if let Ok(machine) = inner.active() {
                machine.told(event);
            }
        }
        inner.deliver(effects.replies, Ok(None));
        match (&appended, inner.active()) {
            (Ok(Some(_)), Ok(machine)) => machine.apply(&effects.records, effects.writer),
            (Err(_), Ok(machine)) => machine.not_written(),
            _ => {}
        }
        // An answer may rest on what an earlier request wrote: everything written so far is waited for.
        let position = inner.written.filter(|position| !self.is_committed(*position));
        inner.deliver(effects.on_commit, appended.map(|_| position));
        let (stored, actions) = (effects.stored, effects.actions);
        if stored.is_some() || !actions.is_empty() {
            match (appended, position) {
                (Ok(_), Some(position)) => {
                    let shard = Arc::clone(self);
                    tokio::spawn(async move {
                        let outcome = shard.committed(Some(position)).await;
                        shard.after_commit(&mut shard.inner.lock(), stored, actions, outcome);
                    });
                }
                (outcome, _) => self.after_commit(inner, stored, actions, outcome.map(|_| ())),
            }
        }
        if let Phase::Active(machine) = &inner.phase {
            self.note_deadline(machine);
        }
    }

    fn after_commit(
        self: &Arc<Self>,
        inner: &mut Inner<M>,
        stored: Option<M::Stored>,
        actions: Vec<M::Action>,
        outcome: Result<(), ErrorCode>,
    ) {
        let Ok(machine) = inner.active() else { return };
        let effects = stored.map(|stored| machine.committed(stored, outcome, now_ms()));
        if outcome.is_ok() {
            for action in actions {
                // Whoever acts is gone only when the broker stops.
                let _ = self.actions.send((Arc::clone(self), action));
            }
        }
        if let Some(effects) = effects {
            self.carry_out(inner, effects);
        }
    }

    fn note_deadline(&self, machine: &M) {
        let next = machine.next_deadline().unwrap_or(i64::MAX);
        if next < self.deadline.swap(next, Ordering::AcqRel) {
            self.sooner.notify_one();
        }
    }

    /// Appends records as one batch.
    fn append(
        &self,
        inner: &mut Inner<M>,
        effects: &EffectsOf<M>,
        origin: Origin,
    ) -> Result<Option<Position>, ErrorCode> {
        if effects.records.is_empty() {
            return Ok(None);
        }
        let now = now_ms();
        let batch = batch_of::<M>(&effects.records, effects.writer, now).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let position = self.append_batch(batch, origin, now)?;
        inner.written = Some(position);
        Ok(Some(position))
    }

    fn append_batch(&self, batch: Bytes, origin: Origin, now: i64) -> Result<Position, ErrorCode> {
        let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let appended = self.partition.append(&header, &batch, origin, true, now).map_err(|error| {
            tracing::warn!(%error, partition = self.index(), "cannot append to {}", self.partition.topic());
            match error.code() {
                ErrorCode::NOT_LEADER_OR_FOLLOWER => ErrorCode::NOT_COORDINATOR,
                ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                    ErrorCode::INVALID_COMMIT_OFFSET_SIZE
                }
                code @ (ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_TXN_STATE) => code,
                _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            }
        })?;
        Ok(Position { end: appended.last_offset.saturating_add(1) })
    }
}

fn batch_of<M: StateMachine>(records: &[M::Record], writer: Option<Writer>, now: i64) -> Option<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(Writer { producer_id, producer_epoch }) = writer {
        builder = builder.producer(producer_id, producer_epoch, NO_SEQUENCE).transactional(true);
    }
    for (at, record) in records.iter().enumerate() {
        let (key, value) = M::encode(record).ok()?;
        builder.append(i32::try_from(at).ok()?, now, Some(&key), value.as_deref(), &[]);
    }
    builder.build().ok()
}

impl<M: StateMachine> Inner<M> {
    fn active(&mut self) -> Result<&mut M, ErrorCode> {
        match &mut self.phase {
            Phase::Active(machine) => Ok(machine),
            Phase::Loading => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            Phase::Gone => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    fn deliver(&mut self, replies: Vec<(Token, M::Reply)>, when: Result<Option<Position>, ErrorCode>) {
        for (token, reply) in replies {
            if let Some(parked) = self.parked.remove(&token) {
                // The client may have hung up.
                let _ = parked.send(when.map(|position| (reply, position)));
            }
        }
    }
}
