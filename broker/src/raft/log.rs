//! openraft's log store: all of the log in memory, every step in the file.
//!
//! The metadata log is small (a snapshot replaces it every few thousand entries), so reads never touch the disk. An entry
//! can be read as soon as `append` returns; openraft learns through the callback when it is on disk.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::file::{Done, LogFile, Step, put};
use super::types::{Entry, LogId, TypeConfig, Vote};

#[derive(Debug, Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl State {
    fn replay(&mut self, step: Step) {
        match step {
            Step::Vote(vote) => self.vote = Some(vote),
            Step::Entry(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            Step::Committed(committed) => self.committed = committed,
            Step::TruncateAfter(last) => self.truncate_after(last.as_ref()),
            Step::Purge(upto) => self.purge(upto),
        }
    }

    fn truncate_after(&mut self, last: Option<&LogId>) {
        self.entries.split_off(&last.map_or(0, |id| id.index + 1));
    }

    fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = Some(upto);
    }

    /// All that is needed to come back to this state.
    fn steps(&self) -> io::Result<Vec<u8>> {
        let mut steps = Vec::new();
        for step in self
            .vote
            .iter()
            .cloned()
            .map(Step::Vote)
            .chain(self.purged.iter().cloned().map(Step::Purge))
            .chain(self.entries.values().cloned().map(Step::Entry))
            .chain([Step::Committed(self.committed.clone())])
        {
            put(&step, &mut steps)?;
        }
        Ok(steps)
    }
}

/// The log store; clones share one log.
#[derive(Debug, Clone)]
pub struct LogStore {
    state: Arc<Mutex<State>>,
    file: Arc<LogFile>,
}

impl LogStore {
    /// Opens the log in `dir`.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut state = State::default();
        let file = LogFile::open(dir, |step| state.replay(step))?;
        Ok(Self { state: Arc::new(Mutex::new(state)), file: Arc::new(file) })
    }

    /// Writes one step and waits until it is on disk.
    async fn persist(&self, step: &Step) -> io::Result<()> {
        let mut steps = Vec::new();
        put(step, &mut steps)?;
        let (done, written) = waiter();
        self.file.append(steps, done);
        written.await.map_err(io::Error::other)?
    }
}

fn waiter() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| {
        // Whoever waited may have been dropped.
        let _ = sender.send(result);
    });
    (done, receiver)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let empty = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if empty {
            return Ok(Vec::new());
        }
        Ok(self.state.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.state.lock().vote.clone())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.state.lock();
        let last = state.entries.values().next_back().map(RaftEntry::log_id).or_else(|| state.purged.clone());
        Ok(LogState { last_purged_log_id: state.purged.clone(), last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.persist(&Step::Vote(vote.clone())).await?;
        self.state.lock().vote = Some(vote.clone());
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.state.lock().committed.clone_from(&committed);
        let mut steps = Vec::new();
        put(&Step::Committed(committed), &mut steps)?;
        // It only makes a restart quicker: it need not be on disk.
        self.file.hint(steps);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.state.lock().committed.clone())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut steps = Vec::new();
        {
            let mut state = self.state.lock();
            for entry in entries {
                put(&Step::Entry(entry.clone()), &mut steps)?;
                state.entries.insert(entry.log_id.index, entry);
            }
        }
        self.file.append(steps, Box::new(move |written| callback.io_completed(written)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.state.lock().truncate_after(last.as_ref());
        self.persist(&Step::TruncateAfter(last)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let steps = {
            let mut state = self.state.lock();
            state.purge(upto);
            state.steps()?
        };
        let (done, written) = waiter();
        self.file.rewrite(steps, done);
        written.await.map_err(io::Error::other)?
    }
}
