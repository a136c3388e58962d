//! The fetcher of one leader: requests out, answers into the logs.
//!
//! One request waits at the leader for records (a long poll). When something changes here meanwhile (a partition is followed from now on, a
//! pause ends), a second request with the change is sent behind it, and the leader answers the first one at once: nothing waits for the
//! end of a long poll. What an answer brought is flushed, where flushed offsets count, before the request that reports it; what a partition brought that
//! is far behind, beside the requests of the others, which producers wait for. A log start that followed
//! the leader's is made durable beside the requests, and is reported by the next one after that.
//!
//! Must never: let an error of one partition stop the others, or use an answer to a request of another session.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker_core::metadata::PartitionId;
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::FetchResponse;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::followed::{Beside, FIRST_PAUSE, FollowedPartitions, must_flush};
use super::link::{LeaderLinks, LinkError};
use super::pace::Pace;
use crate::node::Node;
use crate::replica::manager::ReplicaManager;
use crate::replica::partition::Partition;
use crate::replica::purgatory::CommitGate;
use crate::replica::quotas::ReplicationQuota;

/// How long a request waits for the flush of what it reports.
const FLUSH: Duration = Duration::from_secs(1);
/// How long an answer may take beyond its long poll.
const ANSWER: Duration = Duration::from_secs(3);

/// A change of what a fetcher fetches.
#[derive(Debug)]
pub(super) enum Change {
    /// Follow a partition in this leader epoch. It catches up, throttled while producers wait for others, or does not.
    Follow { partition: Arc<Partition>, leader_epoch: i32, is_catching_up: bool },
    /// Follow it no more.
    Leave(PartitionId),
    /// The leader may be reachable again.
    Retry,
}

/// Requests in flight: one that waits at the leader, and one that overtakes it.
const IN_FLIGHT: usize = 2;

/// With the time at which the request was sent.
type Answer = (Instant, Result<FetchResponse, LinkError>);

/// A partition that was flushed, its log dir, and since when.
type Flushed = (Instant, PathBuf, Arc<Partition>);

/// See the module.
pub(super) struct Fetcher {
    pub(super) node: Node,
    pub(super) replicas: Arc<ReplicaManager>,
    links: Arc<dyn LeaderLinks>,
    pub(super) leader: i32,
    changes: mpsc::UnboundedReceiver<Change>,
    pub(super) followed: FollowedPartitions,
    in_flight: FuturesOrdered<BoxFuture<'static, Answer>>,
    /// When the request was sent that was answered last.
    answered: Instant,
    /// Of what catches up, while producers wait.
    pub(super) pace: Pace,
    pause_until: Option<Instant>,
    /// Flushes of partitions that catch up; one ends with the time at which it began.
    flushing: FuturesUnordered<BoxFuture<'static, Flushed>>,
    /// Log dirs with such a flush, and the partitions that come next.
    flushing_dirs: BTreeMap<PathBuf, Vec<Arc<Partition>>>,
    /// Producers waited when this was looked at last.
    is_throttling: bool,
    /// At most one attempt to make log starts durable, with its partitions.
    saving: FuturesUnordered<BoxFuture<'static, Vec<Arc<Partition>>>>,
    /// The session's id; 0 before there is one.
    session_id: i32,
    /// Of the next request; 0 begins a session.
    session_epoch: i32,
    /// The broker epoch of the session's requests.
    broker_epoch: i64,
    /// The leader has no room for a session.
    is_sessionless: bool,
    /// No request before this time.
    link_pause: Option<Instant>,
    next_pause: Duration,
    /// Failing partitions that are counted for metrics.
    counted: usize,
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.replicas.fetching().failing.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Fetcher {
    pub(super) fn new(
        node: &Node,
        replicas: &Arc<ReplicaManager>,
        links: Arc<dyn LeaderLinks>,
        leader: i32,
        changes: mpsc::UnboundedReceiver<Change>,
    ) -> Self {
        Self {
            node: node.clone(),
            replicas: Arc::clone(replicas),
            links,
            leader,
            changes,
            followed: FollowedPartitions::default(),
            in_flight: FuturesOrdered::new(),
            answered: Instant::now(),
            pace: Pace::default(),
            pause_until: None,
            flushing: FuturesUnordered::new(),
            flushing_dirs: BTreeMap::new(),
            is_throttling: false,
            saving: FuturesUnordered::new(),
            session_id: 0,
            session_epoch: 0,
            broker_epoch: -1,
            is_sessionless: false,
            link_pause: None,
            next_pause: FIRST_PAUSE,
            counted: 0,
        }
    }

    /// Fetches until nobody sends changes any more.
    pub(super) async fn run(mut self) {
        loop {
            loop {
                match self.changes.try_recv() {
                    Ok(change) => self.apply_change(change),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            self.count_failing();
            self.followed.end_pauses(Some(Instant::now()));
            let beside = self.throttle();
            // What the quota holds back takes no place from the others.
            while self.followed.admit(beside.as_ref(), Instant::now()) > 0 && self.hold_back_throttled() {}
            self.hold_back_throttled();
            self.save_log_starts();
            if self.may_send() {
                self.flush().await;
                self.send(beside);
            }
            let wake = self.next_wake(beside);
            tokio::select! {
                biased;
                Some(answer) = self.in_flight.next() => self.receive(answer).await,
                Some(flushed) = self.flushing.next() => self.end_flush(flushed),
                Some(saved) = self.saving.next() => self.followed.note_saved(&saved),
                change = self.changes.recv() => match change {
                    Some(change) => self.apply_change(change),
                    None => return,
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn count_failing(&mut self) {
        let now = self.followed.failing();
        if now != self.counted {
            let failing = &self.replicas.fetching().failing;
            failing.fetch_add(now, Ordering::Relaxed);
            failing.fetch_sub(self.counted, Ordering::Relaxed);
            self.counted = now;
        }
    }

    fn apply_change(&mut self, change: Change) {
        match change {
            Change::Follow { partition, leader_epoch, is_catching_up } => {
                let id = partition.id();
                self.followed.add_partition(partition, leader_epoch);
                self.followed.note_catching_up(id, is_catching_up);
            }
            Change::Leave(id) => self.followed.remove_partition(id),
            Change::Retry => {
                self.followed.end_pauses(None);
                self.end_link_pause();
            }
        }
        if self.link_pause.is_some() {
            // New metadata: whatever stopped the link may be over.
            self.end_link_pause();
        }
    }

    fn end_link_pause(&mut self) {
        self.link_pause = None;
        self.next_pause = FIRST_PAUSE;
    }

    /// Does not fetch throttled partitions for a while when the quota is used up (KIP-73). What is in sync is fetched. Whether there were any.
    fn hold_back_throttled(&mut self) -> bool {
        let pause = self.quota().pause();
        !pause.is_zero() && self.followed.hold_back(self.node.id(), Instant::now() + pause.min(self.longest_pause()))
    }

    /// Whether a reassignment adds this broker's replica.
    pub(super) fn is_adding(&self, partition: &Partition) -> bool {
        self.replicas.is_adding(partition, self.node.id())
    }

    pub(super) fn quota(&self) -> &ReplicationQuota {
        &self.replicas.quotas().follower
    }

    fn may_send(&mut self) -> bool {
        if self.followed.is_empty() || self.link_pause.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        match self.in_flight.len() {
            0 => self.followed.is_fetching(),
            // A request that begins a session is answered at once; before that the session has no name.
            // One that names nothing would end the session.
            1 => {
                let in_session = self.session_id != 0 && self.session_epoch != 0;
                in_session && self.followed.is_fetching() && self.followed.has_news()
            }
            _ => false,
        }
    }

    fn next_wake(&self, beside: Option<Beside>) -> Option<Instant> {
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let link_pause = self.link_pause.filter(|until| *until > Instant::now());
        // The end of a pause that is over by now counts, too: nothing was admitted because of it.
        let pause_end = beside.and_then(|beside| beside.pause_end).filter(|_| self.followed.has_waiting());
        match link_pause {
            Some(until) => Some(until),
            None => self.followed.next_wake().into_iter().chain(pause_end).min(),
        }
    }

    /// While producers wait for this broker: takes out what is far behind and has fetched, for a pause, and has flushed what is due of it.
    fn throttle(&mut self) -> Option<Beside> {
        let (own, now) = (self.node.id(), Instant::now());
        let has_work = self.followed.has_catching_up() && self.replicas.flusher().foreground().is_active(now);
        let was_throttling = std::mem::replace(&mut self.is_throttling, has_work);
        if !has_work {
            return None;
        }
        if !was_throttling {
            self.followed.look_at_catching_up();
        }
        let taken = self.followed.take_far(own, |dir| self.flushing_dirs.contains_key(dir));
        if taken.has_fetched {
            self.pace.adapt(now);
            self.pause_after(self.answered);
        }
        for partition in taken.due {
            let dir = partition.log().log_dir().to_owned();
            match self.flushing_dirs.get_mut(&dir) {
                Some(next) => next.push(partition),
                None => self.flush_alone(dir, partition),
            }
        }
        let pause_end = self.pause_until.filter(|until| *until > Instant::now());
        Some(Beside { own, bytes: self.pace.bytes(), pause_end })
    }

    /// Nothing is fetched to catch up for a while after a step that began at `began`.
    fn pause_after(&mut self, began: Instant) {
        self.pause_until = self.pause_until.max(Some(Instant::now() + self.pace.pause(began.elapsed())));
    }

    /// Flushes a partition beside the requests, and in no round with others. One at a time in each log dir: one that stands takes one thread, and
    /// keeps nothing of the others.
    fn flush_alone(&mut self, dir: PathBuf, due: Arc<Partition>) {
        self.flushing_dirs.entry(dir.clone()).or_default();
        let (node, flusher) = (self.node.clone(), Arc::clone(self.replicas.flusher()));
        self.flushing.push(
            async move {
                let (began, flushing) = (Instant::now(), Arc::clone(&due));
                let ended = node.run_blocking(move || flusher.flush_alone(flushing.as_ref())).await;
                if ended.is_err() || must_flush(&due) {
                    // A disk that is full, or fails, is not asked again at once.
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                (began, dir, due)
            }
            .boxed(),
        );
    }

    fn end_flush(&mut self, (began, dir, partition): Flushed) {
        match self.flushing_dirs.get_mut(&dir).and_then(Vec::pop) {
            Some(next) => self.flush_alone(dir, next),
            None => drop(self.flushing_dirs.remove(&dir)),
        }
        self.pause_after(began);
        self.followed.note_flushed(&partition);
    }

    /// Flushes what the next request reports.
    async fn flush(&mut self) {
        let partitions = self.followed.unflushed();
        if !partitions.is_empty() {
            flush_all(&self.replicas, &partitions).await;
        }
    }

    /// Makes log starts durable that followed the leader's, beside the fetches: the leader knows the old ones until then. One write covers all
    /// that moved meanwhile.
    fn save_log_starts(&mut self) {
        if !self.saving.is_empty() {
            return;
        }
        let partitions = self.followed.take_unsaved();
        if partitions.is_empty() {
            return;
        }
        let logs: Vec<_> = partitions.iter().map(|partition| partition.log()).collect();
        let (manager, pause) = (Arc::clone(self.replicas.logs()), self.longest_pause());
        let saved = self.node.run_blocking(move || manager.flush_log_starts(&logs));
        let attempt = async move {
            let failure = match saved.await {
                Ok(Ok(())) => return partitions,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            warn!(error = failure, "log starts cannot be made durable; DeleteRecords waits; trying again");
            tokio::time::sleep(pause).await;
            partitions
        };
        self.saving.push(attempt.boxed());
    }

    fn send(&mut self, beside: Option<Beside>) {
        let Some(link) = self.links.to(self.leader) else {
            return self.break_off(&LinkError::Unreachable("its address is not known".to_owned()));
        };
        let config = self.node.config().replication;
        let broker_epoch = self.replicas.applied_image().broker(self.node.id()).map_or(-1, |broker| broker.epoch);
        if broker_epoch != self.broker_epoch {
            // The leader counts only ends that were reported in this epoch (KIP-903), and a session's requests leave out unchanged partitions.
            self.broker_epoch = broker_epoch;
            self.begin_session_anew();
        }
        let is_full = self.session_epoch == 0;
        if is_full {
            self.followed.forget_session();
        }
        let named = self.followed.name_changed(beside.as_ref(), config.fetch_max_bytes);
        let request = ReplicaFetchRequest {
            replica_id: self.node.id(),
            broker_epoch,
            session_id: self.session_id,
            session_epoch: self.session_epoch,
            // The first answer of a session brings its id, with which a change here can overtake the next request.
            max_wait_ms: if is_full && !self.is_sessionless {
                0
            } else {
                self.longest_wait(beside, config.wait_max_ms)
            },
            min_bytes: config.min_bytes,
            max_bytes: config.response_max_bytes,
            topics: named.topics,
            forgotten: named.forgotten,
        };
        if !is_full {
            self.session_epoch = self.session_epoch.checked_add(1).unwrap_or(1);
        }
        // A long poll is answered when its time is over: a connection that stays silent past that is broken.
        let poll = Duration::from_millis(u64::try_from(config.wait_max_ms).unwrap_or_default());
        let timeout = config.request_timeout.min(poll + ANSWER);
        let sent = Instant::now();
        self.in_flight.push_back(link.fetch(request, timeout).map(move |answer| (sent, answer)).boxed());
    }

    /// Without a session nothing overtakes a request: it does not wait for longer than what catches up pauses.
    fn longest_wait(&self, beside: Option<Beside>, configured: i32) -> i32 {
        let pause_end = beside.and_then(|beside| beside.pause_end).filter(|_| self.is_sessionless);
        let pause = pause_end.map(|end| end.saturating_duration_since(Instant::now()).as_millis().saturating_add(1));
        pause.and_then(|pause| i32::try_from(pause).ok()).map_or(configured, |pause| pause.min(configured))
    }

    async fn receive(&mut self, (sent, answer): Answer) {
        self.answered = sent;
        self.followed.begin_answer();
        match answer {
            Ok(answer) if !answer.error_code.is_error() => {
                if self.next_pause != FIRST_PAUSE {
                    info!(leader = self.leader, "fetching from the leader again");
                }
                self.end_link_pause();
                if self.session_epoch == 0 {
                    self.session_id = answer.session_id;
                    self.session_epoch = i32::from(answer.session_id != 0);
                    self.is_sessionless = answer.session_id == 0;
                }
                self.apply_answer(answer).await;
            }
            Ok(answer) => match answer.error_code {
                // A session that was evicted, or lost with a restart of the leader.
                ErrorCode::FETCH_SESSION_ID_NOT_FOUND
                | ErrorCode::INVALID_FETCH_SESSION_EPOCH
                | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => self.begin_session_anew(),
                code => {
                    self.pause_link(&format!("the leader answers {code}"));
                    self.begin_session_anew();
                }
            },
            Err(error) => self.break_off(&error),
        }
    }

    fn break_off(&mut self, error: &LinkError) {
        self.pause_link(&error.to_string());
        self.begin_session_anew();
    }

    fn begin_session_anew(&mut self) {
        self.in_flight = FuturesOrdered::new();
        self.session_epoch = 0;
        self.followed.forget_leader_ends();
    }

    fn pause_link(&mut self, why: &str) {
        if self.next_pause == FIRST_PAUSE {
            warn!(leader = self.leader, why, "fetching from the leader stopped; trying again");
        }
        let longest = self.longest_pause();
        self.link_pause = Some(Instant::now() + self.next_pause.min(longest));
        self.next_pause = (self.next_pause * 2).min(longest);
    }

    pub(super) fn longest_pause(&self) -> Duration {
        self.node.config().replication.backoff_max.max(FIRST_PAUSE)
    }
}

/// Flushes partitions, with one round of each log dir.
async fn flush_all(replicas: &ReplicaManager, partitions: &[Arc<Partition>]) {
    let gate = CommitGate::new(1);
    let park = |partition: &Arc<Partition>| partition.park_flush(partition.log().log_end_offset(), &gate);
    let pending: Vec<_> = partitions.iter().map(park).collect();
    replicas.flusher().request_flush_all(partitions);
    gate.release();
    // A disk that takes longer must not keep the other partitions: what is not flushed by then is asked for again.
    if tokio::time::timeout(FLUSH, gate.wait()).await.is_err() {
        tracing::debug!(partitions = partitions.len(), "fetched records are not flushed yet");
    }
    drop(pending);
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
