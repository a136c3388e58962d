//! What the rest of the broker sees of the metadata log.
//!
//! The image is read without a lock. A change is a request: one task decides the requests in turn, each over the image as the ones
//! before it leave it, and commits those that wait together as one entry, bounded in bytes. An answer is given when its records are
//! committed and the image has them. An entry says on which image and in which term it was decided; where another entry came in
//! between, the state machine refuses it on every node alike, and the requests are decided again. What changes nothing (a refusal, an
//! answer that only reads) is given when a majority has confirmed that this node leads, over the image that it then has.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use esker_core::controller::{Decision, Reply, Request, decide};
use esker_core::health::{ElectionCounts, count_elections};
use esker_core::metadata::{MetadataImage, MetadataRecord};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::{Raft, ServerState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::commit::{RAFT_TIMEOUT, commit, confirm};
use super::machine::{Published, StateMachine};
use super::pull::{ObserverStatus, PullServer};
use super::quorum::{Leadership, Observed, QuorumView, follow_quorum};
use super::server::RaftServer;
use super::types::{LogId, RaftId, TypeConfig};
use crate::controller::{Committed, ControllerClient, SubmitError};
use crate::node::Node;
use crate::telemetry::QuorumMetrics;

/// Decides over an image; once more where the image has changed before the commit.
type Decide = Box<dyn Fn(&MetadataImage) -> Decision<Reply> + Send>;

/// A request in the queue.
struct Work {
    decide: Decide,
    /// When it came into the queue.
    queued: Instant,
    answer: oneshot::Sender<Result<Committed<Reply>, SubmitError>>,
}

/// A request that is decided, and whose records are on their way.
struct Decided {
    work: Work,
    reply: Reply,
    changed: bool,
}

/// Requests that are decided together.
#[derive(Default)]
struct Batch {
    records: Vec<u8>,
    decided: Vec<Decided>,
    elections: ElectionCounts,
}

/// Requests that may wait at once; more slow their senders down.
const QUEUE: usize = 1024;
/// Requests that share one entry of the log.
const BATCH: usize = 256;
/// Bytes of records past which an entry takes no further request. One request's records stay together.
const BATCH_BYTES: usize = 1 << 20;

/// The metadata of the cluster.
#[derive(Debug)]
pub struct Metadata {
    published: Published,
    work: mpsc::Sender<Work>,
    raft: Raft<TypeConfig, StateMachine>,
    quorum: watch::Receiver<QuorumView>,
    /// How often the leader changed, as this node saw it.
    leader_changes: Arc<AtomicU64>,
    metrics: Arc<QuorumMetrics>,
    server: Arc<RaftServer>,
    node: Node,
}

impl Metadata {
    pub(super) fn new(node: Node, id: RaftId, raft: Raft<TypeConfig, StateMachine>, published: Published) -> Self {
        let (work, inbox) = mpsc::channel(QUEUE);
        let metrics = Arc::clone(&published.metrics);
        node.spawn_control(run(raft.clone(), published.clone(), inbox));
        let (views, quorum) = watch::channel(QuorumView::default());
        let (leadership, led_by) = watch::channel(Leadership::unknown());
        let leader_changes = Arc::<AtomicU64>::default();
        let (counted, metrics_of) = (Arc::clone(&leader_changes), Arc::clone(&metrics));
        let observed = Observed { views, leadership, leader_changes: counted, metrics: metrics_of };
        node.spawn_control(follow_quorum(raft.clone(), id, observed));
        let pulls = PullServer::start(&node, id, &raft, &published, (quorum.clone(), led_by));
        let server = RaftServer::new(&node, raft.clone(), published.files.clone(), pulls);
        Self { published, work, raft, quorum, leader_changes, metrics, server, node }
    }

    /// What other controllers ask of this one.
    pub fn server(&self) -> &Arc<RaftServer> {
        &self.server
    }

    /// The brokers that pull the log from this node, while it leads.
    pub fn observers(&self) -> Vec<ObserverStatus> {
        self.server.pulls().observers()
    }

    /// Which node leads the quorum and which nodes are in it, as it changes.
    pub fn quorum(&self) -> watch::Receiver<QuorumView> {
        self.quorum.clone()
    }

    pub(super) fn leader_changes(&self) -> &AtomicU64 {
        &self.leader_changes
    }

    /// What the quorum and the controller count.
    pub fn metrics(&self) -> &Arc<QuorumMetrics> {
        &self.metrics
    }

    /// The members of the quorum can be changed here while this node leads.
    pub(super) fn raft(&self) -> &Raft<TypeConfig, StateMachine> {
        &self.raft
    }

    /// The current image.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.published.current.load_full()
    }

    /// Every image from now on (the newest, if several come at once).
    pub fn subscribe(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.published.changes.clone()
    }

    /// As [`ControllerClient::submit`], with any decision. A request that comes after its deadline is not decided: `timeout_at` alone
    /// would still send it, and an answer that is there at once would count.
    async fn submit_decision(&self, decide: Decide, deadline: Instant) -> Result<Committed<Reply>, SubmitError> {
        if deadline <= Instant::now() {
            self.metrics.record_timed_out();
            return Err(SubmitError::TimedOut);
        }
        let (answer, answered) = oneshot::channel();
        let submitted = async {
            self.work.send(Work { decide, queued: Instant::now(), answer }).await.map_err(|_| SubmitError::Stopping)?;
            answered.await.map_err(|_| SubmitError::Stopping)?
        };
        tokio::time::timeout_at(deadline, submitted).await.unwrap_or_else(|_| {
            self.metrics.record_timed_out();
            Err(SubmitError::TimedOut)
        })
    }

    /// For tests: submits a decision that no request leads to.
    #[cfg(test)]
    pub(super) async fn submit_records(
        &self,
        deadline: Instant,
        decide: impl Fn(&MetadataImage) -> Vec<MetadataRecord> + Send + 'static,
    ) -> Result<Committed<Reply>, SubmitError> {
        let decide = move |image: &_| Decision { records: decide(image), reply: Reply::InitializeFeatures(()) };
        self.submit_decision(Box::new(decide), deadline).await
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
        let waited = self.raft.wait(Some(RAFT_TIMEOUT)).metrics(leads, "to lead").await;
        waited.map(|_| ()).map_err(|error| SubmitError::Unavailable(error.to_string()))
    }

    /// Stops the quorum's tasks.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the metadata quorum did not stop cleanly");
        }
        // The next start may come in this process: nothing may write to the folder by then.
        let files = self.published.files.clone();
        if let Err(error) = self.node.run_blocking(move || files.close()).await {
            tracing::warn!(%error, "the metadata log was not closed; a snapshot may still be written");
        }
    }
}

impl ControllerClient for Metadata {
    fn submit(&self, request: Request, deadline: Instant) -> BoxFuture<'_, Result<Committed<Reply>, SubmitError>> {
        self.submit_decision(Box::new(move |image| decide(image, &request)), deadline).boxed()
    }
}

async fn run(raft: Raft<TypeConfig, StateMachine>, published: Published, mut inbox: mpsc::Receiver<Work>) {
    let (mut batch, mut pending) = (Vec::with_capacity(BATCH), VecDeque::new());
    loop {
        if pending.is_empty() && inbox.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        pending.extend(batch.drain(..));
        let image = published.current.load_full();
        let Batch { records, decided, elections } =
            decide_all(MetadataImage::clone(&image), &mut pending, &published.metrics);
        let committed = match records.is_empty() {
            true => confirm(&raft, &published.current, image.offset()).await,
            false => {
                let began = Instant::now();
                let committed = commit(&raft, image.offset(), &records).await;
                if matches!(committed, Ok(Some(_))) {
                    published.metrics.record_commit(began.elapsed());
                    published.metrics.record_elections(elections.unclean, elections.eligible);
                }
                committed
            }
        };
        match committed {
            Ok(Some(offset)) => decided.into_iter().for_each(|Decided { work, reply, changed }| {
                // The caller may have hung up.
                let _ = work.answer.send(Ok(Committed { reply, offset, changed }));
            }),
            // Another entry came in between: the image has it by now.
            Ok(None) => decided.into_iter().rev().for_each(|decided| pending.push_front(decided.work)),
            Err(error) => decided.into_iter().for_each(|decided| drop(decided.work.answer.send(Err(error.clone())))),
        }
    }
}

/// Decides requests from the front, each over the image as the ones before it leave it, until an entry is full: the bytes of their
/// records, and the requests. One that panics or that cannot be written fails alone; one whose caller has gone is not decided.
fn decide_all(mut image: MetadataImage, pending: &mut VecDeque<Work>, metrics: &QuorumMetrics) -> Batch {
    let Batch { mut records, mut decided, mut elections } = Batch::default();
    while decided.len() < BATCH && records.len() < BATCH_BYTES {
        let Some(work) = pending.pop_front() else { break };
        if work.answer.is_closed() {
            continue;
        }
        metrics.record_queued(work.queued.elapsed());
        let Ok(decision) = catch_unwind(AssertUnwindSafe(|| (work.decide)(&image))) else {
            metrics.record_error();
            let _ = work.answer.send(Err(SubmitError::Fault("a decision of the controller panicked".to_owned())));
            continue;
        };
        match MetadataRecord::encode_all(&decision.records, image.level()) {
            Ok(bytes) => {
                let changed = !bytes.is_empty();
                records.extend_from_slice(&bytes);
                for record in &decision.records {
                    elections.add(count_elections(&image, record));
                    image.apply(record);
                }
                decided.push(Decided { work, reply: decision.reply, changed });
            }
            Err(error) => {
                metrics.record_error();
                drop(work.answer.send(Err(SubmitError::Encode(error.to_string()))));
            }
        }
    }
    Batch { records, decided, elections }
}

#[cfg(test)]
mod tests {
    use esker_core::metadata::TopicRecord;

    use super::*;

    type Answer = oneshot::Receiver<Result<Committed<Reply>, SubmitError>>;

    fn work(records: Vec<MetadataRecord>) -> (Work, Answer) {
        let (answer, answered) = oneshot::channel();
        let reply = || Reply::InitializeFeatures(());
        let decide: Decide = Box::new(move |_| Decision { records: records.clone(), reply: reply() });
        (Work { decide, queued: Instant::now(), answer }, answered)
    }

    fn topic(name: &str) -> MetadataRecord {
        MetadataRecord::Topic(TopicRecord { name: name.to_owned().into(), ..TopicRecord::default() })
    }

    #[test]
    fn a_decision_that_cannot_be_written_fails_alone() {
        // Without a level a log holds nothing else.
        let batch = [topic("t"), MetadataRecord::newest_level(), topic("t")].map(|record| work(vec![record]));
        let (works, mut answers): (VecDeque<Work>, Vec<Answer>) = batch.into_iter().unzip();
        let mut pending = works;
        let metrics = QuorumMetrics::new(Instant::now());
        let Batch { records, decided, .. } = decide_all(MetadataImage::default(), &mut pending, &metrics);
        assert_eq!(decided.len(), 2);
        let refused = answers.remove(0).try_recv().unwrap().unwrap_err();
        assert!(refused.to_string().contains("needs record level 1"), "{refused}");
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "the others wait for the commit");
        let written = MetadataRecord::decode_all(records.into()).unwrap();
        assert_eq!(written, [MetadataRecord::newest_level(), topic("t")]);
    }

    #[test]
    fn an_entry_is_bounded_in_bytes_and_requests_stay_in_order() {
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::newest_level());
        let large = || vec![topic(&"n".repeat(BATCH_BYTES / 3)); 2];
        let mut answers = Vec::new();
        let mut pending: VecDeque<Work> = VecDeque::new();
        for _ in 0..5 {
            let (work, answer) = work(large());
            pending.push_back(work);
            answers.push(answer);
        }
        drop(answers.remove(2));
        let mut sizes = Vec::new();
        while !pending.is_empty() {
            let metrics = QuorumMetrics::new(Instant::now());
            let Batch { records, decided, .. } = decide_all(image.clone(), &mut pending, &metrics);
            assert!(records.len() < BATCH_BYTES + BATCH_BYTES);
            sizes.push(decided.len());
        }
        assert_eq!(sizes, [2, 2], "the third caller has gone");
    }
}
