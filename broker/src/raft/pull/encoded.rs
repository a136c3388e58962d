//! Entries of the log as observers receive them: encoded once for all that are at the same position.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::primitives::Writer;
use esker_storage::metalog::{Entry, LogId, MetadataLog, Payload};
use parking_lot::Mutex;

use super::super::convert::from_log_id;
use super::super::types::Vote;
use super::super::wire::{RaftAppendRequest, WireError, wire_log_id, wire_stored, wire_vote};

/// Bytes of entries in one answer; a larger entry goes alone.
const ANSWER_BYTES: usize = 1 << 20;
/// Bytes of an entry beside its records.
const ENTRY_HEADER: usize = 64;
/// A larger answer is not kept: few observers are at its position.
const KEPT_BYTES: usize = 1 << 20;

/// What an answer depends on: the vote, the position, and up to where the log is committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) vote: Vote,
    pub(super) position: Option<LogId>,
    pub(super) committed: u64,
}

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct EncodedEntries(Mutex<Option<(Span, Bytes)>>);

fn size_of(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Records(records) => records.len().saturating_add(ENTRY_HEADER),
        Payload::Blank | Payload::Members(_) => ENTRY_HEADER,
    }
}

/// How many entries of these sizes go into one answer: at least one.
fn count_fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut all = 0_usize;
    let fitting = sizes.take_while(|size| {
        all = all.saturating_add(*size);
        all <= ANSWER_BYTES
    });
    fitting.count().max(1)
}

/// An AppendEntries request with `entries` behind `position`; the last of them is committed.
pub(super) fn append_request(
    vote: &Vote,
    position: Option<LogId>,
    entries: Vec<Entry>,
) -> Result<RaftAppendRequest, WireError> {
    let wire_position = |id: Option<LogId>| wire_log_id(id.map(from_log_id).as_ref());
    let committed = entries.last().map(|entry| entry.id).or(position);
    Ok(RaftAppendRequest {
        vote: wire_vote(vote),
        previous: wire_position(position),
        entries: entries.into_iter().map(wire_stored).collect::<Result<_, _>>()?,
        committed: wire_position(committed),
    })
}

impl EncodedEntries {
    /// The entries of a span, up to the bound of one answer; `None` if the log does not have the first of them any more.
    pub(super) fn encode(&self, log: &MetadataLog, span: Span) -> Result<Option<Bytes>, WireError> {
        let mut kept = self.0.lock();
        if let Some((_, bytes)) = kept.as_ref().filter(|(of, _)| *of == span) {
            return Ok(Some(bytes.clone()));
        }
        let first = span.position.map_or(0, |id| id.index.saturating_add(1));
        let mut entries = log.entries(first..span.committed);
        if span.committed > first && entries.first().is_none_or(|entry| entry.id.index != first) {
            return Ok(None);
        }
        entries.truncate(count_fitting(entries.iter().map(size_of)));
        let request = append_request(&span.vote, span.position, entries)?;
        let mut writer = Writer::new();
        request.encode(&mut writer, 0)?;
        let bytes = writer.finish().into_bytes();
        *kept = (bytes.len() <= KEPT_BYTES).then(|| (span, bytes.clone()));
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_a_larger_entry_goes_alone() {
        let half = ANSWER_BYTES / 2;
        for (sizes, sent) in [(&[64, 64][..], 2), (&[half, half, 1], 2), (&[half + 1, half], 1), (&[5 * half, 1], 1)] {
            assert_eq!(count_fitting(sizes.iter().copied()), sent, "{sizes:?}");
        }
    }
}
