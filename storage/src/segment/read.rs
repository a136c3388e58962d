//! Reading a segment through its map. No copies, no locks.

use bytes::Bytes;

use super::{HOT_TAIL, Segment};
use crate::{
    DamagedRange,
    error::{FileError, ReadError},
    index::{OffsetEntry, OffsetIndex},
    types::ReadInfo,
    walk::{self, Step},
};

impl Segment {
    /// Walks headers in the map from `position` to the published end.
    pub(crate) fn steps(&self, position: u64) -> Result<Steps<'_>, FileError> {
        let limit = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let data = self.map()?.get(..limit).unwrap_or_default();
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        // After the size: what is published by then lies below.
        let range = self.base_offset..self.next_offset();
        Ok(Steps {
            data,
            position,
            range,
            damaged: &self.damaged,
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

    fn corrupt(&self, position: usize, what: &'static str) -> ReadError {
        ReadError::Corrupt { segment: self.base_offset, position: position as u64, what: what.to_owned() }
    }

    /// Position and step of the first batch that ends at or above `offset`; `None` if all end below.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<(usize, Step)>, ReadError> {
        if self.size() == 0 {
            return Ok(None);
        }
        if let Some(range) = self.damaged.iter().find(|range| range.holds(offset)) {
            let DamagedRange { first_offset, end_offset, what, .. } = range.clone();
            return Err(ReadError::Damaged { first_offset, last_offset: end_offset.saturating_sub(1), what });
        }
        let mut damage = None;
        let (position, rot) = self.walk_from(offset)?;
        for step in (Steps { check: rot, ..self.steps(position)? }) {
            match step {
                // It may be behind the offset: what follows tells.
                Err((position, error)) => damage = Some(self.corrupt(position, error.what())),
                Ok((position, step)) if step.last_offset >= offset => {
                    return damage.filter(|_| step.base_offset > offset).map_or(Ok(Some((position, step))), Err);
                }
                Ok(_) => damage = None,
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Where to walk from to find `offset`: the nearest index entry that says what lies there; and whether it is not the
    /// nearest of all, so that rot is about and every batch on the way has to be checked. (Nothing but this guards an index
    /// file.)
    pub(crate) fn walk_from(&self, offset: i64) -> Result<(u64, bool), FileError> {
        let offsets = self.offsets()?;
        let mut entry = offsets.floor_entry(self.relative(offset));
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
        let last_offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        let step = self.steps(u64::from(entry.position))?.next();
        Ok(
            matches!(step, Some(Ok((position, step))) if position == entry.position as usize && step.last_offset == last_offset),
        )
    }

    /// Where to walk from to find the first record with `timestamp` or a later one: an entry of the time index, if it says
    /// what lies there; else the start.
    pub(crate) fn time_from(&self, timestamp: i64) -> Result<i64, ReadError> {
        let Some(entry) = self.times()?.floor(timestamp) else { return Ok(self.base_offset) };
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        match self.find(offset) {
            Ok(Some((_, step))) if step.last_offset == offset && step.max_timestamp == entry.timestamp => Ok(offset),
            Err(ReadError::File(error)) => Err(error.into()),
            _ => Ok(self.base_offset),
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
        let Some((start, first)) = self.find(from)? else { return Ok(None) };
        let mut info = ReadInfo { first_offset: from, next_offset: from, ..ReadInfo::default() };
        if first.last_offset >= up_to {
            return Ok(Some(info));
        }
        if first.size > max_bytes && !at_least_one {
            info.over_limit = true;
            return Ok(Some(info));
        }
        let mut end = start.saturating_add(first.size);
        let mut next_offset = first.last_offset.saturating_add(1);
        // Up to where it is sound.
        let damaged = self.damaged.iter().map(|range| range.position).find(|position| *position > start as u64);
        let sound = usize::try_from(damaged.unwrap_or(self.size())).unwrap_or(usize::MAX);
        let limit = start.saturating_add(max_bytes).min(sound);
        if limit > end {
            // Most of the way goes by the index: only the headers after its last fitting entry are walked.
            let near = self.offsets()?.floor_below(limit.min(u32::MAX as usize) as u32, self.relative(up_to));
            let near = near.filter(|entry| entry.position as usize > end && self.is_true(*entry).unwrap_or_default());
            let position = near.map_or(end, |entry| entry.position as usize);
            // What is damaged is for the next read, which begins there.
            for (position, step) in self.steps(position as u64)?.map_while(Result::ok) {
                if position >= sound {
                    break;
                }
                if position > end {
                    // Jumped: everything before this batch is in.
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
        (info.first_offset, info.next_offset) = (first.base_offset, next_offset);
        Ok(Some(info))
    }

    /// Whether reading `max_bytes` from `offset` on would find its pages in memory.
    pub(crate) fn is_resident(&self, offset: i64, max_bytes: u64, active: bool) -> bool {
        if active && self.size() <= HOT_TAIL {
            return true;
        }
        let (Some(offsets), Some(data)) = (self.offsets.get(), self.data.get()) else { return false };
        let position = u64::from(offsets.floor(self.relative(offset)));
        let left = self.size().saturating_sub(position);
        (active && left <= HOT_TAIL) || data.file.is_resident(position, left.min(max_bytes).max(1))
    }
}

/// Iterator over `(position, step)` of published batches. Damage is an item, too, if it is not known; the walk goes on at the
/// next index entry.
pub(crate) struct Steps<'a> {
    data: &'a [u8],
    position: usize,
    /// Offsets that may come.
    range: std::ops::Range<i64>,
    damaged: &'a [DamagedRange],
    offsets: &'a OffsetIndex,
    /// The first index entry behind the position, as far as it was looked for.
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
        let rest = self.data.get(position..).filter(|rest| !rest.is_empty())?;
        if self.next_entry <= position {
            let next = self.offsets.after(u32::try_from(position).unwrap_or(u32::MAX));
            self.next_entry = next.map_or(self.data.len(), |position| position as usize);
        }
        let step = walk::step(rest).and_then(|step| match rest.get(..step.size) {
            None => Err(walk::StepError::Short),
            // Where a batch reaches beyond an index entry, one of them lies.
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
