//! Reads: record slices by offset, offsets by time, aborted transactions.

use esker_protocol::records::Batch;

use super::Log;
use crate::{AbortedTransaction, ReadError, ReadInfo, TimestampOffset, segment::Segment};

/// Bound on what one compressed batch may unpack to while a timestamp is looked for in it.
const MAX_DECOMPRESSED: usize = 1 << 30;

impl Log {
    /// Whole batches from the one that holds `from` on, all of them ending below `up_to`, at most `max_bytes` together
    /// (the first one may be larger if `at_least_one`). From one segment: ask again at `next_offset` for more.
    ///
    /// Makes no copy. Blocks on the disk only where [`Self::is_resident`] says no.
    pub fn read(&self, from: i64, max_bytes: usize, up_to: i64, at_least_one: bool) -> Result<ReadInfo, ReadError> {
        if self.closed.load(std::sync::atomic::Ordering::Acquire) {
            return Err(ReadError::Closed);
        }
        // The end before the segments: they then hold at least everything below it.
        let log_end_offset = self.log_end_offset();
        let segments = self.segments.load();
        let log_start_offset = self.log_start_offset();
        if from < log_start_offset || from > log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset: from, log_start_offset, log_end_offset });
        }
        let up_to = up_to.min(log_end_offset);
        let first = self.segments_from(&segments, from);
        for segment in segments.iter().skip(first) {
            if from >= up_to || segment.base_offset >= up_to {
                break;
            }
            match segment.read(from, max_bytes, up_to, at_least_one) {
                Ok(Some(info)) => return Ok(info),
                Ok(None) => {}
                // Retention took its file away before anybody had opened it: the log start has moved.
                Err(ReadError::File(_)) if self.lost(std::slice::from_ref(segment)) => {
                    return self.read(from, max_bytes, up_to, at_least_one);
                }
                Err(ReadError::File(_)) if self.is_closed() => return Err(ReadError::Closed),
                Err(error) => return Err(error),
            }
        }
        Ok(ReadInfo { first_offset: from, next_offset: from, ..ReadInfo::default() })
    }

    /// Whether a read there would find its pages in memory; if not, read on a blocking thread. Near the end of the log
    /// it knows without a system call.
    pub fn is_resident(&self, from: i64, max_bytes: usize) -> bool {
        let segments = self.segments.load();
        let index = self.segments_from(&segments, from);
        let active = index + 1 == segments.len();
        segments.get(index).is_none_or(|segment| segment.is_resident(from, max_bytes as u64, active))
    }

    /// First record with a timestamp >= `timestamp` ms (ListOffsets); `None` if there is none. Times need not grow with
    /// offsets. Reads from disk and unpacks at most a few batches: call it where blocking is allowed.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        self.while_it_holds(|| self.find_timestamp(timestamp))
    }

    /// Tries again what met a file that retention took away.
    fn while_it_holds<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let segments = self.segments();
            match look() {
                Err(ReadError::File(_)) if self.lost(&segments) => {}
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
            let from = segment.time_from(timestamp)?.max(start);
            if let Some(found) = self.first_record(segment, from, start, |time| time >= timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// First record with the largest timestamp (ListOffsets -3); `None` for an empty log or one without times.
    /// Blocks as [`Self::offset_for_timestamp`].
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, ReadError> {
        self.while_it_holds(|| self.find_max_timestamp())
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
        let from = segment.time_from(max)?.max(start);
        match self.first_record(segment, from, start, |time| time == max)? {
            Some(found) => Ok(Some(found)),
            // A header promised a time that no record has (Kafka trusts some), or the record is below the log start.
            None => self.largest_record(start),
        }
    }

    /// The slow answer to `max_timestamp_offset`: looks at every record.
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
        let start = match segment.find(from) {
            Ok(Some((start, _))) => start,
            Ok(None) => return Ok(None),
            // The time index leads into damage: from its end on, or from what comes before it.
            Err(ReadError::Damaged { .. } | ReadError::Corrupt { .. }) => {
                let range = segment.damaged.iter().find(|range| range.holds(from));
                range.map_or_else(|| Ok(segment.walk_from(from)?.0), |range| Ok::<_, ReadError>(range.end_position))?
                    as usize
            }
            Err(error) => return Err(error),
        };
        let corrupt = |position: usize, what: String| ReadError::Corrupt {
            segment: segment.base_offset,
            position: position as u64,
            what,
        };
        // Damage is stepped over: what is sound is found.
        for (position, step) in segment.steps(start as u64)?.filter_map(Result::ok) {
            if step.base_offset >= end {
                break;
            }
            // Old formats have no maximum in a header: the message itself stands for what it wraps.
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
            let bytes = segment.slice(position, step.size)?;
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
