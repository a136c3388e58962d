//! The log in memory: the sum of the file's steps.

use std::{collections::BTreeMap, ops::Bound, path::Path};

use super::{
    encode::{TooLong, put_entry, put_step},
    error::MetadataError,
    types::{Entry, LogId, Step, Vote},
};

/// A log position that the next entry does not follow: `(found, needed)`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap(pub(super) u64, pub(super) u64);

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl State {
    pub(super) fn apply(&mut self, step: Step) -> Result<(), Gap> {
        match step {
            Step::Vote(vote) => self.vote = Some(vote),
            Step::Entry(entry) => self.extend(vec![entry])?,
            Step::Committed(committed) => self.committed = committed,
            Step::TruncateAfter(last) => {
                let first = last.map_or(0, |id| id.index.saturating_add(1));
                self.entries.split_off(&first);
            }
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&upto.index.saturating_add(1));
                self.purged = Some(upto);
            }
        }
        Ok(())
    }

    /// The log has no holes: an entry follows the last one. Only a log that never held an entry begins anywhere. All entries are
    /// appended, or none.
    pub(super) fn extend(&mut self, entries: Vec<Entry>) -> Result<(), Gap> {
        let mut needed = self.last_id().map(|last| last.index.saturating_add(1));
        for entry in &entries {
            let needed_here = needed.unwrap_or(entry.id.index);
            if entry.id.index != needed_here {
                return Err(Gap(entry.id.index, needed_here));
            }
            needed = Some(entry.id.index.saturating_add(1));
        }
        self.entries.extend(entries.into_iter().map(|entry| (entry.id.index, entry)));
        Ok(())
    }

    /// The last entry, purged or not.
    pub(super) fn last_id(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.id).or(self.purged)
    }

    /// The entries of a range of indexes. An empty or inverted range has none.
    pub(super) fn range(&self, start: Bound<u64>, end: Bound<u64>) -> Vec<Entry> {
        let first = match start {
            Bound::Included(index) => index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let within = |index: u64| match end {
            Bound::Included(end) => index <= end,
            Bound::Excluded(end) => index < end,
            Bound::Unbounded => true,
        };
        self.entries.range(first..).take_while(|(index, _)| within(**index)).map(|(_, entry)| entry.clone()).collect()
    }

    /// Steps that lead from nothing to this state.
    pub(super) fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        let vote = self.vote.into_iter().map(Step::Vote);
        let purged = self.purged.into_iter().map(Step::Purge);
        let committed = self.committed.map(|id| Step::Committed(Some(id)));
        vote.chain(purged).chain(committed).try_for_each(|step| put_step(&step, &mut out))?;
        self.entries.values().try_for_each(|entry| put_entry(entry, &mut out))?;
        Ok(out)
    }
}

/// Refuses a log and a snapshot that do not belong together: where the log begins, its vote, and where the snapshot ends.
pub(super) fn check_pair(
    dir: &Path,
    purged: Option<LogId>,
    vote: Option<Vote>,
    snapshot: Option<LogId>,
) -> Result<(), MetadataError> {
    let mismatch = |what: String| Err(MetadataError::Mismatch { dir: dir.to_path_buf(), what });
    let last = snapshot.map(|id| id.index);
    match purged.map(|id| id.index) {
        Some(purged) if last.is_none() => {
            return mismatch(format!("metadata.log begins behind entry {purged}, and metadata.snapshot is missing"));
        }
        Some(purged) if last < Some(purged) => {
            let last = last.unwrap_or_default();
            return mismatch(format!(
                "metadata.log begins behind entry {purged}, and metadata.snapshot ends at {last}"
            ));
        }
        _ => {}
    }
    // A snapshot is made of the log's entries, so a folder with one has had a log. Its vote must not be lost.
    if last.is_some() && vote.is_none() {
        return mismatch("metadata.log is missing or has no vote, and there is a metadata.snapshot".to_owned());
    }
    Ok(())
}
