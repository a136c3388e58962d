//! The operations of compaction on a log.

use std::{path::PathBuf, sync::Arc, sync::atomic::Ordering};

use super::Log;
use crate::{
    LogError,
    compaction::{LastOffsets, LogFacts, SegmentFacts, swap_segments},
    error::FileError,
    index::TransactionIndex,
    io::Context,
    segment::{Segment, SegmentParts},
};

impl Log {
    /// Where the last compaction ended; -1 if there was none.
    pub(crate) fn cleaned_offset(&self) -> i64 {
        self.cleaned.load(Ordering::Acquire)
    }

    /// Number of truncations so far: shows whether the log was truncated meanwhile.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }

    /// Ends a compaction that began after so many truncations: a later truncation takes precedence.
    pub(crate) fn advance_cleaned_offset(&self, truncations: u64, offset: i64) {
        let _writer = self.lock_writer();
        if self.truncations() == truncations {
            self.set_cleaned_offset(offset);
        }
    }

    pub(crate) fn set_cleaned_offset(&self, offset: i64) {
        self.cleaned.store(offset, Ordering::Release);
    }

    /// The facts for the plan. May load indexes.
    pub(crate) fn compaction_facts(&self) -> Result<LogFacts, FileError> {
        // The segments last: a roll meanwhile only makes the rest too small.
        let (end, last_stable) = (self.log_end_offset(), self.last_stable_offset());
        let config = self.config();
        let mut facts = LogFacts {
            start: self.log_start_offset(),
            end,
            last_stable,
            checkpoint: Some(self.cleaned_offset()).filter(|offset| *offset >= 0),
            segments: Vec::new(),
        };
        for segment in self.segments.load().iter() {
            let mut its = self.segment_facts(segment);
            if config.min_compaction_lag_ms > 0 && segment.size() > 0 {
                its.newest_ms = segment.newest_ms()?;
            }
            if config.max_compaction_lag_ms < i64::MAX && segment.size() > 0 {
                let first = segment.view()?.steps(0)?.next().and_then(Result::ok);
                its.first_ms = first.map_or(-1, |(_, step)| step.max_timestamp);
            }
            facts.segments.push(its);
        }
        Ok(facts)
    }

    /// Offsets and size of a segment; its times are left out.
    pub(crate) fn segment_facts(&self, segment: &Segment) -> SegmentFacts {
        SegmentFacts {
            base_offset: segment.base_offset,
            next_offset: segment.next_offset(),
            size: segment.size(),
            ..SegmentFacts::default()
        }
    }

    pub(crate) fn last_data_offsets(&self) -> LastOffsets {
        self.lock_writer().producers.last_data_offsets()
    }

    /// Replaces `sources` by a compacted segment, whose `.cleaned` files are durable. False, without any change, if one of them is
    /// no longer in the log. Readers that hold the old segments keep them.
    pub(crate) fn replace_segments(
        &self,
        sources: &[Arc<Segment>],
        size: u64,
        transactions: TransactionIndex,
    ) -> Result<bool, LogError> {
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else { return Ok(false) };
        for source in sources {
            // A reader of the old segment must not open the new file under the same name.
            source.pin()?;
        }
        let parked = {
            let _maintenance = self.lock_maintenance();
            let _flushing = self.flushing.lock();
            let mut writer = self.lock_writer();
            let segments = self.segments.load_full();
            let at = segments.iter().position(|held| Arc::ptr_eq(held, first));
            let held = at.and_then(|at| segments.get(at..at + sources.len()));
            let same = held.is_some_and(|held| held.iter().zip(sources).all(|(a, b)| Arc::ptr_eq(a, b)));
            let (Some(at), true, false) = (at, same, self.is_offline()) else { return Ok(false) };
            sources.iter().for_each(|source| source.mark_unlinked());
            let bases: Vec<i64> = sources.iter().map(|source| source.base_offset).collect();
            let swapped = swap_segments(self.log_dir.disk.as_ref(), &self.dir, &bases);
            // After a partial swap the content of the folder is unknown until the next start, which finishes the swap.
            let parked: Vec<PathBuf> = swapped.map_err(|error| self.log_dir.take_offline(error))?;
            let parts = SegmentParts {
                disk: Arc::clone(&self.log_dir.disk),
                files: Arc::clone(&self.log_dir.files),
                dir: self.dir.clone(),
                base_offset: first.base_offset,
                capacity: size,
                size,
                next_offset: last.next_offset(),
                index_interval: self.config.load().index_interval_bytes,
                transactions,
                touched_ms: last.touched_ms,
                damaged: Default::default(),
            };
            let mut kept = Vec::clone(&segments);
            kept.splice(at..at + sources.len(), [Arc::new(Segment::closed(parts))]);
            self.segments.store(Arc::new(kept));
            writer.dir_dirty = true;
            parked
        };
        let disk = &self.log_dir.disk;
        self.record_failure(disk.sync_dir(&self.dir).context("sync", &self.dir))?;
        for path in parked {
            self.remove_deleted(path)?;
        }
        // As in Kafka: a producer snapshot belongs to the start of a segment.
        let gone: Vec<i64> = sources.iter().skip(1).map(|source| source.base_offset).collect();
        // The folder is not renamed while this lock is held; afterwards another log may have its name.
        let _maintenance = self.lock_maintenance();
        if !self.is_closed() {
            self.log_dir.record_failure(self.remove_snapshots(|offset| gone.contains(&offset)))?;
        }
        Ok(true)
    }
}
