//! The fetch sessions of this broker (KIP-227): found by id, bounded in number, each with a ready-list that partitions fill.
//!
//! The rules of one session are in [`esker_core::fetch_session`]. This module adds the watches on partitions, the bound
//! (`max.incremental.fetch.session.cache.slots`) and eviction. A full cache evicts the session that has been idle longest,
//! if it has been idle long enough; else the new client fetches without a session.
//!
//! A fetch takes the lock of one shard for a look-up and the lock of its own session; no lock spans all sessions. Order of
//! locks: a session, then the watches of a partition; a shard's lock is held beside no other. Must never: read a log
//! under a session's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use esker_core::fetch_session::{
    EVICT_AFTER_MS, FetchSession, FetchTarget, PartitionRequest, PartitionStatus, SessionAction, SessionFetch,
    SessionRequest,
};
use esker_protocol::error::ErrorCode;
use parking_lot::{Mutex, MutexGuard};

use crate::replica::{AccessError, Partition, ReadBound, ReadFrom, ReadyList, Watch};

/// What a request may see. A session whose requests see something else than before reads all of its partitions again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderView {
    /// The reader's broker id; negative for a consumer.
    pub replica: i32,
    /// Up to where it reads.
    pub bound: ReadBound,
    /// From which replicas.
    pub from: ReadFrom,
    /// Its version of Fetch has the last fetched epoch.
    pub checks_epochs: bool,
    /// Log dirs that are offline: their partitions do not notice it themselves.
    pub offline_dirs: usize,
}

/// A partition, or why it cannot be read.
pub type FoundPartition = Result<Arc<Partition>, AccessError>;

/// Finds a partition for a reader.
pub type FindPartition<'a> = &'a dyn Fn(&FetchTarget) -> FoundPartition;

/// One session.
#[derive(Debug)]
pub struct Session {
    id: i32,
    last_used_ms: AtomicI64,
    ready: Arc<ReadyList>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: FetchSession<Watch>,
    view: ReaderView,
    is_closed: bool,
}

/// A fetch that has begun: what it reads, and the session that it belongs to.
#[derive(Debug)]
pub struct BegunFetch {
    /// `None` for a fetch without a session.
    pub session: Option<Arc<Session>>,
    /// What to read, and how to answer.
    pub fetch: SessionFetch,
    /// One for each partition of `fetch`.
    pub partitions: Vec<FoundPartition>,
}

const SHARDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    shards: [Mutex<HashMap<i32, Arc<Session>>>; SHARDS],
    sessions: AtomicUsize,
    partitions: AtomicUsize,
    evictions: AtomicU64,
    /// No session was used before this time: while none can be evicted, no scan of all sessions is needed.
    oldest_use_ms: AtomicI64,
}

impl FetchSessions {
    /// A cache of at most `slots` sessions.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            shards: Default::default(),
            sessions: AtomicUsize::new(0),
            partitions: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            oldest_use_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Sessions, partitions in them, and evictions.
    pub fn counts(&self) -> (usize, usize, u64) {
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (load(&self.sessions), load(&self.partitions), self.evictions.load(Ordering::Relaxed))
    }

    /// Fetches that wait for a session's partitions to move.
    pub fn parked_fetches(&self) -> usize {
        let parked = |shard: &Mutex<HashMap<i32, Arc<Session>>>| {
            shard.lock().values().map(|session| session.ready.parked()).sum::<usize>()
        };
        self.shards.iter().map(parked).sum()
    }

    /// Begins a fetch. `random` is called for the id of a new session only.
    pub fn begin(
        &self,
        request: SessionRequest,
        view: ReaderView,
        find: FindPartition<'_>,
        random: impl FnOnce() -> u64,
        now_ms: i64,
    ) -> Result<BegunFetch, ErrorCode> {
        match request.action() {
            SessionAction::Resume => self.resume(&request, view, find, now_ms),
            SessionAction::Close => {
                self.close(request.id);
                Ok(BegunFetch::sessionless(request, find))
            }
            SessionAction::Create => {
                self.close(request.id);
                if request.partitions.is_empty() || !self.reserve(now_ms) {
                    return Ok(BegunFetch::sessionless(request, find));
                }
                Ok(self.create(request, view, find, random(), now_ms))
            }
        }
    }

    fn create(
        &self,
        request: SessionRequest,
        view: ReaderView,
        find: FindPartition<'_>,
        random: u64,
        now_ms: i64,
    ) -> BegunFetch {
        let (session, fetch) = FetchSession::create(request);
        self.partitions.fetch_add(session.len(), Ordering::Relaxed);
        let state = Mutex::new(State { session, view, is_closed: false });
        let (last_used_ms, ready) = (AtomicI64::new(now_ms), Arc::default());
        // Kafka's ids are positive.
        let mut id = i32::try_from(random >> 33).unwrap_or(1).max(1);
        let mut shard = self.shard(id).lock();
        while shard.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
            drop(shard);
            shard = self.shard(id).lock();
        }
        let session = Arc::new(Session { id, last_used_ms, ready, state });
        shard.insert(id, Arc::clone(&session));
        drop(shard);
        let partitions = session.watch_listed(&mut session.state.lock(), &fetch, find);
        BegunFetch { session: Some(session), fetch, partitions }
    }

    fn resume(
        &self,
        request: &SessionRequest,
        view: ReaderView,
        find: FindPartition<'_>,
        now_ms: i64,
    ) -> Result<BegunFetch, ErrorCode> {
        let session = self.shard(request.id).lock().get(&request.id).cloned();
        let session = session.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        let mut state = session.state.lock();
        if state.is_closed {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        let before = state.session.len();
        state.session.resume(request)?;
        let after = state.session.len();
        self.partitions.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        self.partitions.fetch_sub(before.saturating_sub(after), Ordering::Relaxed);
        session.last_used_ms.fetch_max(now_ms, Ordering::Relaxed);
        if after == 0 {
            drop(state);
            self.close(request.id);
            return Ok(BegunFetch {
                session: None,
                fetch: SessionFetch::sessionless(Vec::new()),
                partitions: Vec::new(),
            });
        }
        if state.view != view {
            state.view = view;
            state.session.mark_all();
        }
        let (fetch, partitions) = session.list_ready(&mut state, find);
        drop(state);
        if view.replica >= 0 {
            // A follower overtakes its own request that waits.
            session.ready.wake_parked();
        }
        Ok(BegunFetch { session: Some(session), fetch, partitions })
    }

    /// Takes room for one more session, by eviction if it must.
    fn reserve(&self, now_ms: i64) -> bool {
        let one_more = |sessions: usize| (sessions < self.slots).then_some(sessions + 1);
        let take = || self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        take() || (self.evict(now_ms) && take())
    }

    fn evict(&self, now_ms: i64) -> bool {
        let is_due = |used_ms: i64| now_ms.saturating_sub(used_ms) > EVICT_AFTER_MS;
        if !is_due(self.oldest_use_ms.load(Ordering::Relaxed)) {
            return false;
        }
        let oldest_of = |shard: &Mutex<HashMap<i32, Arc<Session>>>| {
            shard.lock().values().map(|session| (session.last_used_ms.load(Ordering::Relaxed), session.id)).min()
        };
        let Some((used_ms, id)) = self.shards.iter().filter_map(oldest_of).min() else { return false };
        // A new session is used now, and a use only moves a session's time on.
        self.oldest_use_ms.store(used_ms.min(now_ms), Ordering::Relaxed);
        let evicted = is_due(used_ms) && self.close(id);
        self.evictions.fetch_add(u64::from(evicted), Ordering::Relaxed);
        evicted
    }

    /// Ends a session, if there is one of this id. A fetch parked on it is answered.
    fn close(&self, id: i32) -> bool {
        let Some(session) = self.shard(id).lock().remove(&id) else { return false };
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let mut state = session.state.lock();
        state.is_closed = true;
        self.partitions.fetch_sub(state.session.len(), Ordering::Relaxed);
        state.session.clear();
        drop(state);
        session.ready.wake_parked();
        true
    }

    fn shard(&self, id: i32) -> &Mutex<HashMap<i32, Arc<Session>>> {
        let [first, ..] = &self.shards;
        self.shards.get(id.unsigned_abs() as usize % SHARDS).unwrap_or(first)
    }
}

impl Session {
    /// Ends a fetch: which of its partitions belong into the answer.
    pub fn finish(&self, fetch: &SessionFetch, statuses: &[PartitionStatus]) -> Vec<bool> {
        self.state.lock().session.finish(fetch, statuses)
    }

    /// Where the session's partitions report their moves.
    pub fn ready(&self) -> &ReadyList {
        &self.ready
    }

    /// Lists again, for a fetch that waited: what it listed before and what moved since. `None` if the session has ended.
    pub fn list_again(&self, find: FindPartition<'_>) -> Option<(SessionFetch, Vec<FoundPartition>)> {
        let mut state = self.state.lock();
        (!state.is_closed).then(|| self.list_ready(&mut state, find))
    }

    /// Whether a later fetch of the session has begun since `fetch` listed.
    pub fn is_overtaken(&self, fetch: &SessionFetch) -> bool {
        !self.state.lock().session.is_latest(fetch)
    }

    fn list_ready(
        &self,
        state: &mut MutexGuard<'_, State>,
        find: FindPartition<'_>,
    ) -> (SessionFetch, Vec<FoundPartition>) {
        self.ready.take_moved().into_iter().for_each(|slot| state.session.mark_moved(slot));
        let fetch = state.session.list_ready();
        let partitions = self.watch_listed(state, &fetch, find);
        (fetch, partitions)
    }

    /// Finds the partitions of `fetch` and watches each from here on, before it is read.
    fn watch_listed(
        &self,
        state: &mut MutexGuard<'_, State>,
        fetch: &SessionFetch,
        find: FindPartition<'_>,
    ) -> Vec<FoundPartition> {
        let bound = state.view.bound;
        let listed = fetch.slots.iter().zip(&fetch.partitions).map(|(slot, (target, _))| {
            let found = find(target);
            match &found {
                Ok(partition) if state.session.watch(*slot).is_some_and(|watch| watch.is_on(partition, bound)) => {}
                Ok(partition) => {
                    let watch = Watch::register(partition, &self.ready, *slot, bound);
                    state.session.set_watch(*slot, Some(watch));
                }
                // A partition with an error stays on the list: nothing has to report that it can be read again.
                Err(_) => state.session.set_watch(*slot, None),
            }
            found
        });
        listed.collect()
    }
}

impl BegunFetch {
    /// `session_id` of the answer.
    pub fn session_id(&self) -> i32 {
        self.session.as_ref().map_or(0, |session| session.id)
    }

    fn sessionless(request: SessionRequest, find: FindPartition<'_>) -> Self {
        Self::of(request.partitions, find)
    }

    /// A fetch that names no session.
    pub fn of(partitions: Vec<(FetchTarget, PartitionRequest)>, find: FindPartition<'_>) -> Self {
        let found = partitions.iter().map(|(target, _)| find(target)).collect();
        Self { session: None, fetch: SessionFetch::sessionless(partitions), partitions: found }
    }
}

#[cfg(test)]
mod tests;
