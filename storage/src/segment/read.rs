//! Reading a segment through its map. No copies, no locks.

use bytes::Bytes;

use super::{HOT_TAIL, Segment};
use crate::{
    error::{FileError, ReadError},
    types::ReadInfo,
    walk::{self, Step},
};

impl Segment {
    /// Walks headers in the map from `position` to the published end.
    pub(crate) fn steps(&self, position: u64) -> Result<Steps<'_>, FileError> {
        let limit = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let data = self.map()?.get(..limit).unwrap_or_default();
        Ok(Steps { data, position: usize::try_from(position).unwrap_or(usize::MAX) })
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
        let position = self.offsets()?.floor(self.relative(offset));
        for step in self.steps(u64::from(position))? {
            let (position, step) = step.map_err(|(position, error)| self.corrupt(position, error.what()))?;
            if step.last_offset >= offset {
                return Ok(Some((position, step)));
            }
        }
        Ok(None)
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
        let limit = start.saturating_add(max_bytes).min(usize::try_from(self.size()).unwrap_or(usize::MAX));
        if limit > end {
            // Most of the way goes by the index: only the headers after its last fitting entry are walked.
            let near = self.offsets()?.floor_below(limit.min(u32::MAX as usize) as u32, self.relative(up_to));
            let position = near.map_or(end, |entry| end.max(entry.position as usize));
            for step in self.steps(position as u64)? {
                let (position, step) = step.map_err(|(position, error)| self.corrupt(position, error.what()))?;
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

/// Iterator over `(position, step)` of published batches.
pub(crate) struct Steps<'a> {
    data: &'a [u8],
    position: usize,
}

impl Iterator for Steps<'_> {
    type Item = Result<(usize, Step), (usize, walk::StepError)>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position;
        let rest = self.data.get(position..).filter(|rest| !rest.is_empty())?;
        let step = walk::step(rest).and_then(|step| match step.size <= rest.len() {
            true => Ok(step),
            false => Err(walk::StepError::Short),
        });
        self.position = match &step {
            Ok(step) => position.saturating_add(step.size),
            Err(_) => self.data.len(),
        };
        Some(step.map(|step| (position, step)).map_err(|error| (position, error)))
    }
}
