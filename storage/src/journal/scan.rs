//! Reading the journal's files after a crash: what was acknowledged through them, by partition.
//!
//! A round that was being written when the power went may be there in part: no producer was answered, and it is the end. A round that
//! others follow was on disk before they began, so what is wrong in it is damage, which is reported and never taken for the end.
//!
//! Must never: believe an entry whose checksum, generation or sequence number does not fit.

use std::collections::HashMap;

use bytes::Bytes;

use super::format::{ENTRY_HEADER, EntryHeader, FileHeader, Kind, PAGE, ROUND_HEADER, RoundHeader, align};
use crate::{Uuid, walk};

/// Topic id and partition: a log of one log dir.
pub(crate) type Key = (Uuid, i32);

/// Bytes of a segment that were acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub header: EntryHeader,
    /// The batches; empty for other kinds.
    pub bytes: Bytes,
}

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub entries: Vec<Entry>,
    /// The sequence number that goes on after it.
    pub next_sequence: u64,
    /// Where something is wrong that was on disk once.
    pub damage: Vec<u64>,
    /// The last round, from where to where: its sync may not have returned.
    pub last: Option<(u64, u64)>,
}

/// Reads a file from its first round on. `follows`: the sequence number that a later file begins with.
pub(super) fn scan(file: &Bytes, header: &FileHeader, follows: Option<u64>) -> Scan {
    let mut scan = Scan { next_sequence: header.sequence, ..Scan::default() };
    let mut position = PAGE;
    loop {
        let Some(round) = round_at(file, header.generation, position) else {
            // Nothing, or damage with rounds behind it.
            let Some(later) = later_round(file, header.generation, position, scan.next_sequence) else { break };
            scan.damage.push(position);
            position = later;
            continue;
        };
        if round.sequence < scan.next_sequence {
            break;
        }
        if round.sequence > scan.next_sequence {
            scan.damage.push(position);
        }
        let next = align(position.saturating_add(round.bytes));
        let next_sequence = round.sequence.saturating_add(u64::from(round.entries));
        let before = scan.entries.len();
        if let Err(bad) = read_round(file, header.generation, position, &round, &mut scan.entries) {
            let was_complete = follows.is_some_and(|follows| follows >= next_sequence)
                || later_round(file, header.generation, next, next_sequence).is_some();
            if !was_complete {
                // What is there of it is not on disk for certain. The next file has its sequence numbers again.
                scan.entries.truncate(before);
                break;
            }
            scan.damage.push(bad);
        }
        scan.next_sequence = next_sequence;
        scan.last = Some((position, next));
        position = next;
    }
    if follows.is_some_and(|follows| follows > scan.next_sequence) {
        scan.damage.push(position);
    }
    scan
}

/// The newest generation of all rounds that lie in a file whose header says nothing.
pub(super) fn newest_generation(file: &Bytes) -> u64 {
    let rounds = (PAGE..file.len() as u64).step_by(PAGE as usize);
    let rounds = rounds.filter_map(|position| RoundHeader::decode(at(file, position)?, position));
    rounds.map(|round| round.generation).max().unwrap_or_default()
}

fn at(file: &Bytes, position: u64) -> Option<&[u8]> {
    file.get(usize::try_from(position).ok()?..)
}

fn round_at(file: &Bytes, generation: u64, position: u64) -> Option<RoundHeader> {
    let round = RoundHeader::decode(at(file, position)?, position)?;
    (round.generation == generation && round.bytes >= ROUND_HEADER as u64).then_some(round)
}

/// Position of the first round from `position` on whose sequence number is not below `sequence`.
fn later_round(file: &Bytes, generation: u64, position: u64, sequence: u64) -> Option<u64> {
    (align(position)..file.len() as u64)
        .step_by(PAGE as usize)
        .find(|at| round_at(file, generation, *at).is_some_and(|round| round.sequence >= sequence))
}

/// Appends a round's entries; an error is the position of the first that is not sound.
fn read_round(
    file: &Bytes,
    generation: u64,
    position: u64,
    round: &RoundHeader,
    entries: &mut Vec<Entry>,
) -> Result<(), u64> {
    let mut at_entry = position.saturating_add(ROUND_HEADER as u64);
    for index in 0..u64::from(round.entries) {
        let sequence = round.sequence.saturating_add(index);
        let header = at(file, at_entry).and_then(|bytes| EntryHeader::decode(bytes, generation, sequence));
        let header = header.ok_or(at_entry)?;
        let from = at_entry.saturating_add(ENTRY_HEADER as u64);
        let end = from.saturating_add(u64::from(header.bytes));
        let range = usize::try_from(from).ok().zip(usize::try_from(end).ok());
        let range = range.filter(|(_, end)| *end <= file.len()).ok_or(at_entry)?;
        let bytes = file.slice(range.0..range.1);
        if crc32c::crc32c(&bytes) != header.crc {
            return Err(at_entry);
        }
        entries.push(Entry { header, bytes });
        at_entry = end;
    }
    Ok(())
}

impl Entry {
    /// Drops the batches that end above `offset`.
    fn cut(&mut self, offset: i64) {
        let (mut size, mut next) = (0, self.header.first_offset);
        while let Ok(batch) = walk::step(self.bytes.get(size..).unwrap_or_default())
            && batch.last_offset < offset
        {
            (size, next) = (size.saturating_add(batch.size), batch.last_offset.saturating_add(1));
        }
        self.bytes.truncate(size);
        self.header.bytes = u32::try_from(size).unwrap_or(u32::MAX);
        self.header.next_offset = next;
    }
}

/// What of the entries, in the order of their sequence numbers, is still to be found in each log: voids and syncs are carried out.
pub(super) fn live(entries: impl IntoIterator<Item = Entry>) -> HashMap<Key, Vec<Entry>> {
    let mut logs: HashMap<Key, Vec<Entry>> = HashMap::new();
    for entry in entries {
        let header = entry.header;
        let log = logs.entry((header.topic_id, header.partition)).or_default();
        match header.kind {
            Kind::Data => log.push(entry),
            Kind::Synced => log.retain(|earlier| earlier.header.next_offset > header.first_offset),
            Kind::Void => {
                log.retain(|earlier| earlier.header.first_offset < header.first_offset);
                for earlier in log.iter_mut().filter(|earlier| earlier.header.next_offset > header.first_offset) {
                    earlier.cut(header.first_offset);
                }
                log.retain(|earlier| earlier.header.bytes > 0);
            }
        }
    }
    logs.retain(|_, entries| !entries.is_empty());
    logs
}
