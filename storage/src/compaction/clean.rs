//! One compaction of one log: the offset map of its dirty part, then new segments from there back to its start.
//!
//! Runs beside appends, reads and retention: it takes the writer's lock only for the swap of a finished segment, and gives up if
//! one of the source segments is no longer in the log.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use esker_protocol::records::Batch;
use thiserror::Error;

use super::{
    filter::{Filter, MAX_DECOMPRESSED, Outcome, committed},
    offset_map::OffsetMap,
    output::Output,
    plan::{Plan, SegmentFacts, groups},
    progress::Progress,
    stats::CleanStats,
    transactions::Transactions,
};
use crate::{
    Env, Log, LogError, ReadError,
    error::FileError,
    index::AbortedTxn,
    segment::Segment,
    throttle::Throttle,
    walk::{self, Step},
};

/// Why a compaction ended early. What it has swapped in stays.
#[derive(Debug, Error)]
pub(super) enum CleanError {
    /// The broker stops, or the log was closed.
    #[error("the compaction was stopped")]
    Stopped,
    /// Retention or a truncation changed the segments first.
    #[error("the log's segments changed meanwhile")]
    Changed,
    /// What is stored cannot be understood.
    #[error("segment {segment}, position {position}: {what}")]
    Corrupt { segment: i64, position: usize, what: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a compaction may use.
pub(super) struct Run<'a> {
    pub now_ms: i64,
    /// Bytes for the offset map.
    pub memory: usize,
    pub env: &'a dyn Env,
    pub throttle: &'a Throttle,
    pub stop: &'a AtomicBool,
    pub progress: &'a Progress,
}

/// Cleans `log` as far as memory reaches; moves its checkpoint.
pub(super) fn clean_log(log: &Log, plan: &Plan, run: &Run<'_>) -> Result<CleanStats, CleanError> {
    // Only flushed segments are replaced: the new files are then never less durable than the old.
    let truncations = log.truncations();
    log.flush_closed_for_good()?;
    let segments = log.segments();
    let closed = segments.get(..segments.len().saturating_sub(1)).unwrap_or_default();
    let stable = log.high_watermark();
    let first = closed.first().map_or(0, |segment| segment.base_offset);
    let aborted: Vec<AbortedTxn> = segments.iter().flat_map(|segment| segment.transactions.entries()).collect();
    let aborted_from = |offset: i64| {
        let within = aborted.iter().filter(|txn| txn.last_offset >= offset && txn.last_offset < stable);
        Transactions::new(within.copied().collect())
    };
    let dirty = plan.first_uncleanable.saturating_sub(plan.first_dirty);
    let mut map = OffsetMap::new(run.memory, usize::try_from(dirty).unwrap_or_default());
    run.progress.expect(plan.dirty_bytes);
    let end = fill_map(&mut map, closed, plan, aborted_from(plan.first_dirty), run)
        .map_err(|e| classify_failure(log, closed, e))?;
    let producers = log.last_data_offsets();
    let config = log.config();
    let sources: Vec<Arc<Segment>> = closed.iter().filter(|segment| segment.base_offset < end).cloned().collect();
    run.progress.expect(sources.iter().map(|segment| segment.size()).sum());
    let mut filter = Filter {
        map: &map,
        end,
        now_ms: run.now_ms,
        delete_retention_ms: config.delete_retention_ms,
        producers: &producers,
        transactions: aborted_from(first),
        stats: CleanStats {
            map_entries: map.len() as u64,
            map_percent: map.percent_of(run.memory),
            ..CleanStats::default()
        },
    };
    let facts: Vec<SegmentFacts> = sources.iter().map(|segment| log.segment_facts(segment)).collect();
    let index_bytes: Vec<u64> = sources
        .iter()
        .map(|segment| {
            let view = segment.view()?;
            Ok(view.offsets()?.file_size().max(view.times()?.file_size()))
        })
        .collect::<Result<_, FileError>>()
        .map_err(|error| classify_failure(log, &sources, error.into()))?;
    let index_of = |at: usize| index_bytes.get(at).copied().unwrap_or_default();
    let limits = (u64::from(config.segment_bytes), u64::from(config.segment_index_bytes));
    for group in groups(&facts, index_of, limits.0, limits.1) {
        let group = sources.get(group).unwrap_or_default();
        clean_group(log, group, &mut filter, run).map_err(|error| classify_failure(log, group, error))?;
    }
    log.advance_cleaned_offset(truncations, end);
    Ok(filter.stats)
}

/// A failure on segments that retention or a truncation has removed meanwhile says nothing about the log.
fn classify_failure(log: &Log, segments: &[Arc<Segment>], error: CleanError) -> CleanError {
    if log.has_dropped(segments) { CleanError::Changed } else { error }
}

/// Bytes that are loaded into the page cache at once.
const LOAD_STEP: u64 = 1 << 20;

/// Calls `each` for every batch of a segment from `from` on.
fn for_each_batch(
    segment: &Segment,
    from: i64,
    run: &Run<'_>,
    mut each: impl FnMut(usize, &Step, Option<Batch>) -> Result<ControlFlow<()>, CleanError>,
) -> Result<(), CleanError> {
    if segment.size() == 0 {
        return Ok(());
    }
    let view = segment.view()?;
    let Some((start, _)) = view.find(from)? else { return Ok(()) };
    let corrupt = |position: usize, what: String| CleanError::Corrupt { segment: segment.base_offset, position, what };
    // Without this load the touch of each page would be a disk read of its own. Loads also go through the admission control of cold
    // reads.
    let mut there = start as u64;
    let mut load_pages = |end: u64| match end.checked_sub(there) {
        Some(missing) if missing > 0 => {
            let len = missing.max(LOAD_STEP);
            let result = view.load_pages(there, len);
            there += len;
            result
        }
        _ => Ok(()),
    };
    load_pages(start as u64 + walk::STEP_BYTES as u64)?;
    for step in view.steps(start as u64)? {
        let (position, step) = step.map_err(|(position, error)| corrupt(position, error.what().to_owned()))?;
        // With the header behind it, which the next step reads.
        load_pages((position as u64).saturating_add(step.size as u64).saturating_add(walk::STEP_BYTES as u64))?;
        if run.stop.load(Ordering::Acquire) {
            return Err(CleanError::Stopped);
        }
        run.throttle.acquire(run.env, step.size as u64, run.stop);
        // Messages of the formats before magic 2 stay as they are.
        let batch = match step.magic {
            2 => Some(Batch::parse(view.slice(position, step.size)?)),
            _ => None,
        };
        let batch = batch.transpose().map_err(|error| corrupt(position, error.to_string()))?;
        let records = batch.as_ref().map_or(1, |(batch, _)| batch.header.records_count.max(0).cast_unsigned());
        run.progress.read(step.size as u64, u64::from(records));
        if each(position, &step, batch.map(|(batch, _)| batch))?.is_break() {
            break;
        }
    }
    // Behind that position the map had zeros, which may have been copied.
    match view.lost_from() {
        Some(lost_from) => Err(corrupt(lost_from, "its file was cut short or cannot be read".to_owned())),
        None => Ok(()),
    }
}

/// Fills the map from the dirty part; returns the offset up to which it knows all keys.
fn fill_map(
    map: &mut OffsetMap,
    closed: &[Arc<Segment>],
    plan: &Plan,
    mut transactions: Transactions,
    run: &Run<'_>,
) -> Result<i64, CleanError> {
    let mut end = plan.first_uncleanable;
    for segment in closed.iter().filter(|segment| segment.next_offset() > plan.first_dirty) {
        if segment.base_offset >= end {
            break;
        }
        for_each_batch(segment, plan.first_dirty.max(segment.base_offset), run, |position, step, batch| {
            let Some(batch) = batch else { return Ok(ControlFlow::Continue(())) };
            if step.base_offset >= end {
                return Ok(ControlFlow::Break(()));
            }
            let corrupt = |what: String| CleanError::Corrupt { segment: segment.base_offset, position, what };
            if !step.control && transactions.on_data(&batch.header) {
                return Ok(ControlFlow::Continue(()));
            }
            let records = batch.records(MAX_DECOMPRESSED).map_err(|error| corrupt(error.to_string()))?;
            let records = records.collect::<Result<Vec<_>, _>>().map_err(|error| corrupt(error.to_string()))?;
            if step.control {
                transactions.on_control(&batch.header, committed(&records), records.is_empty());
                return Ok(ControlFlow::Continue(()));
            }
            for record in records.iter().filter(|record| record.offset >= plan.first_dirty) {
                if record.offset >= end {
                    break;
                }
                if let Some(key) = &record.key
                    && !map.insert_key(key, record.offset)
                {
                    end = record.offset;
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        segment.release();
    }
    Ok(end)
}

/// Merges adjacent segments into one, and replaces them if the result differs.
fn clean_group(log: &Log, sources: &[Arc<Segment>], filter: &mut Filter<'_>, run: &Run<'_>) -> Result<(), CleanError> {
    let Some(first) = sources.first() else { return Ok(()) };
    let disk = Arc::clone(&log.home().disk);
    let interval = log.config().index_interval_bytes;
    let mut output = Output::create(disk, log.dir().to_path_buf(), first.base_offset, interval)?;
    let last = sources.iter().rposition(|segment| segment.size() > 0);
    let mut changed = sources.len() > 1;
    for (at, segment) in sources.iter().enumerate() {
        let view = segment.view()?;
        for_each_batch(segment, segment.base_offset, run, |position, step, batch| {
            let ends = Some(at) == last && (position as u64).saturating_add(step.size as u64) >= segment.size();
            let outcome = match &batch {
                Some(batch) => filter.filter_batch(batch, ends),
                None => Ok(Outcome::Keep),
            };
            let corrupt = |what: String| CleanError::Corrupt { segment: segment.base_offset, position, what };
            let written = match outcome.map_err(|error| corrupt(error.to_string()))? {
                Outcome::Keep => output.append_batch(step, &view.slice(position, step.size)?)?,
                Outcome::Rewritten(bytes) => {
                    changed = true;
                    let step = walk::step(&bytes).map_err(|error| corrupt(error.what().to_owned()))?;
                    output.append_batch(&step, &bytes)?
                }
                Outcome::Gone => {
                    changed = true;
                    0
                }
            };
            run.throttle.acquire(run.env, written, run.stop);
            Ok(ControlFlow::Continue(()))
        })?;
        filter.stats.bytes_read += segment.size();
    }
    let mut aborted = filter.transactions.take_kept();
    let entries = sources.iter().flat_map(|segment| segment.transactions.entries());
    aborted.extend(entries.filter(|txn| txn.last_offset >= filter.end));
    filter.stats.bytes_written += output.size();
    if !changed {
        return Ok(());
    }
    let modified_ms = sources.last().and_then(|last| last.file_once().ok()?.modified_ms().ok());
    let transactions = output.finish(aborted, modified_ms)?;
    if !log.replace_segments(sources, output.size(), transactions)? {
        return Err(CleanError::Changed);
    }
    output.mark_installed();
    sources.iter().for_each(|segment| segment.release());
    Ok(())
}

/// By producer: offset of the last record of its last data batch, `None` if none is known, and its epoch.
pub(crate) type LastOffsets = HashMap<i64, (Option<i64>, i16)>;
