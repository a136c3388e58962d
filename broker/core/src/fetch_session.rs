//! One fetch session (KIP-227): a client names its partitions once, then only what changes.
//!
//! A session remembers its partitions and the offsets last reported for each. An incremental fetch reads the partitions on
//! the session's ready-list only. A partition enters the list when the request names it or when it moved
//! ([`FetchSession::mark_moved`]). It leaves the list when a read finds nothing to return and nothing to report. Partitions
//! off the list are caught up and fully reported, so reading them could not change the answer. The cost of a fetch
//! therefore follows the number of partitions that moved, not the size of the session.
//!
//! The caller must register for moves of a partition before it reads it, and must call [`FetchSession::mark_moved`] for
//! every move since: a change of the high watermark, of the read bound, of the log start offset, of leadership, or the deletion of the topic.
//!
//! Must never: remove a partition from the list on the word of a read that an overlapping fetch has overtaken.

use std::collections::{BTreeSet, HashMap};

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

/// The client's parameters for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    /// Next offset wanted.
    pub offset: i64,
    /// Most bytes wanted.
    pub max_bytes: i32,
    /// Leader epoch the client believes in, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record it has, -1 for none.
    pub last_fetched_epoch: i32,
    /// Where its own log begins, -1 unless it is a follower.
    pub log_start_offset: i64,
}

/// The result of a read of one partition, as far as a session needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStatus {
    /// It has an error, records, or something else that every answer carries.
    pub must_report: bool,
    /// Nothing is readable at the wanted offset, without an error: only a move of the partition can change the result.
    pub is_caught_up: bool,
    /// High watermark.
    pub high_watermark: i64,
    /// Log start offset.
    pub log_start_offset: i64,
}

/// A partition's place in a session. A place that is used again has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    index: u32,
    generation: u32,
}

/// A fetch request as sessions see it.
#[derive(Debug)]
pub struct SessionRequest {
    /// `session_id`.
    pub id: i32,
    /// `session_epoch`.
    pub epoch: i32,
    /// The version names topics by id.
    pub by_id: bool,
    /// Its sender ignores what an answer says of a partition that a later request names (a follower, whose requests overtake each other): the
    /// answer to that request says it again.
    pub repeats: bool,
    /// Partitions that the request names.
    pub partitions: Vec<(FetchTarget, PartitionRequest)>,
    /// Partitions that leave the session.
    pub forgotten: Vec<FetchTarget>,
}

/// What a request's `session_id` and `session_epoch` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAction {
    /// A fetch without a session; ends the session that the request names.
    Close,
    /// A full fetch that begins a session if there is room for one; ends the session that the request names.
    Create,
    /// An incremental fetch.
    Resume,
}

impl SessionRequest {
    /// KIP-227's meaning of the epoch.
    pub fn action(&self) -> SessionAction {
        match self.epoch {
            FINAL_EPOCH => SessionAction::Close,
            INITIAL_EPOCH => SessionAction::Create,
            _ => SessionAction::Resume,
        }
    }
}

/// What to read, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFetch {
    /// What to read, in order.
    pub partitions: Vec<(FetchTarget, PartitionRequest)>,
    /// The response leaves out partitions without changes.
    pub incremental: bool,
    /// The session has other partitions, all of them caught up.
    pub has_others: bool,
    /// One for each of `partitions`; empty without a session.
    pub slots: Vec<Slot>,
    listing: u64,
}

impl SessionFetch {
    /// A fetch without a session.
    pub fn sessionless(partitions: Vec<(FetchTarget, PartitionRequest)>) -> Self {
        Self { partitions, incremental: false, has_others: false, slots: Vec::new(), listing: 0 }
    }
}

/// A session idle for longer may be evicted in favor of another.
pub const EVICT_AFTER_MS: i64 = 120_000;

/// The epoch of a request that wants no session.
pub const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

#[derive(Debug)]
struct Entry<W> {
    target: FetchTarget,
    wanted: PartitionRequest,
    high_watermark: i64,
    log_start_offset: i64,
    /// Position in the order of reads: a partition that returned records goes to the end.
    turn: u64,
    /// The latest listing that had it.
    listing: u64,
    /// The latest listing whose answer its reader ignores, because a later request names it.
    ignored: u64,
    watch: Option<W>,
}

#[derive(Debug)]
struct Place<W> {
    generation: u32,
    entry: Option<Entry<W>>,
}

/// See the module. `W` is what the caller keeps for each partition (its registration for moves); it is dropped when the
/// partition leaves the session.
#[derive(Debug)]
pub struct FetchSession<W> {
    next_epoch: i32,
    by_id: bool,
    repeats: bool,
    slots: HashMap<FetchTarget, Slot>,
    places: Vec<Place<W>>,
    free: Vec<u32>,
    ready: BTreeSet<(u64, Slot)>,
    turns: u64,
    listings: u64,
}

impl<W> FetchSession<W> {
    /// A session of the partitions that a full fetch names, and what that fetch reads.
    pub fn create(request: SessionRequest) -> (Self, SessionFetch) {
        let mut session = Self {
            next_epoch: 1,
            by_id: request.by_id,
            repeats: request.repeats,
            slots: HashMap::with_capacity(request.partitions.len()),
            places: Vec::with_capacity(request.partitions.len()),
            free: Vec::new(),
            ready: BTreeSet::new(),
            turns: 0,
            listings: 1,
        };
        let slots = request.partitions.iter().map(|(target, wanted)| session.upsert(target, *wanted)).collect();
        session.places.iter_mut().filter_map(|place| place.entry.as_mut()).for_each(|entry| entry.listing = 1);
        let fetch = SessionFetch { slots, listing: 1, ..SessionFetch::sessionless(request.partitions) };
        (session, fetch)
    }

    /// Takes an incremental request in. A session that is empty afterwards is to be closed, as Kafka does.
    pub fn resume(&mut self, request: &SessionRequest) -> Result<(), ErrorCode> {
        if self.next_epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if self.by_id != request.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        for (target, wanted) in &request.partitions {
            self.upsert(target, *wanted);
        }
        for target in &request.forgotten {
            self.remove(target);
        }
        self.next_epoch = request.epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// Partitions in the session.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no partition.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The partition at `slot` moved: the next listing has it. A slot of a partition that left the session is ignored.
    pub fn mark_moved(&mut self, slot: Slot) {
        if let Some(turn) = self.entry(slot).map(|entry| entry.turn) {
            self.ready.insert((turn, slot));
        }
    }

    /// Puts every partition on the ready-list: what the reader may see has changed.
    pub fn mark_all(&mut self) {
        let turn = |slot: &Slot| Some((self.entry(*slot)?.turn, *slot));
        self.ready = self.slots.values().filter_map(turn).collect();
    }

    /// The registration for moves of the partition at `slot`.
    pub fn watch(&self, slot: Slot) -> Option<&W> {
        self.entry(slot)?.watch.as_ref()
    }

    /// Replaces the registration of the partition at `slot`; drops the old one.
    pub fn set_watch(&mut self, slot: Slot, watch: Option<W>) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.watch = watch;
        }
    }

    /// What an incremental fetch reads now: the ready-list, in the order of reads.
    pub fn list_ready(&mut self) -> SessionFetch {
        self.listings += 1;
        let listing = self.listings;
        let ready = &self.ready;
        let mut fetch = SessionFetch {
            partitions: Vec::with_capacity(ready.len()),
            incremental: true,
            has_others: ready.len() < self.slots.len(),
            slots: Vec::with_capacity(ready.len()),
            listing,
        };
        for (_, slot) in ready {
            let place = self.places.get_mut(slot.index as usize).filter(|place| place.generation == slot.generation);
            if let Some(entry) = place.and_then(|place| place.entry.as_mut()) {
                entry.listing = listing;
                fetch.partitions.push((entry.target.clone(), entry.wanted));
                fetch.slots.push(*slot);
            }
        }
        fetch
    }

    /// Whether no other fetch listed after `fetch` did.
    pub fn is_latest(&self, fetch: &SessionFetch) -> bool {
        self.listings == fetch.listing
    }

    /// Ends a fetch: which of `statuses` (in the order of [`SessionFetch::partitions`]) belong into the answer. Partitions
    /// with records go to the end of the order, so that others get their turn.
    pub fn finish(&mut self, fetch: &SessionFetch, statuses: &[PartitionStatus]) -> Vec<bool> {
        let listed = fetch.slots.iter().zip(&fetch.partitions).zip(statuses);
        listed
            .map(|((slot, (_, wanted)), status)| {
                self.update_entry(*slot, wanted, status, fetch.listing) || !fetch.incremental
            })
            .collect()
    }

    /// Whether the answer has this partition.
    fn update_entry(&mut self, slot: Slot, wanted: &PartitionRequest, status: &PartitionStatus, listing: u64) -> bool {
        let turn = self.turns;
        let Some(entry) = self.entry_mut(slot) else { return true };
        let moved = entry.high_watermark != status.high_watermark || entry.log_start_offset != status.log_start_offset;
        if listing > entry.ignored {
            entry.high_watermark = status.high_watermark;
            entry.log_start_offset = status.log_start_offset;
        }
        let before = (entry.turn, slot);
        if status.must_report {
            entry.turn = turn;
        }
        let after = (entry.turn, slot);
        let is_latest = entry.listing == listing && entry.wanted == *wanted;
        self.turns += u64::from(status.must_report);
        self.ready.remove(&before);
        if !status.is_caught_up || !is_latest {
            self.ready.insert(after);
        }
        status.must_report || moved
    }

    /// Removes all partitions, and drops what the caller keeps for them.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.ready.clear();
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.entry.take().is_some() {
                self.free.extend(u32::try_from(index));
            }
        }
    }

    fn entry(&self, slot: Slot) -> Option<&Entry<W>> {
        let place = self.places.get(slot.index as usize).filter(|place| place.generation == slot.generation);
        place?.entry.as_ref()
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry<W>> {
        let place = self.places.get_mut(slot.index as usize).filter(|place| place.generation == slot.generation);
        place?.entry.as_mut()
    }

    /// A partition that the request names is on the ready-list, whether the client's parameters changed or not.
    fn upsert(&mut self, target: &FetchTarget, wanted: PartitionRequest) -> Slot {
        let known = self.slots.get(target).copied();
        let (repeats, listings) = (self.repeats, self.listings);
        if let Some((slot, entry)) = known.and_then(|slot| Some((slot, self.entry_mut(slot)?))) {
            entry.wanted = wanted;
            if repeats {
                (entry.ignored, entry.high_watermark, entry.log_start_offset) = (listings, -1, -1);
            }
            let turn = entry.turn;
            self.ready.insert((turn, slot));
            return slot;
        }
        let turn = self.turns;
        self.turns += 1;
        let slot = self.insert(Entry {
            target: target.clone(),
            wanted,
            high_watermark: -1,
            log_start_offset: -1,
            turn,
            listing: 0,
            ignored: 0,
            watch: None,
        });
        self.slots.insert(target.clone(), slot);
        self.ready.insert((turn, slot));
        slot
    }

    fn insert(&mut self, entry: Entry<W>) -> Slot {
        let reused = self.free.pop().and_then(|index| Some((index, self.places.get_mut(index as usize)?)));
        if let Some((index, place)) = reused {
            place.generation = place.generation.wrapping_add(1);
            place.entry = Some(entry);
            return Slot { index, generation: place.generation };
        }
        // A request names far fewer partitions than a u32 counts.
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { generation: 0, entry: Some(entry) });
        Slot { index, generation: 0 }
    }

    fn remove(&mut self, target: &FetchTarget) {
        let Some(slot) = self.slots.remove(target) else { return };
        let entry = self.places.get_mut(slot.index as usize).and_then(|place| place.entry.take());
        if let Some(entry) = entry {
            self.ready.remove(&(entry.turn, slot));
            self.free.push(slot.index);
        }
    }
}

#[cfg(test)]
mod tests;
