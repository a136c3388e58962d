//! The offset checkpoints of a log dir: recovery points, log starts, high watermarks, and where compaction ended.
//!
//! They are written now and then, so they lag behind. That is harmless while offsets only grow; where an offset goes
//! back (a truncation, a partition that is created again) a row that is too high would make the next start believe in
//! data that was never brought to disk, or throw away what was. Such a row is lowered on disk first.

use std::{collections::HashMap, path::Path};

use parking_lot::Mutex;

use crate::{
    Log,
    error::FileError,
    files::{self, CLEANER_OFFSETS, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS},
    io::Disk,
};

type Rows = HashMap<(String, i32), i64>;

const NAMES: [&str; 4] = [RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_OFFSETS];

/// What the files say. The lock is held while they are written, so that the last writer has the newest offsets.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<[Rows; 4]>);

impl Checkpoints {
    /// Takes note of what was found at the start.
    pub(crate) fn read(&self, rows: &[Rows; 4]) {
        self.0.lock().clone_from(rows);
    }

    /// Writes all for the logs of the dir. Blocks for the disk.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path, logs: &[&Log]) -> Result<(), FileError> {
        let mut rows = self.0.lock();
        let offsets: [fn(&Log) -> i64; 4] =
            [Log::recovery_point, Log::log_start_offset, Log::high_watermark, Log::cleaned_offset];
        for ((rows, offset), name) in rows.iter_mut().zip(offsets).zip(NAMES) {
            let row = |log: &&Log| ((log.topic().to_string(), log.partition()), offset(log));
            let new: Rows = logs.iter().map(row).filter(|(_, offset)| *offset >= 0).collect();
            if name == CLEANER_OFFSETS && *rows == new {
                continue;
            }
            *rows = new;
            write(disk, dir, name, rows)?;
        }
        Ok(())
    }

    /// Before a log's offsets go back to `offset`: no row on disk says more. `None` for a log that begins. Blocks for
    /// the disk if there is such a row.
    pub(crate) fn lower(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        partition: (&str, i32),
        offset: Option<i64>,
    ) -> Result<(), FileError> {
        let mut rows = self.0.lock();
        let key = (partition.0.to_owned(), partition.1);
        for (rows, name) in rows.iter_mut().zip(NAMES) {
            let Some(row) = rows.get_mut(&key).filter(|row| offset.is_none_or(|offset| **row > offset)) else {
                continue;
            };
            match offset {
                Some(offset) => *row = offset,
                None => drop(rows.remove(&key)),
            }
            write(disk, dir, name, rows)?;
        }
        Ok(())
    }
}

fn write(disk: &dyn Disk, dir: &Path, name: &str, rows: &Rows) -> Result<(), FileError> {
    let mut offsets: Vec<(&str, i32, i64)> =
        rows.iter().map(|((topic, partition), offset)| (topic.as_str(), *partition, *offset)).collect();
    offsets.sort_unstable();
    files::write_offsets(disk, &dir.join(name), &offsets)
}
