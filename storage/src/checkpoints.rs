//! The offset checkpoints of a log dir: recovery points, log starts, high watermarks, and ends of compaction.
//!
//! They are written periodically, so they lag behind. That is harmless while offsets only grow. After an offset decreases (a
//! truncation, a partition that is created again), a row that is too high would make the next start trust data that was never
//! flushed, or delete data that was. Such a row is lowered on disk first.

use std::{collections::HashMap, path::Path, sync::Arc};

use parking_lot::Mutex;

use crate::{
    error::FileError,
    files::{self, CLEANER_OFFSETS, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS},
    io::Disk,
};

type Key = (String, i32);
type Rows = HashMap<Key, i64>;

const NAMES: [&str; 4] = [RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_OFFSETS];
/// Place of the log starts among them.
const STARTS: usize = 1;

/// The interface of a log to the checkpoints. This module lies below the logs: a log lowers rows before it is truncated.
pub(crate) trait CheckpointedLog {
    fn topic(&self) -> &str;
    fn partition(&self) -> i32;
    /// Recovery point, log start, high watermark, end of the last compaction: one for each of the files, in their order.
    fn offsets(&self) -> [i64; 4];
    /// A durable row has this log start.
    fn record_saved_start(&self, start: i64);
}

/// The lock is held while the files are written, so that the last writer has the newest offsets. For the same reason the logs are
/// listed under the lock: a log from an earlier list may since have been deleted, created again or moved.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What the files say.
    rows: [Rows; 4],
    /// Logs that are moving into the dir and are not yet listed among its logs: their rows stay.
    arriving: HashMap<Key, [i64; 4]>,
}

fn key(log: &impl CheckpointedLog) -> Key {
    (log.topic().to_owned(), log.partition())
}

impl State {
    /// The rows of one file, from the logs of the dir and the arriving logs.
    fn collect_rows(&self, at: usize, logs: &[Arc<impl CheckpointedLog>]) -> Rows {
        let arriving = self.arriving.iter().filter_map(|(key, offsets)| Some((key.clone(), *offsets.get(at)?)));
        let own = logs.iter().filter_map(|log| Some((key(log.as_ref()), *log.offsets().get(at)?)));
        own.chain(arriving).filter(|(_, offset)| *offset >= 0).collect()
    }

    fn has_start<L: CheckpointedLog>(&self, (log, start): &(&L, i64)) -> bool {
        let row = self.rows.get(STARTS).and_then(|rows| rows.get(&key(*log)));
        row.is_some_and(|row| row >= start)
    }

    /// Replaces one file. If that fails, the rows stay as in the old file: a retry must not find the new rows already written.
    fn replace_file(&mut self, disk: &dyn Disk, dir: &Path, at: usize, new: Rows) -> Result<(), FileError> {
        let (Some(rows), Some(name)) = (self.rows.get_mut(at), NAMES.get(at)) else { return Ok(()) };
        write(disk, dir, name, &new)?;
        *rows = new;
        Ok(())
    }
}

impl Checkpoints {
    /// Sets the rows that were found at the start.
    pub(crate) fn read(&self, rows: &[Rows; 4]) {
        self.0.lock().rows.clone_from(rows);
    }

    /// Writes all files for the logs of the dir. Blocks on the disk.
    pub(crate) fn write<L: CheckpointedLog>(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        logs: impl FnOnce() -> Vec<Arc<L>>,
    ) -> Result<(), FileError> {
        let mut state = self.0.lock();
        let logs = logs();
        let starts = starts_of(logs.iter().map(AsRef::as_ref));
        for (at, name) in NAMES.into_iter().enumerate() {
            let new = state.collect_rows(at, &logs);
            if name == CLEANER_OFFSETS && state.rows.get(at) == Some(&new) {
                continue;
            }
            state.replace_file(disk, dir, at, new)?;
        }
        starts.iter().for_each(|(log, start)| log.record_saved_start(*start));
        Ok(())
    }

    /// Writes the log starts unless the file already has those of all of `moved` (a concurrent caller may have written them).
    /// Blocks on the disk.
    pub(crate) fn write_starts<L: CheckpointedLog>(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        moved: &[&L],
        logs: impl FnOnce() -> Vec<Arc<L>>,
    ) -> Result<(), FileError> {
        let mut state = self.0.lock();
        let starts = starts_of(moved.iter().copied());
        if !starts.iter().all(|start| state.has_start(start)) {
            let new = state.collect_rows(STARTS, &logs());
            state.replace_file(disk, dir, STARTS, new)?;
        }
        // A log that has moved to another dir meanwhile has no row here.
        for (log, start) in starts.iter().filter(|start| state.has_start(start)) {
            log.record_saved_start(*start);
        }
        Ok(())
    }

    /// Adds a log that moves in from another dir: its rows are durable before its folder counts here, and stay until
    /// `remove_arriving`. Blocks on the disk.
    pub(crate) fn add_arriving(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        log: &impl CheckpointedLog,
    ) -> Result<(), FileError> {
        let mut state = self.0.lock();
        let offsets = log.offsets();
        state.arriving.insert(key(log), offsets);
        for (at, offset) in offsets.into_iter().enumerate() {
            let mut new = state.rows.get(at).cloned().unwrap_or_default();
            match offset {
                0.. => drop(new.insert(key(log), offset)),
                _ => drop(new.remove(&key(log))),
            }
            state.replace_file(disk, dir, at, new)?;
        }
        Ok(())
    }

    /// From here on the log is listed among the dir's logs, or its move was abandoned.
    pub(crate) fn remove_arriving(&self, log: &impl CheckpointedLog) {
        self.0.lock().arriving.remove(&key(log));
    }

    /// Called before a log's offsets decrease to `offset`: afterwards no durable row is above it. `None` for a new log. Blocks on
    /// the disk if there is such a row.
    pub(crate) fn lower_row(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: (&str, i32),
        offset: Option<i64>,
    ) -> Result<(), FileError> {
        let mut state = self.0.lock();
        let key = (partition.0.to_owned(), partition.1);
        for at in 0..NAMES.len() {
            let Some(rows) = state.rows.get(at) else { continue };
            if rows.get(&key).is_none_or(|row| offset.is_some_and(|offset| *row <= offset)) {
                continue;
            }
            let mut new = rows.clone();
            match offset {
                Some(offset) => drop(new.insert(key.clone(), offset)),
                None => drop(new.remove(&key)),
            }
            state.replace_file(disk, dir, at, new)?;
        }
        Ok(())
    }
}

/// Logs with their log starts: the rows that are read afterwards are not lower.
fn starts_of<'a, L: CheckpointedLog>(logs: impl Iterator<Item = &'a L>) -> Vec<(&'a L, i64)> {
    logs.filter_map(|log| Some((log, *log.offsets().get(STARTS)?))).collect()
}

fn write(disk: &dyn Disk, dir: &Path, name: &str, rows: &Rows) -> Result<(), FileError> {
    let mut offsets: Vec<(&str, i32, i64)> =
        rows.iter().map(|((topic, partition), offset)| (topic.as_str(), *partition, *offset)).collect();
    offsets.sort_unstable();
    files::write_offsets(disk, &dir.join(name), &offsets)
}
