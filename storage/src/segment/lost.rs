//! Data that another process cut off a segment's file, or that the disk cannot read, detected while the segment is in use.
//!
//! A map shows such damage only after the touch ([`Map::damaged_from`](crate::Map::damaged_from)), a plain read by a short result.
//! Either way the position is stored in the segment's handle. Reads below it are served, reads from there on are refused; an append
//! goes to a new segment. The mark stays until the next start, which checks the file again.
//!
//! Must never: serve the zeros that a damaged map shows, or take the log dir offline, whose other files are sound.

use bytes::Bytes;

use super::Segment;
use crate::{
    DamagedRange,
    error::FileError,
    files::LOG,
    io::{Context, LogFile},
    open_files::{Opened, SOUND},
};

/// The cause in errors and logs.
pub(crate) const CUT: &str =
    "the file was cut short by another process, or cannot be read; restore it and restart the broker";

impl Segment {
    /// Position from which the data is lost; `None` for a sound segment, at the cost of one relaxed load.
    pub(crate) fn lost_from(&self) -> Option<u64> {
        Some(self.handle.lost_from()).filter(|position| *position != SOUND)
    }

    /// As [`Self::lost_from`], after a touch of the map of `opened`: includes damage that the touch detected.
    pub(crate) fn check_map(&self, opened: &Opened) -> Option<u64> {
        let known = self.handle.lost_from();
        match opened.mapped().and_then(|map| map.damaged_from()) {
            Some(damaged) if (damaged as u64) < known => self.note_lost(damaged as u64, opened.file()),
            _ => {}
        }
        self.lost_from()
    }

    /// A slice of the map, if nothing of the segment is damaged; to be touched before [`Self::is_sound`] is called.
    pub(crate) fn sound_slice(&self, position: u64, length: u64) -> Option<Bytes> {
        let from = usize::try_from(position).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        let opened = self.opened().ok()?;
        let map = opened.map(self.capacity).ok()?;
        (to <= map.len() && self.is_sound()).then(|| map.slice(from..to))
    }

    /// Whether all pages touched so far could be read.
    pub(crate) fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.opened().is_ok_and(|opened| self.check_map(&opened).is_none())
    }

    /// Marks the data as lost from `position` on, or from the end of the file if that is lower (a map shows zeros up to the next
    /// page).
    pub(crate) fn note_lost(&self, position: u64, file: &dyn LogFile) {
        let position = file.size().map_or(position, |size| size.min(position));
        if self.handle.set_lost_from(position) {
            tracing::error!(
                segment = %self.path(LOG).display(), position, size = self.size(),
                "a segment lost data: {CUT}. Fetches of what is lost are answered with CORRUPT_MESSAGE"
            );
        }
    }

    /// Checks whether the file is shorter than its published size; true if that was not known.
    pub(crate) fn note_if_cut(&self) -> Result<bool, FileError> {
        let file = self.open_file()?;
        let (len, published) = (file.size().context("look at", &self.path(LOG))?, self.size());
        let news = len < published && self.handle.lost_from() > len;
        if news {
            self.note_lost(len, file.as_ref());
        }
        Ok(news)
    }

    /// The lost data for operators. The first offset is that of the last index entry before: some records behind it may be sound.
    pub(crate) fn lost_range(&self) -> Option<DamagedRange> {
        let position = self.lost_from()?;
        let opened = self.handle.get();
        let offsets = self.growing.get().map(|(offsets, _)| offsets);
        let offsets = offsets.or_else(|| opened.as_ref().and_then(|opened| opened.offsets.get()));
        let before = u32::try_from(position).unwrap_or(u32::MAX);
        let entry = offsets.and_then(|offsets| offsets.floor_below(before, u32::MAX));
        let sound = offsets.is_none_or(|offsets| !offsets.is_damaged());
        let relative = entry.filter(|_| sound).map_or(0, |entry| entry.relative_offset);
        Some(DamagedRange {
            first_offset: self.base_offset.saturating_add(i64::from(relative)),
            end_offset: self.next_offset(),
            segment: self.base_offset,
            position,
            end_position: self.size(),
            what: CUT.to_owned(),
        })
    }
}
