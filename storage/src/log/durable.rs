//! The durable offset of a log: its data below is synced in the segments (the recovery point) or in the journal.
//!
//! The durable offset is never below the recovery point. Acknowledgments and high watermarks depend on it. Recovery after a crash
//! depends on the recovery point, since the journal's bytes still have to reach the segments.
//!
//! Must never: rise while the log is truncated; both happen under the writer's lock.

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

    /// Bytes past the recovery point, which a sync of its segments has to write.
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

    /// Retention deleted everything below `offset`; the caller holds the writer's lock.
    pub(super) fn raise_durable_to_start(&self, offset: i64) {
        if self.durable.fetch_max(offset, Ordering::AcqRel) < offset {
            *self.durable_spot.lock() = None;
        }
    }

    /// The log end decreases to `offset`; the caller holds the writer's lock.
    pub(super) fn lower_durable(&self, offset: i64) {
        self.durable.fetch_min(offset, Ordering::AcqRel);
        *self.durable_spot.lock() = None;
    }

    /// The position of the durable offset in the segments; `None` if it cannot be found.
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
