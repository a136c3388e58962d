//! Background work of segment rolls, so that the append that rolls does not wait for it.
//!
//! A spare segment: the files of the next segment are created ahead, under names without an offset (the roll decides it) that a
//! start removes; the roll renames them. And the reserved space past the end of a closed segment: the file system may take
//! milliseconds to free it.
//!
//! Both run under `maintenance` in the pass that writes checkpoints; only reads of the writer's state take the writer's lock.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{Log, Writer, append};
use crate::{
    LogError,
    error::FileError,
    files::{self, INDEX, LOG, TIME_INDEX, segment_path},
    io::{Context, Open},
    segment::Segment,
};

/// The data file first: the others depend on it.
const FILES: [&str; 3] = [LOG, INDEX, TIME_INDEX];

impl Log {
    fn spare_path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("next{suffix}.tmp"))
    }

    /// Creates the files of the next segment, if a roll is near: the active one is nearly full, or would be full before the second
    /// next call at its present rate. Blocks; appends continue meanwhile.
    pub(crate) fn prepare_spare_segment(&self) -> Result<(), LogError> {
        let _maintenance = self.lock_maintenance();
        let Some(space) = self.due_spare() else { return Ok(()) };
        let Err(error) = self.create_spare(space) else {
            self.lock_writer().spare = Some(space);
            return Ok(());
        };
        // Free the space for others. A roll that fails for the same reason reports it.
        let _ = self.remove_spare_files();
        if error.is_full() || error.is_exhausted() { Ok(()) } else { Err(self.log_dir.classify_error(error).into()) }
    }

    /// Bytes to reserve in a spare segment; `None` if none is due.
    fn due_spare(&self) -> Option<u64> {
        let mut writer = self.lock_writer();
        let (base, size) = (writer.active.base_offset, writer.active.size());
        let (seen_base, seen) = std::mem::replace(&mut writer.last_spare_check, (base, size));
        // More than a segment since the last check.
        let grown = if seen_base == base { size.saturating_sub(seen) } else { u64::MAX };
        let config = self.config.load();
        let limit = append::segment_limit(&writer.active, &config);
        let nearly_full = size >= limit / 8 * 7 || limit.saturating_sub(size) < grown.saturating_mul(2);
        let space = if config.preallocate { limit } else { append::MIN_RESERVE.min(limit) };
        let wanted = size > 0 && grown > 0 && nearly_full && writer.spare.is_none();
        (wanted && !self.is_offline() && self.log_dir.writable_bytes() > space).then_some(space)
    }

    fn create_spare(&self, space: u64) -> Result<(), FileError> {
        for suffix in FILES {
            let path = self.spare_path(suffix);
            let file = self.log_dir.disk.open(&path, Open::Empty).context("create", &path)?;
            if suffix == LOG {
                file.reserve(0, space).context("reserve space in", &path)?;
            }
        }
        Ok(())
    }

    /// Creates the files of a segment that begins at `base_offset`, where none has begun yet. Returns the bytes reserved in its
    /// data file.
    pub(super) fn create_files(&self, writer: &mut Writer, base_offset: i64) -> Result<u64, FileError> {
        let made = self.rename_spare(writer, base_offset).and_then(|reserved| match reserved {
            Some(reserved) => Ok(reserved),
            None => files::create_segment(self.log_dir.disk.as_ref(), &self.dir, base_offset).map(|()| 0),
        });
        if made.is_err() {
            // A smaller batch may still fit into the previous segment: a start must not find another segment at an offset inside of
            // it.
            for suffix in FILES {
                let _ = self.log_dir.disk.remove_file(&segment_path(&self.dir, base_offset, suffix));
            }
        }
        made
    }

    /// Renames the files of the spare segment. Returns the bytes reserved in its data file; `None` if there is no spare.
    fn rename_spare(&self, writer: &mut Writer, base_offset: i64) -> Result<Option<u64>, FileError> {
        let Some(reserved) = writer.spare.take() else { return Ok(None) };
        for suffix in FILES {
            let spare = self.spare_path(suffix);
            match self.log_dir.disk.rename(&spare, &segment_path(&self.dir, base_offset, suffix)) {
                // Another process removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                renamed => renamed.context("rename", &spare)?,
            }
        }
        Ok(Some(reserved))
    }

    /// Removes the spare segment: the log is about to be closed.
    pub(super) fn remove_spare(&self, writer: &mut Writer) -> Result<(), FileError> {
        if writer.spare.take().is_some() { self.remove_spare_files() } else { Ok(()) }
    }

    fn remove_spare_files(&self) -> Result<(), FileError> {
        for suffix in FILES {
            let path = self.spare_path(suffix);
            self.log_dir.disk.remove_file(&path).context("remove", &path)?;
        }
        Ok(())
    }

    /// Frees the reserved space past the end of closed segments; their length stays. Blocks; appends continue meanwhile.
    pub(crate) fn trim_closed(&self) -> Result<(), LogError> {
        // A truncation may cut a file to less than the size of its segment here.
        let _maintenance = self.lock_maintenance();
        let untrimmed = std::mem::take(&mut self.lock_writer().untrimmed);
        if untrimmed.is_empty() || self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let segments = self.segments.load();
        for segment in untrimmed {
            // Its path still names the same file.
            if segments.iter().any(|held| held.id() == segment.id()) {
                self.record_failure(trim_file(&segment))?;
            }
        }
        Ok(())
    }
}

fn trim_file(segment: &Arc<Segment>) -> Result<(), FileError> {
    let (file, path) = (segment.file_once()?, segment.path(LOG));
    // A file that another process cut must not grow back with zeros.
    if file.size().context("look at", &path)? == segment.size() {
        file.set_len(segment.size()).context("cut", &path)?;
    }
    Ok(())
}
