//! Replicas on their way to another log dir (KIP-113): copied in the background, then put in place while appends wait a moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_protocol::primitives::Uuid;
use esker_storage::{LogError, Move};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::manager::{ReplicaManager, TopicRef};
use super::partition::Partition;
use crate::clock::now_ms;

/// What may be left to copy when appends are held off.
const CLOSE_ENOUGH: u64 = 256 << 10;
/// Rounds of copying after which a log that outruns them is put in place all the same.
const MOST_ROUNDS: usize = 20;

/// Why a replica does not move.
#[derive(Debug, Error)]
pub enum MoveError {
    /// The broker has no such log dir.
    #[error("{} is none of this broker's log dirs", .0.display())]
    UnknownDir(PathBuf),
    /// `cordoned.log.dirs` names it.
    #[error("log directory {} is cordoned", .0.display())]
    Cordoned(PathBuf),
    /// The replica is not here.
    #[error(transparent)]
    Access(#[from] super::AccessError),
    /// A disk failed, or a log dir is offline.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A move as DescribeLogDirs tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveProgress {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The log dir that it goes to.
    pub to: PathBuf,
    /// Bytes that are there.
    pub copied: u64,
    /// Records behind the log's end; bytes stand for them while whole segments are copied.
    pub behind: u64,
}

/// All moves of this broker.
///
/// A move that is taken back or sent elsewhere goes on until it looks, so each has a ticket: what an earlier one does at its end must
/// not end the one that took its place.
#[derive(Debug)]
pub struct Moves {
    under_way: Mutex<HashMap<(Uuid, i32), (Ticket, MoveProgress)>>,
    tickets: AtomicU64,
    /// Held while it is decided where a replica goes, and while one is put in place: whoever was told that a move is taken back must
    /// not see it end all the same.
    turn: Mutex<()>,
    threads: Arc<Semaphore>,
}

/// Which of the moves of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket(u64);

impl Moves {
    /// Room for `threads` moves side by side.
    pub fn new(threads: usize) -> Self {
        Self {
            under_way: Mutex::default(),
            tickets: AtomicU64::new(0),
            turn: Mutex::default(),
            threads: Arc::new(Semaphore::new(threads.max(1))),
        }
    }

    /// All that are under way.
    pub fn progress(&self) -> Vec<MoveProgress> {
        self.under_way.lock().values().map(|(_, progress)| progress.clone()).collect()
    }

    fn goes_to(&self, key: (Uuid, i32), to: &Path) -> bool {
        self.under_way.lock().get(&key).is_some_and(|(_, progress)| progress.to == to)
    }

    /// In the place of whatever was under way for this replica.
    fn begin(&self, key: (Uuid, i32), progress: MoveProgress) -> Ticket {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        self.under_way.lock().insert(key, (ticket, progress));
        ticket
    }

    fn take_back(&self, key: (Uuid, i32)) {
        self.under_way.lock().remove(&key);
    }

    fn wanted(&self, key: (Uuid, i32), ticket: Ticket) -> bool {
        self.under_way.lock().get(&key).is_some_and(|(current, _)| *current == ticket)
    }

    fn note(&self, key: (Uuid, i32), ticket: Ticket, moving: &Move) {
        if let Some((_, progress)) = self.under_way.lock().get_mut(&key).filter(|(current, _)| *current == ticket) {
            (progress.copied, progress.behind) = (moving.copied_bytes(), moving.bytes_behind());
        }
    }

    fn end(&self, key: (Uuid, i32), ticket: Ticket) {
        let mut under_way = self.under_way.lock();
        if under_way.get(&key).is_some_and(|(current, _)| *current == ticket) {
            under_way.remove(&key);
        }
    }
}

impl ReplicaManager {
    /// AlterReplicaLogDirs for one partition: begins a move, changes where one goes, or takes one back. Does not wait for its end.
    /// Blocks shortly on the disk. Must run within the runtime.
    pub fn move_replica(self: &Arc<Self>, topic: &TopicRef, partition: i32, to: &Path) -> Result<(), MoveError> {
        let dirs = self.logs().dirs();
        let found = dirs.iter().find(|dir| same_path(&dir.path, to));
        let found = found.ok_or_else(|| MoveError::UnknownDir(to.to_owned()))?;
        if found.cordoned {
            return Err(MoveError::Cordoned(to.to_owned()));
        }
        let to = found.path.clone();
        let partition = self.partition(topic, partition)?;
        let key = (partition.topic_id(), partition.index());
        let _turn = self.moves().turn.lock();
        if self.moves().goes_to(key, &to) {
            return Ok(());
        }
        // Whatever was under way for it sees that it is no longer wanted.
        self.moves().take_back(key);
        let Some(moving) = self.logs().begin_move(partition.topic(), partition.index(), &to)? else { return Ok(()) };
        let log = partition.log();
        let progress = MoveProgress {
            topic: Arc::clone(log.topic()),
            partition: partition.index(),
            to,
            copied: 0,
            behind: log.size_bytes(),
        };
        let ticket = self.moves().begin(key, progress);
        let (manager, threads) = (Arc::clone(self), Arc::clone(&self.moves().threads));
        tokio::spawn(async move {
            let Ok(_permit) = threads.acquire_owned().await else { return };
            let moved = tokio::task::spawn_blocking(move || manager.carry(&partition, ticket, moving)).await;
            if let Err(error) = moved {
                tracing::error!(%error, "a move between log dirs was cut short");
            }
        });
        Ok(())
    }

    /// Goes on with what the last stop cut short.
    pub fn resume_moves(self: &Arc<Self>) {
        for (topic, partition, to) in self.logs().unfinished_moves() {
            if let Err(error) = self.move_replica(&TopicRef::Id(topic), partition, &to) {
                tracing::warn!(%topic, partition, to = %to.display(), %error, "a move between log dirs does not go on");
            }
        }
    }

    fn carry(&self, partition: &Partition, ticket: Ticket, mut moving: Move) {
        let (moves, key) = (self.moves(), (partition.topic_id(), partition.index()));
        for round in 0..MOST_ROUNDS {
            if !moves.wanted(key, ticket) || partition.log().is_offline() {
                moves.end(key, ticket);
                return self.logs().abandon_move(moving);
            }
            if round > 0 && moving.bytes_behind() <= CLOSE_ENOUGH {
                break;
            }
            if let Err(error) = moving.copy() {
                return self.failed(key, ticket, moving, &error);
            }
            moves.note(key, ticket, &moving);
        }
        let _turn = moves.turn.lock();
        if !moves.wanted(key, ticket) {
            return self.logs().abandon_move(moving);
        }
        match partition.replace_log(|install| self.logs().finish_move(&mut moving, now_ms(), install).map(drop)) {
            Ok(()) => {
                moves.end(key, ticket);
                let to = moving.destination().display();
                tracing::info!(topic = partition.topic(), partition = partition.index(), %to, "replica moved to another log dir");
            }
            Err(error) => self.failed(key, ticket, moving, &error),
        }
    }

    fn failed(&self, key: (Uuid, i32), ticket: Ticket, moving: Move, error: &LogError) {
        self.moves().end(key, ticket);
        tracing::error!(to = %moving.destination().display(), %error, "a replica stays where it is: it could not be moved");
        self.logs().abandon_move(moving);
    }
}

pub(super) fn same_path(dir: &Path, asked: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(dir) == absolute(asked)
}

#[cfg(test)]
mod tests;
