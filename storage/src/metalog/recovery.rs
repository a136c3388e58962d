//! Recovery of a quorum that is lost for good: one member becomes the only voter, by an entry that no quorum has agreed on.
//!
//! Other members may hold entries that this one lacks, some of them committed and applied. Their logs must not be mixed with the recovered
//! one: raft compares terms and indexes only, and an applied entry cannot be undone. So each recovery begins a range of terms of its own
//! ([`recovery_of`]), and members refuse each other's requests across ranges.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    error::MetadataError,
    file::{NAME, StepFile, replay},
    snapshot::{SnapshotFile, Snapshots, open_current},
    state::{State, check_pair},
    types::{Entry, LogId, Members, Payload, SnapshotMeta, Vote, VoterId},
};
use crate::io::Disk;

/// Terms of one range. No cluster has so many elections.
const TERMS: u64 = 1 << 24;

/// The number of the recovery that a term is of; 0 before the first one.
pub fn recovery_of(term: u64) -> u64 {
    term / TERMS
}

/// The metadata log of a member, as it would recover the quorum.
#[derive(Debug, Clone)]
pub struct QuorumState {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry.
    pub last: Option<LogId>,
    /// Up to where the log is committed, as far as is known here.
    pub committed: Option<LogId>,
    /// The members that the log names last, committed or not.
    pub members: Members,
    /// The snapshot.
    pub snapshot: Option<SnapshotFile>,
    /// The entries of the log, some of which may be in the snapshot, too.
    pub entries: Vec<Entry>,
}

fn read_state(disk: &dyn Disk, dir: &Path) -> Result<State, MetadataError> {
    let (mut state, mut gap) = (State::default(), false);
    replay(disk, dir, |step| gap |= state.apply(step).is_err())?;
    if gap {
        return Err(MetadataError::damaged(&dir.join(NAME), "an entry does not follow the one before"));
    }
    Ok(state)
}

/// The last entry, and the members that are named last, of a log and the snapshot that belongs to it.
fn end_of(
    state: &State,
    snapshot: Option<&SnapshotFile>,
    dir: &Path,
) -> Result<(Option<LogId>, Members), MetadataError> {
    let meta = snapshot.map(SnapshotFile::meta);
    let in_snapshot = meta.and_then(|meta| meta.last);
    check_pair(dir, state.purged, state.vote, in_snapshot)?;
    let in_log = state.entries.values().rev().find_map(|entry| match &entry.payload {
        Payload::Members(members) => Some(members.clone()),
        _ => None,
    });
    let members = in_log.or_else(|| meta.map(|meta| meta.members.clone())).unwrap_or_default();
    Ok((state.last_id().max(in_snapshot), members))
}

impl QuorumState {
    /// Reads the log and the snapshot in `dir`. Changes nothing.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, MetadataError> {
        let (state, snapshot) = (read_state(disk, dir)?, open_current(disk, dir)?);
        let (last, members) = end_of(&state, snapshot.as_ref(), dir)?;
        let committed = state.committed.max(snapshot.as_ref().and_then(|snapshot| snapshot.meta().last));
        let entries = state.entries.into_values().collect();
        Ok(Self { vote: state.vote, last, committed, members, snapshot, entries })
    }

    /// The recovery that the log is of: that of its vote, since a member that catches up begins with entries of before.
    pub fn recovery(&self) -> u64 {
        self.vote.map_or(0, |vote| recovery_of(vote.term))
    }
}

/// The recovery that the log in `dir` is of, if there is a log with a vote and it can be read. Changes nothing.
pub fn recovery_in(disk: &dyn Disk, dir: &Path) -> Option<u64> {
    read_state(disk, dir).ok()?.vote.map(|vote| recovery_of(vote.term))
}

/// Makes `own` the only member of the quorum, in a term above all of this log's range; returns the entry that says so. `chunks` are the records of
/// the metadata: they become a snapshot that ends with that entry, and the log has nothing before it. A member that joins again must not read
/// that it was a voter once: it could elect itself. Nothing else may use the folder; blocks on the disk. After a crash in between a start is
/// refused, and the recovery can be repeated.
pub fn make_only_voter(
    disk: Arc<dyn Disk>,
    dir: &Path,
    own: VoterId,
    chunks: impl IntoIterator<Item = io::Result<Bytes>>,
) -> io::Result<LogId> {
    let mut state = State::default();
    let snapshot = open_current(disk.as_ref(), dir)?;
    let mut file = StepFile::open(Arc::clone(&disk), dir, |step| {
        // `QuorumState::read` finds gaps.
        let _ = state.apply(step);
    })?;
    let (last, members) = end_of(&state, snapshot.as_ref(), dir)?;
    let highest = state.vote.map_or(0, |vote| vote.term).max(last.map_or(0, |last| last.term));
    let term = recovery_of(highest).saturating_add(1).saturating_mul(TERMS);
    let id = LogId { term, leader: own, index: last.map_or(0, |last| last.index.saturating_add(1)) };
    let address = members.addresses.get(&own).cloned().unwrap_or_default();
    let members = Members { voters: vec![[own].into()], addresses: [(own, address)].into() };
    Snapshots::open(disk, dir)?.write(&SnapshotMeta { last: Some(id), members_at: Some(id), members }, chunks)?;
    let vote = Some(Vote { term, candidate: own, committed: false });
    let state = State { vote, committed: Some(id), purged: Some(id), ..State::default() };
    let too_long = |_| io::Error::other("the metadata log cannot be encoded");
    file.rewrite(&state.encode().map_err(too_long)?).map_err(MetadataError::from)?;
    Ok(id)
}

#[cfg(test)]
mod tests;
