//! openraft's log store, over the metadata log's file. An entry can be read as soon as `append` returns; openraft learns through
//! the callback when it is durable.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use esker_storage::metalog::{Done, MetadataLog, Payload};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::convert::{from_entry, from_log_id, from_vote, to_entry, to_log_id, to_vote};
use super::types::{Entry, LogId, TypeConfig, Vote};

/// The log store; clones share one log.
#[derive(Debug, Clone)]
pub struct LogStore(pub(super) Arc<MetadataLog>);

/// Bytes of entries that are sent to another controller at once; a larger entry goes alone.
const SEND_BYTES: usize = 8 << 20;
/// Bytes of an entry beside its records.
const ENTRY_HEADER: usize = 64;

/// How many entries of these sizes are sent at once: at least one.
fn count_sent(sizes: impl Iterator<Item = usize>) -> usize {
    let mut all = 0_usize;
    let fitting = sizes.take_while(|size| {
        all = all.saturating_add(*size);
        all <= SEND_BYTES
    });
    fitting.count().max(1)
}

/// Hands a change to the log and waits until it is durable.
async fn durable(change: impl FnOnce(Done)) -> Result<(), io::Error> {
    let (sender, written) = oneshot::channel();
    change(Box::new(move |result| {
        // The waiting call may have been dropped.
        let _ = sender.send(result);
    }));
    written.await.map_err(io::Error::other)?
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.0.entries(range).into_iter().map(from_entry).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.0.entries(start..end);
        let sent = count_sent(entries.iter().map(|entry| match &entry.payload {
            Payload::Records(records) => records.len() + ENTRY_HEADER,
            Payload::Blank | Payload::Members(_) => ENTRY_HEADER,
        }));
        entries.truncate(sent);
        entries.into_iter().map(from_entry).collect()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.vote().map(from_vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.0.purged().map(from_log_id),
            last_log_id: self.0.last_id().map(from_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        durable(|done| self.0.save_vote(to_vote(vote), done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.save_committed(committed.as_ref().map(to_log_id))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.committed().map(from_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_entry).collect();
        self.0.append(entries, Box::new(move |written| callback.io_completed(written)))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        durable(|done| self.0.truncate_after(last.as_ref().map(to_log_id), done)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        durable(|done| self.0.purge(to_log_id(&upto), done)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sent_up_to_a_bound_and_a_larger_one_alone() {
        let half = SEND_BYTES / 2;
        for (sizes, sent) in
            [(&[64, 64, 64][..], 3), (&[half, half, 1], 2), (&[half + 1, half, 1], 1), (&[10 * SEND_BYTES, 1], 1)]
        {
            assert_eq!(count_sent(sizes.iter().copied()), sent, "{sizes:?}");
        }
    }
}
