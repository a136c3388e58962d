//! Up to where a log is durable: synced in its segments (the recovery point), or written to the journal besides.
//!
//! The durable offset is never below the recovery point. Acknowledgements and high watermarks go by it; what a start after a crash
//! checks goes by the recovery point, since the journal's bytes still have to reach the segments.
//!
//! Must never: rise while the log's end is cut; both happen under the writer's lock.

use std::sync::{Arc, atomic::Ordering};

use super::Log;
use crate::{Journal, journal::Spot, segment::Segment};

impl Log {
    /// Everything below survives a power cut.
    pub fn durable_offset(&self) -> i64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The journal of its log dir.
    pub fn journal(&self) -> &Journal {
        &self.log_dir.journal
    }

    /// Bytes past the recovery point: what a sync of its segments has to write.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unflushed().map_or(0, |(bytes, _)| bytes)
    }

    /// Everything below `to` is durable; the caller holds the writer's lock.
    pub(crate) fn advance_durable(&self, to: Spot) {
        if self.durable.fetch_max(to.offset, Ordering::AcqRel) < to.offset {
            *self.durable_spot.lock() = Some(to);
        }
        assert!(self.durable_offset() <= self.log_end_offset(), "a log is durable behind its end");
    }

    /// Everything below `offset` went by retention; the caller holds the writer's lock.
    pub(super) fn raise_durable_to_start(&self, offset: i64) {
        if self.durable.fetch_max(offset, Ordering::AcqRel) < offset {
            *self.durable_spot.lock() = None;
        }
    }

    /// The log's end goes back to `offset`; the caller holds the writer's lock.
    pub(super) fn lower_durable(&self, offset: i64) {
        self.durable.fetch_min(offset, Ordering::AcqRel);
        *self.durable_spot.lock() = None;
    }

    /// Where the durable offset lies; `None` if it cannot be found.
    pub(crate) fn durable_spot(&self, segments: &[Arc<Segment>]) -> Option<Spot> {
        let offset = self.durable_offset();
        if let Some(spot) = self.durable_spot.lock().filter(|spot| spot.offset == offset) {
            return Some(spot);
        }
        let segment = segments.get(self.segments_from(segments, offset))?;
        let spot = match segment.find(offset).ok()? {
            Some((position, step)) => {
                Spot { offset: step.base_offset, segment: segment.base_offset, position: position as u64 }
            }
            None => Spot { offset, segment: segment.base_offset, position: segment.size() },
        };
        Some(spot)
    }
}
