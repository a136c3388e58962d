//! Replicas on their way to another log dir (KIP-113): copied in the background, then put in place while appends wait a moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_protocol::primitives::Uuid;
use esker_storage::{LogError, LogManager, Move};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::partition::Partition;
use crate::node::Node;

/// What may be left to copy when appends are held off.
const MAX_BYTES_AT_SWITCH: u64 = 256 << 10;
/// Rounds of copying after which a log that outruns them is put in place all the same.
const MAX_COPY_ROUNDS: usize = 20;

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
    node: Node,
    logs: Arc<LogManager>,
    under_way: Mutex<HashMap<(Uuid, i32), (Ticket, MoveProgress)>>,
    tickets: AtomicU64,
    /// Held while it is decided where a replica goes, and while one is put in place: whoever was told that a move is taken back must
    /// not see it end all the same.
    decisions: Mutex<()>,
    threads: Arc<Semaphore>,
}

/// Which of the moves of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket(u64);

impl Moves {
    /// Room for `threads` moves side by side.
    pub fn new(node: Node, logs: Arc<LogManager>, threads: usize) -> Self {
        Self {
            node,
            logs,
            under_way: Mutex::default(),
            tickets: AtomicU64::new(0),
            decisions: Mutex::default(),
            threads: Arc::new(Semaphore::new(threads.max(1))),
        }
    }

    /// All that are under way.
    pub fn progress(&self) -> Vec<MoveProgress> {
        self.under_way.lock().values().map(|(_, progress)| progress.clone()).collect()
    }

    fn is_moving_to(&self, key: (Uuid, i32), to: &Path) -> bool {
        self.under_way.lock().get(&key).is_some_and(|(_, progress)| progress.to == to)
    }

    /// In the place of whatever was under way for this replica.
    fn begin_move(&self, key: (Uuid, i32), progress: MoveProgress) -> Ticket {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        self.under_way.lock().insert(key, (ticket, progress));
        ticket
    }

    fn cancel_move(&self, key: (Uuid, i32)) {
        self.under_way.lock().remove(&key);
    }

    fn is_current(&self, key: (Uuid, i32), ticket: Ticket) -> bool {
        self.under_way.lock().get(&key).is_some_and(|(current, _)| *current == ticket)
    }

    fn record_progress(&self, key: (Uuid, i32), ticket: Ticket, moving: &Move) {
        if let Some((_, progress)) = self.under_way.lock().get_mut(&key).filter(|(current, _)| *current == ticket) {
            (progress.copied, progress.behind) = (moving.copied_bytes(), moving.bytes_behind());
        }
    }

    fn end_move(&self, key: (Uuid, i32), ticket: Ticket) {
        let mut under_way = self.under_way.lock();
        if under_way.get(&key).is_some_and(|(current, _)| *current == ticket) {
            under_way.remove(&key);
        }
    }

    /// Begins the move of a replica to the log dir `to`, changes where one goes, or cancels one (`to` is where the replica lies). Does
    /// not wait for its end. Blocks shortly on the disk. Must run within the runtime.
    pub(super) fn start_move(self: &Arc<Self>, partition: Arc<Partition>, to: &Path) -> Result<(), MoveError> {
        let dirs = self.logs.dirs();
        let found = dirs.iter().find(|dir| same_path(&dir.path, to));
        let found = found.ok_or_else(|| MoveError::UnknownDir(to.to_owned()))?;
        if found.cordoned {
            return Err(MoveError::Cordoned(to.to_owned()));
        }
        let to = found.path.clone();
        let key = (partition.topic_id(), partition.index());
        let _decision = self.decisions.lock();
        if self.is_moving_to(key, &to) {
            return Ok(());
        }
        // Whatever was under way for it sees that it is no longer wanted.
        self.cancel_move(key);
        let Some(moving) = self.logs.begin_move(partition.topic(), partition.index(), &to)? else { return Ok(()) };
        let log = partition.log();
        let progress = MoveProgress {
            topic: Arc::clone(log.topic()),
            partition: partition.index(),
            to,
            copied: 0,
            behind: log.size_bytes(),
        };
        let ticket = self.begin_move(key, progress);
        let moves = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_permit) = Arc::clone(&moves.threads).acquire_owned().await else { return };
            let node = moves.node.clone();
            if let Err(error) = node.run_blocking(move || moves.run_move(&partition, ticket, moving)).await {
                tracing::error!(%error, "a move between log dirs did not end; it goes on after the next start");
            }
        });
        Ok(())
    }

    fn run_move(&self, partition: &Partition, ticket: Ticket, mut moving: Move) {
        let key = (partition.topic_id(), partition.index());
        for round in 0..MAX_COPY_ROUNDS {
            if !self.is_current(key, ticket) || partition.log().is_offline() {
                self.end_move(key, ticket);
                return self.logs.abandon_move(moving);
            }
            if round > 0 && moving.bytes_behind() <= MAX_BYTES_AT_SWITCH {
                break;
            }
            if let Err(error) = moving.copy() {
                return self.report_failure(key, ticket, moving, &error);
            }
            self.record_progress(key, ticket, &moving);
        }
        let _decision = self.decisions.lock();
        if !self.is_current(key, ticket) {
            return self.logs.abandon_move(moving);
        }
        match partition.replace_log(|install| self.logs.finish_move(&mut moving, self.node.now_ms(), install).map(drop))
        {
            Ok(()) => {
                self.end_move(key, ticket);
                let to = moving.destination().display();
                tracing::info!(topic = partition.topic(), partition = partition.index(), %to, "replica moved to another log dir");
            }
            Err(error) => self.report_failure(key, ticket, moving, &error),
        }
    }

    fn report_failure(&self, key: (Uuid, i32), ticket: Ticket, moving: Move, error: &LogError) {
        self.end_move(key, ticket);
        tracing::error!(to = %moving.destination().display(), %error, "a replica stays where it is: it could not be moved");
        self.logs.abandon_move(moving);
    }
}

pub(super) fn same_path(dir: &Path, asked: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(dir) == absolute(asked)
}

#[cfg(test)]
mod tests;
