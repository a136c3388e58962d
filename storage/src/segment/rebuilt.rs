//! The result of a walk over a segment's data: its indexes, and the end of the sound data.

use crate::{
    DamagedRange,
    index::{OffsetEntry, TimeEntry},
};

/// Indexes rebuilt from data, and the end of the sound data.
pub(crate) struct Rebuilt {
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    pub max_time: Option<(i64, i64)>,
    /// Entries of both that were trusted and come from the files.
    pub kept: (usize, usize),
    pub bytes_since_index: u64,
    pub first_timestamp: Option<i64>,
    pub end_position: u64,
    pub next_offset: i64,
    /// Offsets are missing between batches: the segment was compacted.
    pub gaps: bool,
    /// Why the walk stopped; `None` at the regular end of the data.
    pub damage: Option<&'static str>,
    /// Damage that was skipped.
    pub damaged: Vec<DamagedRange>,
}

impl Rebuilt {
    /// A position at or below that of the batch with `offset`, by the index.
    pub(crate) fn position_of(&self, base: i64, offset: i64) -> u64 {
        let below = |entry: &OffsetEntry| base.saturating_add(i64::from(entry.relative_offset)) < offset;
        let at = self.offsets.partition_point(below);
        at.checked_sub(1).and_then(|at| self.offsets.get(at)).map_or(0, |entry| u64::from(entry.position))
    }
}
