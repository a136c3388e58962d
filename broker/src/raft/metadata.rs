//! What the rest of the broker sees of the metadata log.
//!
//! Everybody reads the image without a lock. Whoever wants it changed hands in a decision; one task takes the decisions in
//! turn, each over the image as the ones before it leave it, and commits those that wait together as one entry. An answer
//! is given when its records are committed and the image has them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::Decision;
use esker_core::metadata::{MetadataImage, MetadataRecord};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::machine::{Published, StateMachine};
use super::types::{LogId, Proposal, RaftId, TypeConfig};

/// Why a decision was not committed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The quorum does not answer; trying again may help.
    #[error("the metadata log cannot be written: {0}")]
    Unavailable(String),
    /// The records cannot be encoded.
    #[error("the metadata records cannot be encoded: {0}")]
    Encode(String),
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
    /// The client's time is over.
    #[error("the change is not in force in time; it may come later")]
    TimedOut,
}

/// An answer and the offset of the metadata log at which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<R> {
    /// The answer.
    pub reply: R,
    /// An image at least this new has what was decided.
    pub offset: u64,
    /// There were records.
    pub changed: bool,
}

/// A decision that waits for its turn: gives its records and what to do once they are committed.
type Work = Box<dyn FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, Finish) + Send>;
type Finish = Box<dyn FnOnce(Result<u64, SubmitError>) + Send>;

/// Decisions that may wait at once; more slow their senders down.
const QUEUE: usize = 1024;
/// Decisions that share one entry of the log.
const BATCH: usize = 256;

/// The metadata of the cluster.
#[derive(Debug)]
pub struct Metadata {
    published: Published,
    work: mpsc::Sender<Work>,
    raft: Raft<TypeConfig, StateMachine>,
}

impl Metadata {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>, published: Published) -> Self {
        let (work, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(run(raft.clone(), published.changes.clone(), inbox));
        Self { published, work, raft }
    }

    /// The image as it stands.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.published.current.load_full()
    }

    /// Every image from now on (the newest, if several come at once).
    pub fn subscribe(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.published.changes.clone()
    }

    /// Has `decide` run in its turn and its records committed; then gives its reply. At `deadline` the caller is released: a
    /// decision that is not made by then is never made, one whose records are on their way may still be committed.
    pub async fn submit<R: Send + 'static>(
        &self,
        deadline: Instant,
        decide: impl FnOnce(&MetadataImage) -> Decision<R> + Send + 'static,
    ) -> Result<Committed<R>, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |image| {
            if answer.is_closed() {
                return (Vec::new(), Box::new(|_| {}));
            }
            let decision = decide(image);
            let changed = !decision.records.is_empty();
            let finish: Finish = Box::new(move |committed| {
                // The caller may have hung up.
                let _ = answer.send(committed.map(|offset| Committed { reply: decision.reply, offset, changed }));
            });
            (decision.records, finish)
        });
        let submitted = async {
            self.work.send(work).await.map_err(|_| SubmitError::Stopping)?;
            answered.await.map_err(|_| SubmitError::Stopping)?
        };
        tokio::time::timeout_at(deadline, submitted).await.unwrap_or(Err(SubmitError::TimedOut))
    }

    /// The voters of the metadata quorum, and its term.
    pub fn quorum(&self) -> (Vec<RaftId>, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids().collect();
        (voters, metrics.current_term)
    }

    /// Waits until this node leads and all of the log before that is in the image. Decisions made earlier would be made
    /// over an image of the past.
    pub(super) async fn caught_up(&self) -> Result<(), SubmitError> {
        let leads = |metrics: &openraft::RaftMetrics<TypeConfig>| {
            let own_term = |id: &LogId| id.committed_leader_id().term == metrics.current_term;
            metrics.state == ServerState::Leader
                && metrics.last_applied.as_ref().is_some_and(own_term)
                && metrics.last_applied.as_ref().map(|id| id.index) == metrics.last_log_index
        };
        let waited = self.raft.wait(Some(PATIENCE)).metrics(leads, "to lead").await;
        waited.map(|_| ()).map_err(|error| SubmitError::Unavailable(error.to_string()))
    }

    /// Stops the quorum's tasks.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the metadata quorum did not stop cleanly");
        }
        // The next start may come in this process: nothing may write to the folder by then.
        let files = self.published.files.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || files.close()).await {
            tracing::warn!(%error, "the metadata log was not closed; a snapshot may still be written");
        }
    }
}

async fn run(
    raft: Raft<TypeConfig, StateMachine>,
    published: watch::Receiver<Arc<MetadataImage>>,
    mut inbox: mpsc::Receiver<Work>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let (records, finishes) = decide_all(MetadataImage::clone(&published.borrow()), batch.drain(..));
        let committed = commit(&raft, &published, &records).await;
        finishes.into_iter().for_each(|finish| finish(committed.clone()));
    }
}

/// Runs decisions, each over the image as the ones before it leave it: the bytes of all their records, and what to do once those are
/// committed. A decision that panics or that cannot be written fails alone.
fn decide_all(mut image: MetadataImage, batch: impl Iterator<Item = Work>) -> (Vec<u8>, Vec<Finish>) {
    let (mut records, mut finishes) = (Vec::new(), Vec::new());
    for work in batch {
        let Ok((decided, finish)) = catch_unwind(AssertUnwindSafe(|| work(&image))) else { continue };
        match MetadataRecord::encode_all(&decided, image.level()) {
            Ok(bytes) => {
                records.extend_from_slice(&bytes);
                decided.iter().for_each(|record| image.apply(record));
                finishes.push(finish);
            }
            Err(error) => finish(Err(SubmitError::Encode(error.to_string()))),
        }
    }
    (records, finishes)
}

async fn commit(
    raft: &Raft<TypeConfig, StateMachine>,
    published: &watch::Receiver<Arc<MetadataImage>>,
    records: &[u8],
) -> Result<u64, SubmitError> {
    if records.is_empty() {
        return Ok(published.borrow().offset());
    }
    write(raft, Proposal::new(records)).await
}

/// How long an election may take before a write gives up. A write that openraft has accepted is waited for to its end, also when
/// the disk hangs: until its outcome is known no later decision may be made. Callers have deadlines of their own.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(1);

/// Commits one entry: the answer is the offset behind it. A leader whose lease is not confirmed yet refuses for a moment.
pub(super) async fn write(raft: &Raft<TypeConfig, StateMachine>, proposal: Proposal) -> Result<u64, SubmitError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match raft.client_write(proposal.clone()).await {
            Ok(written) => return Ok(written.log_id.index + 1),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(SubmitError::Unavailable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_core::metadata::TopicRecord;

    use super::*;

    #[test]
    fn a_decision_that_cannot_be_written_fails_alone() {
        let (told, outcomes) = std::sync::mpsc::channel();
        let work = |record: MetadataRecord| -> Work {
            let told = told.clone();
            Box::new(move |_| {
                let finish: Finish = Box::new(move |committed| drop(told.send(committed)));
                (vec![record], finish)
            })
        };
        let topic = || MetadataRecord::Topic(TopicRecord { name: "t".into(), ..TopicRecord::default() });
        // Without a level a log holds nothing else.
        let batch = [topic(), MetadataRecord::newest_level(), topic()].map(work);
        let (records, finishes) = decide_all(MetadataImage::default(), batch.into_iter());
        assert_eq!(finishes.len(), 2);
        let refused = outcomes.try_recv().unwrap().unwrap_err();
        assert!(refused.to_string().contains("needs record level 1"), "{refused}");
        assert!(outcomes.try_recv().is_err(), "the others wait for the commit");
        let written = MetadataRecord::decode_all(records.into()).unwrap();
        assert_eq!(written, [MetadataRecord::newest_level(), topic()]);
    }
}
