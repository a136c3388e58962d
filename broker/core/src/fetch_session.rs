//! Fetch sessions (KIP-227): a consumer of many partitions names them once, then only what changes.
//!
//! A session remembers its partitions and what was last told of each. An incremental answer carries the partitions that
//! have records, an error, or a high watermark or log start offset that the client does not know yet. Sessions are
//! bounded in number; a full cache gives up the one that was idle longest (if that is long enough), else the new client
//! simply fetches without a session.

use std::collections::{BTreeMap, HashMap};

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};

/// Names a partition in a session: the id where the request's version carries ids, else the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchTarget {
    /// Topic name; empty when the request names topics by id.
    pub topic: Str,
    /// Topic id; zero when the request names topics by name.
    pub topic_id: Uuid,
    /// Partition number.
    pub partition: i32,
}

/// What the client wants of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionWish {
    /// Next offset wanted.
    pub offset: i64,
    /// Most bytes wanted.
    pub max_bytes: i32,
    /// Leader epoch the client believes in, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record it has, -1 for none.
    pub last_fetched_epoch: i32,
}

/// What an answer says of one partition, as far as a session cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionNews {
    /// It has an error, records, or something else that must be told.
    pub must_tell: bool,
    /// High watermark.
    pub high_watermark: i64,
    /// Log start offset.
    pub log_start_offset: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    wish: PartitionWish,
    high_watermark: i64,
    log_start_offset: i64,
    /// Place in the order of service: what was served goes to the end.
    turn: u64,
}

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    last_used_ms: i64,
    by_id: bool,
    entries: HashMap<FetchTarget, Entry>,
    turns: u64,
}

/// A request as the cache sees it.
#[derive(Debug)]
pub struct SessionRequest {
    /// `session_id`.
    pub id: i32,
    /// `session_epoch`.
    pub epoch: i32,
    /// The version names topics by id.
    pub by_id: bool,
    /// Partitions that the request names.
    pub partitions: Vec<(FetchTarget, PartitionWish)>,
    /// Partitions that leave the session.
    pub forgotten: Vec<FetchTarget>,
}

/// What to fetch, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFetch {
    /// `session_id` of the answer; 0 for none.
    pub id: i32,
    /// What to read, in order.
    pub partitions: Vec<(FetchTarget, PartitionWish)>,
    /// The answer leaves out partitions without news.
    pub incremental: bool,
}

/// How long a session must have been idle before it may be given up for another.
const EVICT_AFTER_MS: i64 = 120_000;

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: HashMap<i32, Session>,
    by_use: BTreeMap<(i64, i32), ()>,
    partitions: usize,
    evictions: u64,
}

const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

impl FetchSessions {
    /// A cache of at most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> Self {
        Self { slots, sessions: HashMap::new(), by_use: BTreeMap::new(), partitions: 0, evictions: 0 }
    }

    /// Sessions, partitions in them, and how many sessions were given up for others.
    pub fn counts(&self) -> (usize, usize, u64) {
        (self.sessions.len(), self.partitions, self.evictions)
    }

    /// Begins a fetch. `fresh_id` is a random id for a session that may begin here.
    pub fn begin(&mut self, request: SessionRequest, fresh_id: i32, now_ms: i64) -> Result<SessionFetch, ErrorCode> {
        let full = |partitions| SessionFetch { id: 0, partitions, incremental: false };
        match request.epoch {
            FINAL_EPOCH => {
                if request.id != 0 {
                    self.remove(request.id);
                }
                Ok(full(request.partitions))
            }
            INITIAL_EPOCH => {
                if request.id != 0 {
                    self.remove(request.id);
                }
                Ok(self.create(request, fresh_id, now_ms))
            }
            _ => self.resume(request, now_ms),
        }
    }

    fn create(&mut self, request: SessionRequest, fresh_id: i32, now_ms: i64) -> SessionFetch {
        let mut id = fresh_id.saturating_abs().max(1);
        while self.sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        let worth = !request.partitions.is_empty() && self.make_room(now_ms);
        if worth {
            let mut session = Session {
                next_epoch: 1,
                last_used_ms: now_ms,
                by_id: request.by_id,
                entries: HashMap::new(),
                turns: 0,
            };
            for (target, wish) in &request.partitions {
                session.put(target.clone(), *wish);
            }
            self.partitions += session.entries.len();
            self.sessions.insert(id, session);
            self.by_use.insert((now_ms, id), ());
        }
        SessionFetch { id: if worth { id } else { 0 }, partitions: request.partitions, incremental: false }
    }

    fn make_room(&mut self, now_ms: i64) -> bool {
        if self.sessions.len() < self.slots {
            return true;
        }
        let oldest = self.by_use.keys().next().copied();
        match oldest {
            Some((used, id)) if now_ms.saturating_sub(used) > EVICT_AFTER_MS => {
                self.remove(id);
                self.evictions += 1;
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.entries.len();
            self.by_use.remove(&(session.last_used_ms, id));
        }
    }

    fn resume(&mut self, request: SessionRequest, now_ms: i64) -> Result<SessionFetch, ErrorCode> {
        let Some(session) = self.sessions.get_mut(&request.id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if session.next_epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != request.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        let before = session.entries.len();
        for target in &request.forgotten {
            session.entries.remove(target);
        }
        for (target, wish) in request.partitions {
            session.put(target, wish);
        }
        self.partitions = self.partitions + session.entries.len() - before;
        session.next_epoch = request.epoch.checked_add(1).unwrap_or(1);
        self.by_use.remove(&(session.last_used_ms, request.id));
        session.last_used_ms = now_ms;
        self.by_use.insert((now_ms, request.id), ());
        let mut ordered: Vec<_> = session.entries.iter().map(|(t, e)| (e.turn, t.clone(), e.wish)).collect();
        ordered.sort_unstable_by_key(|(turn, ..)| *turn);
        let partitions = ordered.into_iter().map(|(_, target, wish)| (target, wish)).collect();
        Ok(SessionFetch { id: request.id, partitions, incremental: true })
    }

    /// Ends a fetch: which of `news` (in the order of [`SessionFetch::partitions`]) belong into the answer. Partitions
    /// with records go to the end of the order, so that others get their turn.
    pub fn finish(&mut self, fetch: &SessionFetch, news: &[PartitionNews]) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(&fetch.id) else { return vec![true; news.len()] };
        let mut told = Vec::with_capacity(news.len());
        for ((target, _), news) in fetch.partitions.iter().zip(news) {
            let turn = session.turns;
            let tell = match session.entries.get_mut(target) {
                None => true,
                Some(entry) => {
                    let moved =
                        entry.high_watermark != news.high_watermark || entry.log_start_offset != news.log_start_offset;
                    entry.high_watermark = news.high_watermark;
                    entry.log_start_offset = news.log_start_offset;
                    if news.must_tell {
                        entry.turn = turn;
                        session.turns += 1;
                    }
                    news.must_tell || moved
                }
            };
            told.push(tell || !fetch.incremental);
        }
        told
    }
}

impl Session {
    fn put(&mut self, target: FetchTarget, wish: PartitionWish) {
        let turn = self.turns;
        self.turns += 1;
        self.entries.entry(target).and_modify(|entry| entry.wish = wish).or_insert(Entry {
            wish,
            high_watermark: -1,
            log_start_offset: -1,
            turn,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32) -> FetchTarget {
        FetchTarget { topic: "t".into(), topic_id: Uuid::ZERO, partition }
    }

    fn request(id: i32, epoch: i32, partitions: &[i32], forgotten: &[i32]) -> SessionRequest {
        let wish = PartitionWish { offset: 0, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 };
        SessionRequest {
            id,
            epoch,
            by_id: false,
            partitions: partitions.iter().map(|p| (target(*p), wish)).collect(),
            forgotten: forgotten.iter().map(|p| target(*p)).collect(),
        }
    }

    fn order(fetch: &SessionFetch) -> Vec<i32> {
        fetch.partitions.iter().map(|(t, _)| t.partition).collect()
    }

    fn news(must_tell: bool, high_watermark: i64) -> PartitionNews {
        PartitionNews { must_tell, high_watermark, log_start_offset: 0 }
    }

    #[test]
    fn a_session_from_begin_to_end() {
        let mut sessions = FetchSessions::new(10);
        let first = sessions.begin(request(0, 0, &[0, 1, 2], &[]), 42, 0).unwrap();
        assert_eq!((first.id, first.incremental, order(&first)), (42, false, vec![0, 1, 2]));
        assert_eq!(sessions.finish(&first, &[news(true, 5), news(false, 5), news(false, 5)]), [true; 3]);
        let second = sessions.begin(request(42, 1, &[], &[]), 0, 1).unwrap();
        assert_eq!(order(&second), [1, 2, 0], "what was served goes to the end");
        assert_eq!(sessions.finish(&second, &[news(false, 5), news(false, 6), news(false, 5)]), [false, true, false]);
        let third = sessions.begin(request(42, 2, &[3], &[1]), 0, 2).unwrap();
        assert_eq!(order(&third), [2, 0, 3]);
        assert_eq!(sessions.begin(request(42, 2, &[], &[]), 0, 3), Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
        assert_eq!(sessions.begin(request(41, 1, &[], &[]), 0, 3), Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
        let by_id = SessionRequest { by_id: true, ..request(42, 3, &[], &[]) };
        assert_eq!(sessions.begin(by_id, 0, 3), Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
        let last = sessions.begin(request(42, -1, &[0], &[]), 0, 4).unwrap();
        assert_eq!((last.id, sessions.counts()), (0, (0, 0, 0)));
    }

    #[test]
    fn a_full_cache_keeps_who_is_active() {
        let mut sessions = FetchSessions::new(1);
        assert_eq!(sessions.begin(request(0, 0, &[0], &[]), 7, 0).unwrap().id, 7);
        assert_eq!(sessions.begin(request(0, 0, &[0], &[]), 8, 1000).unwrap().id, 0);
        assert_eq!(sessions.begin(request(0, 0, &[0], &[]), 8, EVICT_AFTER_MS + 1).unwrap().id, 8);
        assert_eq!(sessions.counts(), (1, 1, 1));
    }

    #[test]
    fn epochs_wrap_to_one() {
        let mut sessions = FetchSessions::new(1);
        let id = sessions.begin(request(0, 0, &[0], &[]), 7, 0).unwrap().id;
        sessions.sessions.get_mut(&id).unwrap().next_epoch = i32::MAX;
        assert!(sessions.begin(request(id, i32::MAX, &[], &[]), 0, 0).is_ok());
        assert!(sessions.begin(request(id, 1, &[], &[]), 0, 0).is_ok());
    }
}
