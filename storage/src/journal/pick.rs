//! What of a log a round of the journal takes: the batches behind its durable offset, as slices of its segments' maps.
//!
//! Must never: copy a batch, or hold a lock of the log while the disk works.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{EntryHeader, Kind, Pending};
use crate::{Log, log::Spot};

/// The new batches of a log, in one piece a segment.
#[derive(Debug)]
pub(crate) struct Picked {
    pieces: Vec<(EntryHeader, Bytes)>,
    /// Cuts of the log's end before the batches were picked up.
    pub truncations: u64,
    /// The log's end by then.
    pub end: Spot,
    /// What `flush.messages` and `flush.ms` count.
    pub records: i64,
    pub dirty_since_ms: i64,
}

/// It cannot go by the journal: its segments must be synced.
#[derive(Debug)]
pub(crate) struct NotByJournal;

impl Picked {
    /// The entries of a round.
    pub(super) fn entries<'a>(&'a self, log: &'a Arc<Log>) -> impl Iterator<Item = Pending<'a>> {
        self.pieces.iter().map(move |(header, bytes)| Pending {
            header: *header,
            bytes: bytes.clone(),
            round_of: Some((log, self)),
        })
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

impl Log {
    /// The batches that are not durable yet; `None` if all are.
    pub(super) fn pick_up(&self) -> Result<Option<Picked>, NotByJournal> {
        let Some((mut picked, segments)) = self.begin_round()? else { return Ok(None) };
        match self.pieces(&picked, &segments) {
            Some(pieces) => picked.pieces = pieces,
            None => {
                self.put_back(&picked);
                return Err(NotByJournal);
            }
        }
        Ok(Some(picked))
    }

    fn begin_round(&self) -> Result<Option<(Picked, Arc<Vec<Arc<crate::segment::Segment>>>)>, NotByJournal> {
        if self.is_offline() {
            return Err(NotByJournal);
        }
        let mut writer = self.lock_writer();
        // A folder whose name is not on disk would not be found.
        if writer.newborn || self.topic_id().0 == [0; 16] {
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

    fn pieces(&self, picked: &Picked, segments: &[Arc<crate::segment::Segment>]) -> Option<Vec<(EntryHeader, Bytes)>> {
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
                crc: crc32c::crc32c(&bytes),
            };
            // The checksum touched all of it: damage would have shown.
            segment.is_sound().then_some(())?;
            pieces.push((header, bytes));
        }
        Some(pieces)
    }

    /// Whether nothing was cut since the batches were picked up.
    pub(super) fn still_holds(&self, picked: &Picked) -> bool {
        self.truncations.load(Ordering::Acquire) == picked.truncations
    }

    /// The batches are on disk.
    pub(super) fn note_durable(&self, picked: &Picked) {
        let _writer = self.lock_writer();
        if self.still_holds(picked) {
            self.move_durable(picked.end);
        }
    }

    /// They were not brought to disk.
    pub(super) fn put_back(&self, picked: &Picked) {
        let mut writer = self.lock_writer();
        writer.unflushed_records = writer.unflushed_records.saturating_add(picked.records);
        self.dirty_since_ms.fetch_min(picked.dirty_since_ms, Ordering::AcqRel);
    }
}
