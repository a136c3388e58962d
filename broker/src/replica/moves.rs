//! Moves of replicas to another log dir (KIP-113): copied in the background, then switched over while appends wait shortly.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_protocol::primitives::Uuid;
use esker_storage::{LogError, LogManager, Move};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};

use super::partition::Partition;
use crate::node::Node;
use crate::task::spawn;

/// Bytes that may be left to copy when appends are blocked for the switch.
const MAX_BYTES_AT_SWITCH: u64 = 256 << 10;
/// Rounds of copying after which the switch happens even if the log grows faster than the copy.
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

/// The progress of a move, for DescribeLogDirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveProgress {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The destination log dir.
    pub to: PathBuf,
    /// Bytes that are copied.
    pub copied: u64,
    /// Lag behind the log end, in bytes.
    pub behind: u64,
}

/// All moves of this broker.
///
/// A canceled or redirected move continues until its next check, so each move has a ticket: the end of an earlier move must not end
/// the one that replaced it.
#[derive(Debug)]
pub struct Moves {
    node: Node,
    logs: Arc<LogManager>,
    under_way: Mutex<HashMap<(Uuid, i32), (Ticket, MoveProgress)>>,
    tickets: AtomicU64,
    /// Held while a destination is decided, and during the switch: a move must not complete after its cancellation was
    /// acknowledged.
    decisions: Mutex<()>,
    threads: Arc<Semaphore>,
    /// Notified when a replica is in another log dir.
    ended: Arc<Notify>,
}

/// The number of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticket(u64);

impl Moves {
    /// Up to `threads` moves run concurrently.
    pub fn new(node: Node, logs: Arc<LogManager>, ended: Arc<Notify>, threads: usize) -> Self {
        Self {
            node,
            logs,
            under_way: Mutex::default(),
            tickets: AtomicU64::new(0),
            decisions: Mutex::default(),
            threads: Arc::new(Semaphore::new(threads.max(1))),
            ended,
        }
    }

    /// The progress of all running moves.
    pub fn progress(&self) -> Vec<MoveProgress> {
        self.under_way.lock().values().map(|(_, progress)| progress.clone()).collect()
    }

    fn is_moving_to(&self, key: (Uuid, i32), to: &Path) -> bool {
        self.under_way.lock().get(&key).is_some_and(|(_, progress)| progress.to == to)
    }

    /// Registers a move and replaces an earlier one of this replica.
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

    /// Begins the move of a replica to the log dir `to`, changes the destination of a move, or cancels it (`to` is the replica's
    /// current dir). Does not wait for its end. Blocks shortly on the disk. Must run within the runtime.
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
        // An earlier move of the replica finds that its ticket is no longer current.
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
        spawn(async move {
            let Ok(_permit) = Arc::clone(&moves.threads).acquire_owned().await else { return };
            let node = moves.node.clone();
            if let Err(error) = node.run_blocking(move || moves.run_move(&partition, ticket, moving)).await {
                tracing::error!(%error, "a move between log dirs did not complete; it is resumed after the next start");
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
                self.ended.notify_one();
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

/// All log dirs, in `cordoned.log.dirs`.
const ALL_DIRS: &str = "*";

/// Whether `cordoned.log.dirs` names a log dir by one of its entries.
pub fn is_named(dir: &Path, entry: &str) -> bool {
    entry == ALL_DIRS || same_path(dir, Path::new(entry))
}

fn same_path(dir: &Path, asked: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(dir) == absolute(asked)
}

#[cfg(test)]
mod tests;
