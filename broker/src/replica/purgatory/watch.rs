//! Fetch sessions that watch partitions: a partition that moves is added to the ready-list of each session.
//!
//! A watch lasts as long as its partition is in the session, so an append looks for watches whether a fetch is parked or
//! not. A partition that is on the list already costs a load for each watch.
//!
//! No move is lost. A partition publishes its new ends *before* it looks for watches. A session removes a partition from the list
//! *before* it reads it ([`ReadyList::take_moved`]), and registers a watch *before* the first read. A sequentially consistent fence
//! stands between the two on either side. All moves of one partition are reported under the lock of its list of watches, and each
//! adds the partition to the ready-list before it credits bytes to a parked fetch.
//!
//! Order of locks: the watches of a partition, then the ready-list. Must never: read a partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use esker_core::fetch_session::Slot;
use parking_lot::Mutex;

use super::places::{Place, Places};
use super::waiter::{FetchWaiter, Progress};
use crate::replica::read::ReadBound;

/// One partition of one session.
#[derive(Debug)]
struct Mark {
    slot: Slot,
    bound: ReadBound,
    /// It is in [`ReadyList::moved`].
    is_listed: AtomicBool,
}

/// The partitions of one fetch session that moved since the session last looked, and the fetches parked on the session.
#[derive(Debug, Default)]
pub struct ReadyList {
    moved: Mutex<Vec<Arc<Mark>>>,
    /// Length of `parked`; read without its lock.
    parked_count: AtomicUsize,
    parked: Mutex<Places<Arc<FetchWaiter>>>,
}

impl ReadyList {
    /// The partitions that moved, each once. Reads that begin after this call see these moves.
    pub fn take_moved(&self) -> Vec<Slot> {
        let moved = std::mem::take(&mut *self.moved.lock());
        let slots = moved.iter().map(|mark| {
            mark.is_listed.store(false, Ordering::SeqCst);
            mark.slot
        });
        let slots = slots.collect();
        fence(Ordering::SeqCst);
        slots
    }

    /// Fetches parked on the session.
    pub fn parked(&self) -> usize {
        self.parked_count.load(Ordering::SeqCst)
    }

    /// Wakes every parked fetch.
    pub fn wake_parked(&self) {
        self.parked.lock().iter().for_each(|waiter| waiter.wake());
    }

    pub(in super::super) fn has_moved(&self) -> bool {
        !self.moved.lock().is_empty()
    }

    /// Parks a fetch. The caller must check [`ReadyList::has_moved`] after this call. The registration ends with the guard.
    pub(in super::super) fn park(&self) -> SessionPark<'_> {
        let waiter = FetchWaiter::new();
        let mut parked = self.parked.lock();
        let place = parked.insert(Arc::clone(&waiter));
        self.parked_count.store(parked.len(), Ordering::SeqCst);
        drop(parked);
        fence(Ordering::SeqCst);
        SessionPark { ready: self, waiter, place }
    }

    fn report(&self, mark: &Arc<Mark>, bytes: i64) {
        if !mark.is_listed.load(Ordering::SeqCst) && !mark.is_listed.swap(true, Ordering::SeqCst) {
            self.moved.lock().push(Arc::clone(mark));
        }
        if bytes > 0 && self.parked_count.load(Ordering::SeqCst) > 0 {
            self.parked.lock().iter().for_each(|waiter| waiter.credit(bytes));
        }
    }
}

/// A fetch parked on a session.
#[derive(Debug)]
pub(in super::super) struct SessionPark<'a> {
    ready: &'a ReadyList,
    /// The waiter of the fetch.
    pub(in super::super) waiter: Arc<FetchWaiter>,
    place: Place,
}

impl Drop for SessionPark<'_> {
    fn drop(&mut self) {
        let mut parked = self.ready.parked.lock();
        parked.remove(self.place);
        self.ready.parked_count.store(parked.len(), Ordering::SeqCst);
    }
}

/// The sessions that watch one partition.
#[derive(Debug, Default)]
pub(super) struct Watches {
    count: AtomicUsize,
    list: Mutex<Places<(Arc<ReadyList>, Arc<Mark>)>>,
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn insert(&self, ready: &Arc<ReadyList>, slot: Slot, bound: ReadBound) -> Place {
        let mark = Mark { slot, bound, is_listed: AtomicBool::new(false) };
        let mut list = self.list.lock();
        let place = list.insert((Arc::clone(ready), Arc::new(mark)));
        self.count.store(list.len(), Ordering::Release);
        drop(list);
        fence(Ordering::SeqCst);
        place
    }

    pub(super) fn remove(&self, place: Place) {
        let mut list = self.list.lock();
        list.remove(place);
        self.count.store(list.len(), Ordering::Release);
    }

    /// Reports a move to the sessions that it concerns: a session reports the high watermark whatever its bound is.
    pub(super) fn report(&self, progress: Progress) {
        if self.is_empty() {
            return;
        }
        for (ready, mark) in self.list.lock().iter() {
            let bytes = progress.below(mark.bound);
            if bytes > 0 || progress.high_watermark > 0 || progress.moves_high_watermark {
                ready.report(mark, bytes);
            }
        }
    }
}
