//! Compares an opened log with the model: content, lookups, producers, epochs, transactions.

use esker_protocol::records::Batches;
use esker_storage::{Log, Uuid};

use crate::model::{Batch, Part};

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

/// The state that is required of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Exactly the log of the model: no crash happened.
    Exact,
    /// A state that a crash may leave.
    AfterCrash,
}

/// Every batch from the log start to the end, read in pieces of `max_bytes`: (base, last, bytes).
pub fn scan(log: &Log, max_bytes: usize) -> Result<Vec<(i64, i64, bytes::Bytes)>, String> {
    let mut found: Vec<(i64, i64, bytes::Bytes)> = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let info = log.read(from, max_bytes, i64::MAX, true).map_err(|error| format!("read at {from}: {error}"))?;
        if info.records.is_empty() {
            ensure!(from == log.log_end_offset(), "nothing at {from}, the end is {}", log.log_end_offset());
            return Ok(found);
        }
        ensure!(info.next_offset > from, "read at {from} goes on at {}", info.next_offset);
        let mut batches = Batches::new(info.records.clone());
        for batch in &mut batches {
            let batch = batch.map_err(|error| format!("read at {from}: {error}"))?;
            batch.verify_crc().map_err(|error| format!("read at {from}: {error}"))?;
            let (base, last) = (batch.header.base_offset, batch.header.last_offset());
            ensure!(last >= from, "read at {from} gave {base}..={last}");
            ensure!(found.last().is_none_or(|(_, before, _)| base > *before), "{base} comes twice or too late");
            found.push((base, last, batch.bytes));
            from = last + 1;
        }
        ensure!(batches.rest().is_empty(), "a read ends inside a batch");
        ensure!(from == info.next_offset, "next offset {} after {from}", info.next_offset);
    }
}

/// Everything that must hold of `log` if `part` was acknowledged.
pub fn check(log: &Log, part: &Part, claim: Claim) -> Result<(), String> {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let exact = claim == Claim::Exact;
    let found = scan(log, 900)?;
    let other = if exact || part.unacknowledged.is_empty() { None } else { part.with_unacknowledged(&found) };
    let part = other.as_ref().unwrap_or(part);
    let named = part.flushed > 0;
    let unknown = !named && log.topic_id() == Uuid([0; 16]);
    ensure!(log.topic_id() == part.topic_id || unknown, "another topic id");
    if part.anew && !exact && start == end {
        return Ok(());
    }
    ensure!(!exact || (start, end) == (part.start, part.end), "{start}..{end}, not {}..{}", part.start, part.end);
    ensure!(end >= part.flushed, "ends at {end}, but {} was flushed", part.flushed);
    ensure!(end <= part.end, "ends at {end}, but only {} was appended", part.end);
    ensure!(start <= part.start, "starts at {start}, not {}", part.start);
    ensure!(start >= part.start_floor, "starts at {start}, the checkpoint says {}", part.start_floor);
    ensure!(start <= end, "starts at {start}, behind its end {end}");
    ensure!(log.recovery_point() <= end, "recovery point {} behind the end {end}", log.recovery_point());
    let high_watermark = log.high_watermark();
    ensure!((start..=end).contains(&high_watermark), "high watermark {high_watermark} outside {start}..={end}");
    ensure!(high_watermark <= part.high_watermark.max(start), "high watermark {high_watermark} that was never set");

    let expected: Vec<&Batch> = part.history.iter().map(AsRef::as_ref).collect();
    // An empty log may begin inside of a batch that is lost: where a checkpoint has its start.
    let holds = |b: &&Batch| b.last >= start && b.base < end && start < end;
    let expected: Vec<&Batch> = expected.into_iter().filter(holds).collect();
    let mut at = 0;
    for (base, last, bytes) in &found {
        // Records below the acknowledged log start may be deleted.
        while expected.get(at).is_some_and(|batch| batch.base < *base && batch.last < part.start) {
            at += 1;
        }
        let batch = expected.get(at).ok_or_else(|| format!("{base}..={last} was never appended"))?;
        ensure!(batch.base == *base, "{base} follows, {} should", batch.base);
        ensure!(batch.bytes == *bytes, "{base}..={last} are other bytes than were appended");
        at += 1;
    }
    let missing = expected.get(at..).unwrap_or_default().iter().find(|batch| batch.last >= part.start);
    ensure!(missing.is_none(), "{} is missing, the end is {end}", missing.unwrap().base);
    ensure!(found.last().is_none_or(|(_, last, _)| last + 1 == end), "the last batch does not reach the end {end}");

    let present: Vec<&Batch> =
        expected.into_iter().filter(|batch| found.iter().any(|(base, ..)| *base == batch.base)).collect();
    offsets(log, &present, start)?;
    times(log, &present, start)?;
    epochs(log, &present, part.start.max(start), end)?;
    producers(log, part, start, end)
}

/// Checks the lookup of every offset.
fn offsets(log: &Log, present: &[&Batch], start: i64) -> Result<(), String> {
    for batch in present {
        for offset in batch.base.max(start)..=batch.last {
            let info = log.read(offset, 1, i64::MAX, true).map_err(|error| format!("read at {offset}: {error}"))?;
            ensure!(info.records == batch.bytes, "offset {offset} leads to {}", info.first_offset);
        }
    }
    Ok(())
}

/// Checks that the lookup of every timestamp finds the same as a scan.
fn times(log: &Log, present: &[&Batch], start: i64) -> Result<(), String> {
    let records: Vec<(i64, i64, i32)> = present
        .iter()
        .flat_map(|batch| batch.records().map(|(offset, time)| (offset, time, batch.epoch)))
        .filter(|(offset, ..)| *offset >= start)
        .collect();
    let mut wanted: Vec<i64> = records.iter().flat_map(|(_, time, _)| [*time, time + 1]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let row = |found: esker_storage::TimestampOffset| (found.offset, found.timestamp, found.leader_epoch);
    for time in wanted {
        let expected = records.iter().find(|(_, found, _)| *found >= time).copied();
        let found = log.offset_for_timestamp(time).map_err(|error| format!("time {time}: {error}"))?.map(row);
        ensure!(found == expected, "time {time} leads to {found:?}, a scan to {expected:?}");
    }
    let largest = records.iter().map(|(_, time, _)| *time).max();
    let expected = largest.and_then(|largest| records.iter().find(|(_, time, _)| *time == largest).copied());
    let found = log.max_timestamp_offset().map_err(|error| format!("largest time: {error}"))?.map(row);
    ensure!(found == expected, "largest time {found:?}, by a scan {expected:?}");
    Ok(())
}

/// After the log start moved, the epochs below are removed, even if a crash restores some records.
fn epochs(log: &Log, present: &[&Batch], start: i64, end: i64) -> Result<(), String> {
    for batch in present.iter().filter(|batch| batch.last >= start) {
        for offset in [batch.base.max(start), batch.last] {
            let found = log.epoch_at(offset);
            ensure!(found == Some(batch.epoch), "offset {offset} has epoch {found:?}, not {}", batch.epoch);
        }
        let next = present.iter().find(|later| later.epoch > batch.epoch).map_or(end, |later| later.base);
        let found = log.epoch_end_offset(batch.epoch);
        let expected = (batch.epoch, next);
        ensure!((found.leader_epoch, found.end_offset) == expected, "epoch end {found:?}, not {expected:?}");
    }
    Ok(())
}

fn producers(log: &Log, part: &Part, start: i64, end: i64) -> Result<(), String> {
    let (producers, aborted) = part.replay(end);
    let found = log.producers();
    for (id, expected) in &producers {
        let Some(found) = found.iter().find(|found| found.producer_id == *id) else {
            // Its batches may all have gone, and a snapshot is no promise.
            ensure!(expected.last_base < start, "producer {id} is forgotten");
            continue;
        };
        // If only a marker is left, the earlier sequences may be unknown.
        let sequence = if expected.last_data < start { found.last_sequence } else { expected.last_sequence };
        let state = (found.last_sequence, found.coordinator_epoch, found.last_timestamp);
        let wanted = (sequence, expected.coordinator_epoch, expected.last_timestamp);
        ensure!(state == wanted || expected.last_base < start, "producer {id}: {state:?}, not {wanted:?}");
        let transaction = expected.transaction.unwrap_or(-1);
        let lost = (0..start).contains(&transaction);
        ensure!(
            found.current_txn_start_offset == transaction || lost,
            "producer {id}: transaction since {}, not {transaction}",
            found.current_txn_start_offset
        );
    }
    let stranger = found.iter().find(|found| !producers.contains_key(&found.producer_id));
    ensure!(stranger.is_none(), "producer {stranger:?} out of nowhere");
    if start == end {
        return Ok(());
    }
    let found = log.aborted_transactions(start, end).map_err(|error| error.to_string())?;
    let mut found: Vec<(i64, i64)> = found.iter().map(|found| (found.producer_id, found.first_offset)).collect();
    let (whole, partial): (Vec<_>, Vec<_>) =
        aborted.iter().filter(|(_, _, last)| *last >= start).partition(|(_, first, _)| *first >= start);
    // The beginning of a transaction that began below the current or an earlier log start may be unknown.
    found.retain(|(id, first)| {
        !partial.iter().any(|(other, from, last)| other == id && (*from..*last).contains(first))
            || whole.iter().any(|(other, from, _)| other == id && from == first)
    });
    let mut expected: Vec<(i64, i64)> = whole.iter().map(|(id, first, _)| (*id, *first)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    ensure!(found == expected, "aborted transactions {found:?}, not {expected:?}");
    Ok(())
}
