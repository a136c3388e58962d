//! One loaded (or loading) shard with its partition and the requests that are parked in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use esker_core::group::{Effects, GroupRecord, GroupShard, Reply, Stored, Token};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::records::{BatchBuilder, BatchHeader};
use esker_storage::Origin;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::clock::now_ms;
use crate::error::KafkaError;
use crate::replica::{CommitGate, Partition};

/// Pause before a failed sync is waited for once more.
const SYNC_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

/// What a shard is doing.
#[derive(Debug)]
enum Phase {
    Loading,
    Active(Box<GroupShard>),
    Gone,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    parked: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: Token,
}

/// A shard behind its lock.
#[derive(Debug)]
pub struct ShardHandle {
    partition: Arc<Partition>,
    leader_epoch: i32,
    inner: Mutex<Inner>,
    deadline: AtomicI64,
    /// Told when the deadline comes nearer.
    sooner: Arc<Notify>,
}

/// Where the log must be committed up to before an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    end: i64,
}

impl ShardHandle {
    /// A shard that is to be loaded.
    pub fn new(partition: Arc<Partition>, leader_epoch: i32, sooner: Arc<Notify>) -> Self {
        let inner = Inner { phase: Phase::Loading, parked: HashMap::new(), next_token: 0 };
        Self { partition, leader_epoch, inner: Mutex::new(inner), deadline: AtomicI64::new(i64::MAX), sooner }
    }

    /// The partition's number.
    pub fn index(&self) -> i32 {
        self.partition.index()
    }

    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// When time must pass here next; `i64::MAX` for never.
    pub fn deadline(&self) -> i64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// Loading is over.
    pub fn activate(&self, shard: GroupShard) {
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Loading) {
            self.note_deadline(&shard);
            inner.phase = Phase::Active(Box::new(shard));
        }
    }

    /// Leadership is gone: whoever is parked must look elsewhere.
    pub fn unload(&self) {
        let mut inner = self.inner.lock();
        if let Phase::Active(mut shard) = std::mem::replace(&mut inner.phase, Phase::Gone) {
            inner.deliver(shard.abandon(ErrorCode::NOT_COORDINATOR));
        }
        inner.parked.clear();
        self.deadline.store(i64::MAX, Ordering::Release);
    }

    /// Runs `read` on the shard; nothing is written.
    pub fn read<R>(&self, read: impl FnOnce(&mut GroupShard) -> R) -> Result<R, ErrorCode> {
        let mut inner = self.inner.lock();
        let result = read(inner.active()?);
        if let Phase::Active(shard) = &inner.phase {
            self.note_deadline(shard);
        }
        Ok(result)
    }

    /// Parks a request: `ask` is given its token, and the answer comes through the receiver.
    pub fn ask(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut GroupShard, Token) -> Effects,
    ) -> Result<oneshot::Receiver<Reply>, ErrorCode> {
        let mut inner = self.inner.lock();
        inner.active()?;
        let (sender, receiver) = oneshot::channel();
        inner.next_token += 1;
        let token = inner.next_token;
        inner.parked.insert(token, sender);
        let effects = ask(inner.active()?, token);
        self.carry_out(&mut inner, effects);
        Ok(receiver)
    }

    /// Runs a change whose records are offsets: they are appended, then applied. The answer may be given once the
    /// position is committed.
    pub fn write<R>(
        self: &Arc<Self>,
        write: impl FnOnce(&mut GroupShard) -> Result<(Effects, R), ErrorCode>,
    ) -> Result<(R, Option<Position>), ErrorCode> {
        let mut inner = self.inner.lock();
        let (effects, result) = write(inner.active()?)?;
        let position = self.append(&effects.records)?;
        inner.active()?.apply_offsets(&effects.records);
        self.carry_out(&mut inner, Effects { records: Vec::new(), ..effects });
        Ok((result, position))
    }

    /// Lets time pass.
    pub fn tick(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        let Ok(shard) = inner.active() else { return };
        let effects = shard.tick(now_ms());
        self.carry_out(&mut inner, effects);
    }

    /// Waits until `position` is committed.
    pub async fn committed(&self, position: Option<Position>) -> Result<(), ErrorCode> {
        let Some(Position { end }) = position else { return Ok(()) };
        let guarantee = self.partition.full_guarantee();
        loop {
            match self.partition.holds(guarantee, end, self.leader_epoch) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => return Err(ErrorCode::NOT_COORDINATOR),
            }
            let gate = CommitGate::new(1);
            self.partition.wait_until(guarantee, end, Arc::clone(&gate));
            gate.wait().await;
            if !matches!(self.partition.holds(guarantee, end, self.leader_epoch), Ok(true)) {
                // A sync failed that may go well next time (no file handles left): not again at once.
                tokio::time::sleep(SYNC_AGAIN_AFTER).await;
            }
        }
    }

    /// Writes records, gives answers. Assignments are told when they are committed: at once if they are already.
    fn carry_out(self: &Arc<Self>, inner: &mut Inner, effects: Effects) {
        for (group, why) in &effects.rebalances {
            tracing::info!(%group, reason = why, "group rebalances");
        }
        inner.deliver(effects.replies);
        let appended = self.append(&effects.records);
        if let Some(stored) = effects.stored {
            match appended {
                Ok(Some(position))
                    if !matches!(
                        self.partition.holds(self.partition.full_guarantee(), position.end, self.leader_epoch),
                        Ok(true)
                    ) =>
                {
                    let shard = Arc::clone(self);
                    tokio::spawn(async move {
                        let outcome = shard.committed(Some(position)).await;
                        shard.stored(stored, outcome);
                    });
                }
                Ok(_) => self.stored_locked(inner, stored, Ok(())),
                Err(error) => self.stored_locked(inner, stored, Err(error)),
            }
        } else if let Err(error) = appended {
            tracing::warn!(%error, partition = self.index(), "a group's state could not be written");
        }
        if let Phase::Active(shard) = &inner.phase {
            self.note_deadline(shard);
        }
    }

    fn stored(self: &Arc<Self>, stored: Stored, outcome: Result<(), ErrorCode>) {
        self.stored_locked(&mut self.inner.lock(), stored, outcome);
    }

    fn stored_locked(self: &Arc<Self>, inner: &mut Inner, stored: Stored, outcome: Result<(), ErrorCode>) {
        let Ok(shard) = inner.active() else { return };
        let effects = shard.committed(stored, outcome, now_ms());
        self.carry_out(inner, effects);
    }

    fn note_deadline(&self, shard: &GroupShard) {
        let next = shard.next_deadline().unwrap_or(i64::MAX);
        if next < self.deadline.swap(next, Ordering::AcqRel) {
            self.sooner.notify_one();
        }
    }

    /// Appends records as one batch.
    fn append(&self, records: &[GroupRecord]) -> Result<Option<Position>, ErrorCode> {
        if records.is_empty() {
            return Ok(None);
        }
        let now = now_ms();
        let batch = batch_of(records, now).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let header = BatchHeader::parse(&batch).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let origin = Origin::Coordinator { transaction_v2: false };
        let appended = self.partition.append(&header, batch, origin, true, now).map_err(|error| {
            tracing::warn!(%error, partition = self.index(), "cannot append to {}", super::OFFSETS_TOPIC);
            match error.code() {
                ErrorCode::NOT_LEADER_OR_FOLLOWER => ErrorCode::NOT_COORDINATOR,
                ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                    ErrorCode::INVALID_COMMIT_OFFSET_SIZE
                }
                _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            }
        })?;
        Ok(Some(Position { end: appended.last_offset.saturating_add(1) }))
    }
}

fn batch_of(records: &[GroupRecord], now: i64) -> Option<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    for (at, record) in records.iter().enumerate() {
        let (key, value) = record.to_bytes().ok()?;
        builder.append(i32::try_from(at).ok()?, now, Some(&key), value.as_deref(), &[]);
    }
    builder.build().ok()
}

impl Inner {
    fn active(&mut self) -> Result<&mut GroupShard, ErrorCode> {
        match &mut self.phase {
            Phase::Active(shard) => Ok(shard),
            Phase::Loading => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            Phase::Gone => Err(ErrorCode::NOT_COORDINATOR),
        }
    }

    fn deliver(&mut self, replies: Vec<(Token, Reply)>) {
        for (token, reply) in replies {
            if let Some(parked) = self.parked.remove(&token) {
                // The client may have hung up.
                let _ = parked.send(reply);
            }
        }
    }
}
