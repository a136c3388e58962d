//! Reading a segment through its map. No copies, no locks.

use std::sync::Arc;

use bytes::Bytes;

use super::{Segment, lost::CUT};
use crate::{
    DamagedRange,
    error::{FileError, ReadError},
    files::LOG,
    index::{OffsetEntry, OffsetIndex, TimeIndex},
    io::Context,
    open_files::Opened,
    types::ReadInfo,
    walk::{self, Step},
};

/// Record sets up to this size are touched to their end: they lie in two pages at most, and an answer may copy them.
const TOUCHED: usize = 4096;

/// A segment with its open file, map and indexes, for reads.
pub(crate) struct View<'a> {
    segment: &'a Segment,
    opened: Arc<Opened>,
}

impl Segment {
    /// Opens the files that a read needs.
    pub(crate) fn view(&self) -> Result<View<'_>, FileError> {
        let opened = self.opened()?;
        opened.map(self.capacity).context_of("map", || self.path(LOG))?;
        self.offsets(&opened)?;
        Ok(View { segment: self, opened })
    }

    /// Position and step of the first batch that ends at or above `offset`; `None` if all end below.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<(usize, Step)>, ReadError> {
        if self.size() == 0 {
            return Ok(None);
        }
        // Before any read of the segment.
        self.refuse_damaged(offset)?;
        self.view()?.find(offset)
    }

    fn refuse_damaged(&self, offset: i64) -> Result<(), ReadError> {
        let Some(range) = self.damaged.iter().find(|range| range.contains(offset)) else { return Ok(()) };
        let DamagedRange { first_offset, end_offset, what, .. } = range.clone();
        Err(ReadError::Damaged { first_offset, last_offset: end_offset.saturating_sub(1), what })
    }

    /// See [`crate::Log::read`]; `None` if the segment has nothing at or above `from`.
    pub(crate) fn read(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        if self.size() == 0 {
            return Ok(None);
        }
        self.refuse_damaged(from)?;
        self.view()?.read(from, max_bytes, up_to, at_least_one)
    }

    fn corrupt(&self, position: usize, what: &'static str) -> ReadError {
        ReadError::Corrupt { segment: self.base_offset, position: position as u64, what: what.to_owned() }
    }
}

impl View<'_> {
    fn map(&self) -> Result<&Bytes, FileError> {
        self.opened.map(self.segment.capacity).context_of("map", || self.segment.path(LOG))
    }

    /// The offset index.
    pub(crate) fn offsets(&self) -> Result<&OffsetIndex, FileError> {
        self.segment.offsets(&self.opened)
    }

    /// The time index.
    pub(crate) fn times(&self) -> Result<&TimeIndex, FileError> {
        self.segment.times(&self.opened)
    }

    /// Walks headers in the map from `position` to the published end.
    pub(crate) fn steps(&self, position: u64) -> Result<Steps<'_>, FileError> {
        let segment = self.segment;
        let lost_from = segment.lost_from();
        let limit = usize::try_from(lost_from.unwrap_or(u64::MAX).min(segment.size())).unwrap_or(usize::MAX);
        let data = self.map()?.get(..limit).unwrap_or_default();
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        // After the size: the published data lies below this offset.
        let range = segment.base_offset..segment.next_offset();
        Ok(Steps {
            data,
            position,
            range,
            damaged: &segment.damaged,
            cut: lost_from.is_some(),
            offsets: self.offsets()?,
            next_entry: 0,
            check: false,
        })
    }

    /// A batch's bytes in the map.
    pub(crate) fn slice(&self, position: usize, size: usize) -> Result<Bytes, FileError> {
        let map = self.map()?;
        let end = position.saturating_add(size).min(map.len());
        Ok(map.slice(position.min(end)..end))
    }

    /// Loads these bytes into memory, if they are not there. Blocks on the disk.
    pub(crate) fn load_pages(&self, position: u64, len: u64) -> Result<(), FileError> {
        self.segment.handle.files().load_pages(self.segment, &self.opened, position, len)
    }

    /// Position from which the data is lost, if a touch of the map before this call detected it.
    pub(crate) fn lost_from(&self) -> Option<usize> {
        self.segment.check_map(&self.opened).map(|position| usize::try_from(position).unwrap_or(usize::MAX))
    }

    /// Position and step of the first batch that ends at or above `offset`; `None` if all end below.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<(usize, Step)>, ReadError> {
        if self.segment.size() == 0 {
            return Ok(None);
        }
        self.segment.refuse_damaged(offset)?;
        let found = self.search(offset);
        // After the touches of the search.
        let Some(lost_from) = self.lost_from() else { return found };
        match found {
            // The whole searched part is sound.
            Ok(Some((position, step))) if position.saturating_add(step.size) <= lost_from => Ok(Some((position, step))),
            Err(ReadError::File(error)) => Err(error.into()),
            _ => Err(self.segment.corrupt(lost_from, CUT)),
        }
    }

    fn search(&self, offset: i64) -> Result<Option<(usize, Step)>, ReadError> {
        let mut damage = None;
        let (position, rot) = self.walk_from(offset)?;
        for step in (Steps { check: rot, ..self.steps(position)? }) {
            match step {
                // The damage may be behind the offset: the next batches decide.
                Err((position, error)) => damage = Some(self.segment.corrupt(position, error.what())),
                Ok((position, step)) if step.last_offset >= offset => {
                    return damage.filter(|_| step.base_offset > offset).map_or(Ok(Some((position, step))), Err);
                }
                Ok(_) => damage = None,
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Where to walk from to find `offset`: the nearest index entry that matches the data, and whether a nearer entry did not
    /// match. In that case the index is damaged and every batch on the way must be checked. (Index files have no checksum.)
    pub(crate) fn walk_from(&self, offset: i64) -> Result<(u64, bool), FileError> {
        let offsets = self.offsets()?;
        let mut entry = offsets.floor_entry(self.segment.relative(offset));
        let mut rot = false;
        while let Some(found) = entry {
            if self.is_true(found)? {
                return Ok((found.position.into(), rot));
            }
            rot = true;
            entry = found.relative_offset.checked_sub(1).and_then(|below| offsets.floor_entry(below));
        }
        Ok((0, rot))
    }

    fn is_true(&self, entry: OffsetEntry) -> Result<bool, FileError> {
        let last_offset = self.segment.base_offset.saturating_add(i64::from(entry.relative_offset));
        let step = self.steps(u64::from(entry.position))?.next();
        Ok(
            matches!(step, Some(Ok((position, step))) if position == entry.position as usize && step.last_offset == last_offset),
        )
    }

    /// Where to walk from to find the first record with `timestamp` or a later one: an entry of the time index, if it matches the
    /// data; else the start.
    pub(crate) fn time_from(&self, timestamp: i64) -> Result<i64, ReadError> {
        let Some(entry) = self.times()?.floor(timestamp) else { return Ok(self.segment.base_offset) };
        let offset = self.segment.base_offset.saturating_add(i64::from(entry.relative_offset));
        match self.find(offset) {
            Ok(Some((_, step))) if step.last_offset == offset && step.max_timestamp == entry.timestamp => Ok(offset),
            Err(ReadError::File(error)) => Err(error.into()),
            _ => Ok(self.segment.base_offset),
        }
    }

    /// See [`crate::Log::read`]; `None` if the segment has nothing at or above `from`.
    pub(crate) fn read(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        let mut read = self.read_once(from, max_bytes, up_to, at_least_one)?;
        // Damage that only this read detected: the retry ends before it, and new damage in the retry is an error.
        for last in [false, true] {
            let end = read.as_ref().map_or(0, |(end, _)| *end);
            match self.lost_from() {
                Some(lost_from) if end > lost_from && last => return Err(self.segment.corrupt(lost_from, CUT)),
                Some(lost_from) if end > lost_from => {
                    read = self.read_once(from, max_bytes, up_to, at_least_one)?;
                }
                _ => break,
            }
        }
        Ok(read.map(|(_, info)| info))
    }

    /// As [`Self::read`], with the end position of the records; the caller checks whether that data is lost.
    fn read_once(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<Option<(usize, ReadInfo)>, ReadError> {
        let Some((start, first)) = self.find(from)? else { return Ok(None) };
        let mut info = ReadInfo { first_offset: from, next_offset: from, ..ReadInfo::default() };
        if first.last_offset >= up_to {
            return Ok(Some((0, info)));
        }
        if first.size > max_bytes && !at_least_one {
            info.over_limit = true;
            return Ok(Some((0, info)));
        }
        let mut end = start.saturating_add(first.size);
        let mut next_offset = first.last_offset.saturating_add(1);
        // The end of the sound data.
        let damaged = self.segment.damaged.iter().map(|range| range.position).find(|position| *position > start as u64);
        let lost = self.segment.lost_from();
        info.ends_early = damaged.is_some() || lost.is_some();
        let sound = damaged.unwrap_or(self.segment.size()).min(lost.unwrap_or(u64::MAX));
        let sound = usize::try_from(sound).unwrap_or(usize::MAX);
        let limit = start.saturating_add(max_bytes).min(sound);
        if limit > end {
            // The index gives most of the length: only the headers after its last fitting entry are walked.
            let near = self.offsets()?.floor_below(limit.min(u32::MAX as usize) as u32, self.segment.relative(up_to));
            let near = near.filter(|entry| entry.position as usize > end && self.is_true(*entry).unwrap_or_default());
            let position = near.map_or(end, |entry| entry.position as usize);
            // Damage ends this read; the next read, which begins there, reports it.
            for (position, step) in self.steps(position as u64)?.map_while(Result::ok) {
                if position >= sound {
                    break;
                }
                if position > end {
                    // The index was used: all batches before this one are included.
                    (end, next_offset) = (position, step.base_offset);
                }
                let batch_end = position.saturating_add(step.size);
                if batch_end > limit || step.last_offset >= up_to {
                    break;
                }
                (end, next_offset) = (batch_end, step.last_offset.saturating_add(1));
            }
        }
        info.records = self.slice(start, end.saturating_sub(start))?;
        if info.records.len() <= TOUCHED {
            // The header was touched; the last page is touched here, where damage can be reported.
            std::hint::black_box(info.records.last().copied());
        }
        (info.first_offset, info.next_offset) = (first.base_offset, next_offset);
        Ok(Some((end, info)))
    }
}

/// Iterator over `(position, step)` of published batches. Unknown damage is an item, too; the walk continues at the next index
/// entry.
pub(crate) struct Steps<'a> {
    data: &'a [u8],
    position: usize,
    /// The valid offsets.
    range: std::ops::Range<i64>,
    damaged: &'a [DamagedRange],
    /// The data ends before the segment: its end is reported as damage.
    cut: bool,
    offsets: &'a OffsetIndex,
    /// The first index entry behind the position, as far as the index was searched.
    next_entry: usize,
    /// Every batch's CRC is checked.
    check: bool,
}

impl Iterator for Steps<'_> {
    type Item = Result<(usize, Step), (usize, walk::StepError)>;

    fn next(&mut self) -> Option<Self::Item> {
        let known =
            self.damaged.iter().find(|range| (range.position..range.end_position).contains(&(self.position as u64)));
        if let Some(range) = known {
            self.position = usize::try_from(range.end_position).unwrap_or(usize::MAX);
        }
        let position = self.position;
        let Some(rest) = self.data.get(position..).filter(|rest| !rest.is_empty()) else {
            return std::mem::take(&mut self.cut).then_some(Err((position, walk::StepError::Bad(CUT))));
        };
        if self.next_entry <= position {
            let next = self.offsets.after(u32::try_from(position).unwrap_or(u32::MAX));
            self.next_entry = next.map_or(self.data.len(), |position| position as usize);
        }
        let step = walk::step(rest).and_then(|step| match rest.get(..step.size) {
            None => Err(walk::StepError::Short),
            // If a batch reaches beyond an index entry, one of the two is wrong.
            Some(batch)
                if (self.check || position.saturating_add(step.size) > self.next_entry)
                    && !walk::crc_matches(batch, step.magic) =>
            {
                Err(walk::StepError::Bad("a batch has a wrong CRC"))
            }
            Some(_) if step.last_offset < self.range.start || step.last_offset >= self.range.end => {
                Err(walk::StepError::Bad("a batch has a wrong offset"))
            }
            Some(_) => Ok(step),
        });
        self.position = match &step {
            Ok(step) => {
                self.range.start = step.last_offset.saturating_add(1);
                position.saturating_add(step.size)
            }
            Err(_) => self.next_entry,
        };
        Some(step.map(|step| (position, step)).map_err(|error| (position, error)))
    }
}
