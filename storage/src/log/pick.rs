//! The batches of a log for a round of the journal: those behind its durable offset, as slices of its segments' maps.
//!
//! Must never: copy a batch, or hold a lock of the log while the disk works.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{Log, Spot};
use crate::{
    LogError,
    journal::{EntryHeader, JournaledLog, Kind, NotByJournal, Picked},
    segment::Segment,
};

/// All segments of a log, the active one last.
type Segments = Arc<Vec<Arc<Segment>>>;

impl JournaledLog for Log {
    fn dir(&self) -> &Path {
        self.dir()
    }

    fn take_unflushed(&self) -> Result<Option<Picked>, NotByJournal> {
        let Some((mut picked, segments)) = self.begin_round()? else { return Ok(None) };
        match self.pieces(&picked, &segments) {
            Some(pieces) => picked.pieces = pieces,
            None => {
                self.return_unflushed(&picked);
                return Err(NotByJournal);
            }
        }
        Ok(Some(picked))
    }

    fn add_checksums(&self, picked: &mut Picked) -> Result<(), NotByJournal> {
        for (header, bytes) in &mut picked.pieces {
            header.crc = crc32c::crc32c(bytes);
        }
        // Every page was touched: damage of the maps shows by now.
        let segments = self.segments();
        let first = picked.pieces.first().map_or(i64::MAX, |(header, _)| header.segment);
        let mut touched = segments.iter().filter(|segment| segment.base_offset >= first);
        if touched.all(|segment| segment.is_sound()) { Ok(()) } else { Err(NotByJournal) }
    }

    fn still_holds(&self, picked: &Picked) -> bool {
        self.truncations.load(Ordering::Acquire) == picked.truncations && !self.is_closed()
    }

    fn is_unflushed(&self, picked: &Picked, entry: &EntryHeader) -> bool {
        self.still_holds(picked) && entry.next_offset > self.recovery_point()
    }

    fn note_durable(&self, picked: &Picked) -> bool {
        let _writer = self.lock_writer();
        let holds = self.still_holds(picked);
        if holds {
            self.advance_durable(picked.end);
        }
        holds
    }

    fn return_unflushed(&self, picked: &Picked) {
        let mut writer = self.lock_writer();
        writer.unflushed_records = writer.unflushed_records.saturating_add(picked.records);
        self.dirty_since_ms.fetch_min(picked.dirty_since_ms, Ordering::AcqRel);
    }

    fn is_synced(&self, offset: i64) -> bool {
        self.recovery_point() >= offset
    }

    fn sync_segments(&self) -> Result<(), LogError> {
        match self.flush() {
            Err(error) if !self.is_closed() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Log {
    fn begin_round(&self) -> Result<Option<(Picked, Segments)>, NotByJournal> {
        if self.is_offline() {
            return Err(NotByJournal);
        }
        let mut writer = self.lock_writer();
        // A start would not find a folder whose name is not durable.
        if writer.folder_unsynced || self.topic_id().0 == [0; 16] {
            return Err(NotByJournal);
        }
        let end =
            Spot { offset: self.log_end_offset(), segment: writer.active.base_offset, position: writer.active.size() };
        if end.offset <= self.durable_offset() {
            return Ok(None);
        }
        let picked = Picked {
            pieces: Vec::new(),
            truncations: self.truncations.load(Ordering::Acquire),
            end,
            records: std::mem::take(&mut writer.unflushed_records),
            dirty_since_ms: self.dirty_since_ms.swap(i64::MAX, Ordering::AcqRel),
        };
        Ok(Some((picked, self.segments())))
    }

    fn pieces(&self, picked: &Picked, segments: &[Arc<Segment>]) -> Option<Vec<(EntryHeader, Bytes)>> {
        let from = self.durable_spot(segments)?;
        let leader_epoch = self.latest_epoch.load(Ordering::Relaxed);
        let mut pieces = Vec::new();
        for segment in segments.iter().filter(|segment| segment.base_offset >= from.segment) {
            let active = segment.base_offset == picked.end.segment;
            let (first_offset, position) = match segment.base_offset == from.segment {
                true => (from.offset, from.position),
                false => (segment.base_offset, 0),
            };
            let (next_offset, end) = match active {
                true => (picked.end.offset, picked.end.position),
                false => (segment.next_offset(), segment.size()),
            };
            let length = end.saturating_sub(position);
            if length == 0 {
                continue;
            }
            let bytes = segment.sound_slice(position, length)?;
            let header = EntryHeader {
                kind: Kind::Data,
                topic_id: self.topic_id(),
                partition: self.partition(),
                segment: segment.base_offset,
                position,
                leader_epoch,
                first_offset,
                next_offset,
                bytes: u32::try_from(length).ok()?,
                crc: 0,
            };
            pieces.push((header, bytes));
        }
        Some(pieces)
    }
}
