//! Reads: record slices by offset, offsets by time, aborted transactions.

use std::sync::Arc;

use esker_protocol::records::Batch;

use super::Log;
use crate::{AbortedTransaction, ReadError, ReadInfo, TimestampOffset, error::FileError, segment::Segment};

/// How a read handles data that is not in memory.
#[derive(Debug, Clone, Copy)]
enum How {
    /// It returns slices unchecked: the first touch of a page may wait for the disk.
    Unchecked,
    /// It returns nothing.
    Resident,
    /// It loads the data.
    Load,
}

/// Whether the file was removed, or another file has its name.
fn is_another_file(error: &FileError) -> bool {
    use std::io::ErrorKind::{NotFound, UnexpectedEof};
    matches!(error.source.kind(), NotFound | UnexpectedEof)
}

/// Bound on the decompressed size of a batch during a search for a timestamp.
const MAX_DECOMPRESSED: usize = 1 << 30;

impl Log {
    /// Whole batches from the one that holds `from` on, all of them ending below `up_to`, at most `max_bytes` together
    /// (the first one may be larger if `at_least_one`). From one segment: ask again at `next_offset` for more.
    ///
    /// Makes no copy. May wait for the disk: here, and when its slice is touched or sent.
    pub fn read(&self, from: i64, max_bytes: usize, up_to: i64, at_least_one: bool) -> Result<ReadInfo, ReadError> {
        // This mode does not check residency, so the read is never cold.
        Ok(self.read_as(How::Unchecked, (from, up_to), max_bytes, at_least_one)?.unwrap_or_default())
    }

    /// As [`Self::read`], but never waits for the disk: `None` if it would, or if sending the slice would. Near the end of the log
    /// this needs no system call.
    pub fn read_resident(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        self.read_as(How::Resident, (from, up_to), max_bytes, at_least_one)
    }

    /// As [`Self::read`], and loads the whole slice into memory, so that sending it does not wait for the disk. For a sequential
    /// reader the next chunks are read ahead. Blocks on the disk.
    pub fn read_cold(
        &self,
        from: i64,
        max_bytes: usize,
        up_to: i64,
        at_least_one: bool,
    ) -> Result<ReadInfo, ReadError> {
        Ok(self.read_as(How::Load, (from, up_to), max_bytes, at_least_one)?.unwrap_or_default())
    }

    fn read_as(
        &self,
        how: How,
        (from, up_to): (i64, i64),
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        loop {
            if self.closed.load(std::sync::atomic::Ordering::Acquire) {
                return Err(ReadError::Closed);
            }
            // The end before the segments: they then hold at least everything below it.
            let log_end_offset = self.log_end_offset();
            let segments = self.segments.load_full();
            let log_start_offset = self.log_start_offset();
            if from < log_start_offset || from > log_end_offset {
                return Err(ReadError::OffsetOutOfRange { offset: from, log_start_offset, log_end_offset });
            }
            let range = (from, up_to.min(log_end_offset));
            match self.read_in(&segments, how, range, max_bytes, at_least_one) {
                // The file was not open and is missing: the segment, or the whole folder, was removed meanwhile.
                Err(ReadError::File(error)) if is_another_file(&error) => {
                    if matches!(how, How::Resident) {
                        return Ok(None);
                    }
                    // A truncation removes files before it publishes the remaining segments.
                    drop(self.lock_writer());
                    let closed = self.closed.load(std::sync::atomic::Ordering::Acquire);
                    let same = !closed && Arc::ptr_eq(&segments, &self.segments.load());
                    if same && !self.note_cut(&segments, &error) {
                        return Err(error.into());
                    }
                }
                read => return read,
            }
        }
    }

    fn read_in(
        &self,
        segments: &[Arc<Segment>],
        how: How,
        (from, up_to): (i64, i64),
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Option<ReadInfo>, ReadError> {
        let mut segments = segments.iter().skip(self.segments_from(segments, from));
        while let Some(segment) = segments.next() {
            if from >= up_to || segment.base_offset >= up_to {
                break;
            }
            match how {
                How::Resident if !segment.is_resident(from, max_bytes as u64) => return Ok(None),
                How::Load => segment.load_pages(from, max_bytes as u64)?,
                How::Unchecked | How::Resident => {}
            }
            let Some(mut info) = segment.read(from, max_bytes, up_to, at_least_one)? else { continue };
            info.ends_early |= segments.next().is_some_and(|next| next.base_offset < up_to);
            match how {
                How::Resident if !segment.has_rest(&info, max_bytes) => return Ok(None),
                How::Load => segment.load_rest(&info, max_bytes)?,
                How::Unchecked | How::Resident => {}
            }
            return Ok(Some(info));
        }
        Ok(Some(ReadInfo { first_offset: from, next_offset: from, ..ReadInfo::default() }))
    }

    /// First record with a timestamp >= `timestamp` ms (ListOffsets); `None` if there is none. Times need not grow with
    /// offsets. Reads from disk and unpacks at most a few batches: call it where blocking is allowed.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        self.retry_if_removed(|| self.find_timestamp(timestamp))
    }

    /// Retries a lookup that failed on a file that retention removed.
    fn retry_if_removed<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let segments = self.segments();
            match look() {
                Err(ReadError::File(_)) if self.has_dropped(&segments) => {}
                Err(ReadError::File(error)) if !self.is_closed() && self.note_cut(&segments, &error) => {}
                found => return found,
            }
        }
    }

    fn find_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let start = self.log_start_offset();
        for segment in self.segments.load().iter() {
            if segment.next_offset() <= start || segment.max_time()?.is_none_or(|(max, _)| max < timestamp) {
                continue;
            }
            let from = segment.view()?.time_from(timestamp)?.max(start);
            if let Some(found) = self.first_record(segment, from, start, |time| time >= timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// First record with the largest timestamp (ListOffsets -3); `None` for an empty log or one without times.
    /// Blocks as [`Self::offset_for_timestamp`].
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, ReadError> {
        self.retry_if_removed(|| self.find_max_timestamp())
    }

    fn find_max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let start = self.log_start_offset();
        let segments = self.segments.load();
        let mut best: Option<(i64, &Segment)> = None;
        for segment in segments.iter().filter(|segment| segment.next_offset() > start) {
            if let Some((max, _)) = segment.max_time()?
                && best.is_none_or(|(known, _)| max > known)
            {
                best = Some((max, segment));
            }
        }
        let Some((max, segment)) = best else { return Ok(None) };
        let from = segment.view()?.time_from(max)?.max(start);
        match self.first_record(segment, from, start, |time| time == max)? {
            Some(found) => Ok(Some(found)),
            // A header has a time that no record has (Kafka trusts some headers), or the record is below the log start.
            None => self.largest_record(start),
        }
    }

    /// The slow path of `max_timestamp_offset`: reads every record.
    fn largest_record(&self, start: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let mut best: Option<TimestampOffset> = None;
        for segment in self.segments.load().iter().filter(|segment| segment.next_offset() > start) {
            let mut from = start.max(segment.base_offset);
            let above = |best: &Option<TimestampOffset>| best.map_or(-1, |known| known.timestamp);
            while let Some(found) = self.first_record(segment, from, from, |time| time > above(&best))? {
                from = found.offset.saturating_add(1);
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// First record whose timestamp `wanted` accepts, at or above `lowest`; looks from the batch that holds `from` on.
    fn first_record(
        &self,
        segment: &Segment,
        from: i64,
        lowest: i64,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let end = self.log_end_offset();
        if segment.size() == 0 {
            return Ok(None);
        }
        let view = segment.view()?;
        let start = match view.find(from) {
            Ok(Some((start, _))) => start,
            Ok(None) => return Ok(None),
            // The time index leads into damage: search from its end on, or from the record before it.
            Err(ReadError::Damaged { .. } | ReadError::Corrupt { .. }) => {
                let range = segment.damaged.iter().find(|range| range.contains(from));
                range.map_or_else(|| Ok(view.walk_from(from)?.0), |range| Ok::<_, ReadError>(range.end_position))?
                    as usize
            }
            Err(error) => return Err(error),
        };
        let corrupt = |position: usize, what: String| ReadError::Corrupt {
            segment: segment.base_offset,
            position: position as u64,
            what,
        };
        // Damage is skipped, so that later sound records are found.
        for (position, step) in view.steps(start as u64)?.filter_map(Result::ok) {
            if step.base_offset >= end {
                break;
            }
            // Old formats have no maximum in a header: the outer message is used for the messages that it wraps.
            let found = |timestamp, offset, leader_epoch| TimestampOffset { timestamp, offset, leader_epoch };
            if step.magic < 2 {
                if step.last_offset >= lowest && wanted(step.max_timestamp) {
                    return Ok(Some(found(step.max_timestamp, step.last_offset, -1)));
                }
                continue;
            }
            if !wanted(step.max_timestamp) {
                continue;
            }
            let bytes = view.slice(position, step.size)?;
            let (batch, _) = Batch::parse(bytes).map_err(|error| corrupt(position, error.to_string()))?;
            if batch.verify_crc().is_err() {
                continue;
            }
            let records = batch.records(MAX_DECOMPRESSED).map_err(|error| corrupt(position, error.to_string()))?;
            for record in records {
                let record = record.map_err(|error| corrupt(position, error.to_string()))?;
                if record.offset >= lowest && record.offset < end && wanted(record.timestamp) {
                    return Ok(Some(found(record.timestamp, record.offset, step.leader_epoch)));
                }
            }
        }
        Ok(None)
    }

    /// Aborted transactions that overlap `from..up_to`, by first offset of their markers' order (KIP-98).
    pub fn aborted_transactions(&self, from: i64, up_to: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        let segments = self.segments.load();
        let mut found = Vec::new();
        for segment in segments.iter().skip(self.segments_from(&segments, from)) {
            if segment.transactions.collect(from, up_to, &mut found) {
                break;
            }
        }
        let found = found.into_iter();
        Ok(found
            .map(|txn| AbortedTransaction { producer_id: txn.producer_id, first_offset: txn.first_offset })
            .collect())
    }
}
