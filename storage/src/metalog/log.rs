//! The metadata log: all of it in memory, every change in the file.
//!
//! It is small (a snapshot replaces its entries every few thousand), so reads never touch the disk. A change is visible as
//! soon as a call returns; its `done` runs when the change is durable. Changes reach the file in the order of the calls.

use std::{
    io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    encode::{TooLong, put_entry, put_step},
    error::MetadataError,
    file::{FRESH, NAME, StepFile},
    state::{Gap, State},
    types::{Entry, LogId, Step, Vote},
    writer::{Done, Work, Writer},
};
use crate::{
    Env,
    io::{Context, Disk},
};

/// See the module.
#[derive(Debug)]
pub struct MetadataLog {
    /// Held while a change is sent to the writer, so that memory and file have the same order.
    state: Mutex<State>,
    writer: Writer,
}

fn encoded(step: &Step) -> io::Result<Vec<u8>> {
    let mut steps = Vec::new();
    put_step(step, &mut steps).map_err(too_long)?;
    Ok(steps)
}

fn too_long(_: TooLong) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "an entry of the metadata log does not fit into its format")
}

impl MetadataLog {
    /// Opens the log in `dir`, or begins one. Blocks on the disk.
    pub fn open(env: &dyn Env, disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, MetadataError> {
        disk.create_dir_all(dir).context("create", dir)?;
        // A rewrite that a crash cut off.
        let fresh = dir.join(FRESH);
        disk.remove_file(&fresh).context("remove", &fresh)?;
        let (mut state, mut gap) = (State::default(), None);
        let file = StepFile::open(disk, dir, |step| gap = gap.take().or(state.apply(step).err()))?;
        if let Some(Gap(found, needed)) = gap {
            let what = format!("entry {found} stands where entry {needed} belongs");
            return Err(MetadataError::damaged(&dir.join(NAME), what));
        }
        let writer = Writer::start(env, file).context("start the thread that writes", dir)?;
        Ok(Self { state: Mutex::new(state), writer })
    }

    /// The vote that was last saved.
    pub fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    /// Up to where the log is committed, as far as is known here.
    pub fn committed(&self) -> Option<LogId> {
        self.state.lock().committed
    }

    /// Up to where entries were purged.
    pub fn purged(&self) -> Option<LogId> {
        self.state.lock().purged
    }

    /// The last entry, purged or not.
    pub fn last_id(&self) -> Option<LogId> {
        self.state.lock().last_id()
    }

    /// The entries of a range of indexes that are there.
    pub fn entries(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        let bound = |bound: Bound<&u64>| bound.cloned();
        self.state.lock().range(bound(range.start_bound()), bound(range.end_bound()))
    }

    /// Saves a vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.change(Step::Vote(vote), done);
    }

    /// Saves the committed position of the log. It only makes a restart faster, so a crash may lose it.
    pub fn save_committed(&self, committed: Option<LogId>) -> io::Result<()> {
        let step = Step::Committed(committed);
        let steps = encoded(&step)?;
        let mut state = self.state.lock();
        state.committed = committed;
        self.writer.send(Work::Hint { steps });
        Ok(())
    }

    /// Appends entries, which follow the last one. An error is one of the entries; those of the disk reach `done`.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        let mut steps = Vec::new();
        for entry in &entries {
            put_entry(entry, &mut steps).map_err(too_long)?;
        }
        let mut state = self.state.lock();
        state.extend(entries).map_err(|Gap(found, needed)| {
            let what = format!("entry {found} cannot be appended to the metadata log: entry {needed} is next");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        self.writer.send(Work::Append { steps, done });
        Ok(())
    }

    /// Removes all entries behind `last` (all entries, if there is none).
    pub fn truncate_after(&self, last: Option<LogId>, done: Done) {
        self.change(Step::TruncateAfter(last), done);
    }

    /// Removes all entries up to `upto`, which a durable snapshot contains; the file is rewritten.
    pub fn purge(&self, upto: LogId, done: Done) {
        let mut state = self.state.lock();
        // A purge leaves no gap.
        let _ = state.apply(Step::Purge(upto));
        match state.encode() {
            Ok(steps) => self.writer.send(Work::Rewrite { steps, done }),
            Err(error) => done(Err(too_long(error))),
        }
    }

    /// Refuses further changes and waits until those before are written. Blocks on the disk.
    pub fn close(&self) {
        self.writer.close();
    }

    /// Applies a change that leaves no gap.
    fn change(&self, step: Step, done: Done) {
        match encoded(&step) {
            Ok(steps) => {
                let mut state = self.state.lock();
                let _ = state.apply(step);
                self.writer.send(Work::Append { steps, done });
            }
            Err(error) => done(Err(error)),
        }
    }
}
