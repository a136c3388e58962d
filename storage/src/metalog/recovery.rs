//! Recovery of a quorum that is lost for good: one member becomes the only voter, by an entry that no quorum has agreed on.
//!
//! Other members may hold entries that this one lacks, some of them committed and applied. Their logs must not be mixed with the recovered
//! one: raft compares terms and indexes only, and an applied entry cannot be undone. So each recovery begins a range of terms of its own
//! ([`recovery_of`]), and members refuse each other's requests across ranges.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    error::MetadataError,
    file::{NAME, StepFile, replay},
    snapshot::{SnapshotFile, open_current},
    state::{State, check_pair},
    types::{Entry, LogId, Members, Payload, Vote, VoterId},
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

/// Makes `own` the only member of the quorum: the returned entry says so, in a term above all of this log's range. `decisions` are called in
/// turn with the place of the next entry, which has the records that are returned. The file is replaced in one step. Nothing else may use the
/// folder; blocks on the disk.
pub fn make_only_voter(
    disk: Arc<dyn Disk>,
    dir: &Path,
    own: VoterId,
    decisions: impl IntoIterator<Item = impl FnOnce(LogId) -> Bytes>,
) -> Result<LogId, MetadataError> {
    let mut state = State::default();
    let snapshot = open_current(disk.as_ref(), dir)?;
    let mut file = StepFile::open(disk, dir, |step| {
        // `QuorumState::read` finds gaps.
        let _ = state.apply(step);
    })?;
    let (last, members) = end_of(&state, snapshot.as_ref(), dir)?;
    let highest = state.vote.map_or(0, |vote| vote.term).max(last.map_or(0, |last| last.term));
    let term = recovery_of(highest).saturating_add(1).saturating_mul(TERMS);
    let id = LogId { term, leader: own, index: last.map_or(0, |last| last.index.saturating_add(1)) };
    let address = members.addresses.get(&own).cloned().unwrap_or_default();
    let only = Members { voters: vec![[own].into()], addresses: [(own, address)].into() };
    let mut entries = vec![Entry { id, payload: Payload::Members(only) }];
    let mut next = id;
    for decision in decisions {
        next.index = next.index.saturating_add(1);
        entries.push(Entry { id: next, payload: Payload::Records(decision(next)) });
    }
    state.vote = Some(Vote { term, candidate: own, committed: false });
    let damaged = |what: &str| MetadataError::damaged(&dir.join(NAME), what);
    state.extend(entries).map_err(|_| damaged("the next entry does not follow its last one"))?;
    let steps = state.encode().map_err(|_| damaged("it is too long to be replaced"))?;
    file.rewrite(&steps)?;
    Ok(id)
}

#[cfg(test)]
mod tests;
