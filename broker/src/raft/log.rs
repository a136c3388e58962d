//! openraft's log store, over the metadata log's file. An entry can be read as soon as `append` returns; openraft learns through
//! the callback when it is durable.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use esker_storage::metalog::{Done, MetadataLog};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::convert::{from_entry, from_log_id, from_vote, to_entry, to_log_id, to_vote};
use super::types::{Entry, LogId, TypeConfig, Vote};

/// The log store; clones share one log.
#[derive(Debug, Clone)]
pub struct LogStore(pub(super) Arc<MetadataLog>);

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
