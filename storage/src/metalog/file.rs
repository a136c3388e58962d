//! `metadata.log` itself: read at the start, appended to frame by frame, replaced as a whole.
//!
//! A frame is synced before the next one is written, so only the last frame can be torn, and no step of it was acknowledged. A
//! frame that is not sound and has a sound one behind it is damage: the start is refused, because a cut there would lose
//! acknowledged steps. The file is created by a rename and has a first frame from then on, so a file without a sound header is
//! never a new one.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    encode::{Fault, read_steps},
    error::MetadataError,
    frames::{FILE_HEADER, check_header, file_header, frame_at, frame_header, next_sound},
    types::{Step, Vote},
};
use crate::{
    error::FileError,
    io::{Context, Disk, LogFile, Open},
};

pub(super) const NAME: &str = "metadata.log";
/// The next `metadata.log`, until it is renamed.
pub(super) const FRESH: &str = "metadata.log.new";
const MAGIC: [u8; 8] = *b"esker-ml";

/// The file, open for writing. One thread owns it.
#[derive(Debug)]
pub(super) struct StepFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// `None` until the first frame is written.
    file: Option<Arc<dyn LogFile>>,
    /// The end of the frames that are synced.
    end: u64,
}

fn too_long<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "more than 4 GiB in one frame of the metadata log")
}

impl StepFile {
    /// Opens the file in `dir`, passes its steps to `replay`, and cuts a torn end. The replayed steps survive a power cut.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, replay: impl FnMut(Step)) -> Result<Self, MetadataError> {
        let path = dir.join(NAME);
        let opened = Self { disk, dir: dir.to_path_buf(), file: None, end: 0 };
        let bytes = match opened.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(opened),
            error => error.context("read", &path)?,
        };
        let found = read(&bytes, &path, replay)?;
        let file = opened.disk.open(&path, Open::Existing).context("open", &path)?;
        let torn = bytes.get(found.end..).unwrap_or_default();
        if !torn.is_empty() {
            tracing::warn!(bytes = torn.len(), file = %path.display(), "the metadata log ends in a torn write that was never acknowledged: it is cut");
            file.set_len(found.end as u64).context("cut the torn end of", &path)?;
        }
        if found.last == FILE_HEADER && torn.is_empty() {
            // The content was synced before the rename; the rename itself may not be durable.
            opened.sync_names()?;
        } else {
            // The previous process may have ended before its last sync, or that sync failed. After a failed sync no later one
            // writes these pages, unless they are written again.
            let last = bytes.get(found.last..found.end).unwrap_or_default();
            file.write_at(&mut [IoSlice::new(last)], found.last as u64).context("write to", &path)?;
            file.sync_data().context("sync", &path)?;
        }
        Ok(Self { file: Some(file), end: found.end as u64, ..opened })
    }

    /// Adds a frame of steps; it is synced when this returns.
    pub(super) fn append(&mut self, steps: &[u8]) -> Result<(), FileError> {
        let path = self.dir.join(NAME);
        let Some(file) = self.file.clone() else { return self.rewrite(steps) };
        let header = frame_header(self.end, steps).map_err(too_long).context("write to", &path)?;
        file.write_at(&mut [IoSlice::new(&header), IoSlice::new(steps)], self.end).context("write to", &path)?;
        file.sync_data().context("sync", &path)?;
        self.end += (header.len() + steps.len()) as u64;
        Ok(())
    }

    /// Replaces all frames by one with `steps`, in one step; it is synced when this returns.
    pub(super) fn rewrite(&mut self, steps: &[u8]) -> Result<(), FileError> {
        let (fresh, path) = (self.dir.join(FRESH), self.dir.join(NAME));
        let file = self.disk.open(&fresh, Open::Empty).context("create", &fresh)?;
        let header = file_header(MAGIC);
        let frame = frame_header(FILE_HEADER as u64, steps).map_err(too_long).context("write to", &fresh)?;
        let mut parts = [IoSlice::new(&header), IoSlice::new(&frame), IoSlice::new(steps)];
        file.write_at(&mut parts, 0).context("write to", &fresh)?;
        file.sync_data().context("sync", &fresh)?;
        self.disk.rename(&fresh, &path).context("rename to", &path)?;
        self.sync_names()?;
        self.file = Some(file);
        self.end = (header.len() + frame.len() + steps.len()) as u64;
        Ok(())
    }

    /// Makes the file's name durable, and that of its folder if the file is new.
    fn sync_names(&self) -> Result<(), FileError> {
        self.disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        match self.dir.parent().filter(|parent| self.end == 0 && !parent.as_os_str().is_empty()) {
            Some(parent) => self.disk.sync_dir(parent).context("sync", parent),
            None => Ok(()),
        }
    }
}

/// Passes all steps of the log in `dir` to `each`. Changes nothing.
pub(super) fn replay(disk: &dyn Disk, dir: &Path, each: impl FnMut(Step)) -> Result<(), MetadataError> {
    let path = dir.join(NAME);
    let bytes = disk.read(&path).context("read", &path)?;
    read(&bytes, &path, each).map(drop)
}

/// The last vote in the log in `dir`, if the log can be read. Changes nothing.
pub(super) fn last_vote(disk: &dyn Disk, dir: &Path) -> Option<Vote> {
    let mut last = None;
    let keep_vote = |step| {
        if let Step::Vote(vote) = step {
            last = Some(vote);
        }
    };
    replay(disk, dir, keep_vote).ok()?;
    last
}

/// Where the last sound frame begins and ends.
struct Found {
    last: usize,
    end: usize,
}

/// Gives all steps to `replay`.
fn read(bytes: &[u8], path: &Path, mut replay: impl FnMut(Step)) -> Result<Found, MetadataError> {
    check_header(MAGIC, bytes, path)?;
    let mut found = Found { last: 0, end: FILE_HEADER };
    while let Some((steps, next)) = frame_at(bytes, found.end) {
        read_steps(steps, &mut replay).map_err(|fault| match fault {
            Fault::Unknown(what) => MetadataError::newer(path, what),
            Fault::Malformed(what) => {
                MetadataError::damaged(path, format!("{what} in the frame at byte {}", found.end))
            }
        })?;
        found = Found { last: found.end, end: next };
    }
    if found.last == 0 {
        // The first frame is synced before the file has its name.
        return Err(MetadataError::damaged(path, "its first frame is not sound"));
    }
    match next_sound(bytes, found.end) {
        Some(behind) => {
            let what = format!("the frame at byte {} is not sound, and one behind it, at byte {behind}, is", found.end);
            Err(MetadataError::damaged(path, what))
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests;
