//! Memory of the requests of all connections (`queued.max.request.bytes`).
//!
//! A connection reserves a request's bytes before it reads them, and returns them when the request is answered. Past the bound it
//! is not read from: the kernel's window closes and the client slows down. First come, first served. A request is reserved
//! whole, so one that is read in part can always be finished; one larger than the bound waits until it is alone. The first
//! [`FREE`] bytes of a connection are not counted: heartbeats and polls cost no atomic operation, and always get through.
//!
//! Must never hold a reservation for what is not in memory or on its way there: another connection may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use prometheus::IntCounter;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// Bytes of a connection that are not counted.
pub(super) const FREE: usize = 16 << 10;
/// The least that a bound may be.
const LEAST: u64 = 1 << 20;
/// Bytes per permit of the semaphore.
const UNIT: usize = 1 << 10;
/// Bytes that a connection may keep beyond its need while no other connection waits, so that a steady flow seldom changes its reservation.
const SPARE: u32 = 64;

/// The bound that all connections share.
#[derive(Debug)]
pub struct RequestMemory {
    units: Arc<Semaphore>,
    all: u32,
    waiting: AtomicUsize,
    waits: IntCounter,
}

impl RequestMemory {
    /// Room for `limit` bytes; `None` counts them without a bound.
    pub fn new(limit: Option<u64>, waits: IntCounter) -> Self {
        let units = limit.map_or(u64::MAX, |limit| limit.max(LEAST)) / UNIT as u64;
        let all = u32::try_from(units).unwrap_or(u32::MAX);
        let semaphore = Semaphore::new(usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS));
        Self { units: Arc::new(semaphore), all, waiting: AtomicUsize::new(0), waits }
    }

    /// Bytes that are reserved.
    pub fn in_flight(&self) -> usize {
        (self.all as usize).saturating_sub(self.units.available_permits()).saturating_mul(UNIT)
    }

    /// The bound in bytes.
    pub fn limit(&self) -> usize {
        (self.all as usize).saturating_mul(UNIT)
    }

    /// Connections that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What one connection has reserved; returned when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<RequestMemory>,
    queue: PollSemaphore,
    /// Units that it has.
    held: u32,
    /// Units that it waits for.
    awaited: Option<u32>,
}

impl Reservation {
    pub(super) fn new(memory: Arc<RequestMemory>) -> Self {
        let queue = PollSemaphore::new(Arc::clone(&memory.units));
        Self { memory, queue, held: 0, awaited: None }
    }

    /// Ready once `bytes` are reserved, or as many as there can be; `unanswered_bytes` of them are those of requests that are whole.
    /// During a wait only these are held, as they come free without one: two connections never wait for each other.
    pub(super) fn poll_reserve(&mut self, cx: &mut Context<'_>, unanswered_bytes: usize, bytes: usize) -> Poll<()> {
        let (need, kept) = (self.units(bytes), self.units(unanswered_bytes));
        loop {
            if need <= self.held {
                self.end_wait();
                return Poll::Ready(());
            }
            if self.awaited.is_none()
                && let Ok(permits) = self.memory.units.try_acquire_many(need - self.held)
            {
                permits.forget();
                self.held = need;
                return Poll::Ready(());
            }
            self.release(self.held.saturating_sub(kept));
            let missing = need - self.held;
            // A wait for enough keeps its place in the queue.
            if self.awaited.is_some_and(|awaited| awaited < missing) {
                self.end_wait();
            }
            if self.awaited.is_none() {
                self.memory.waiting.fetch_add(1, Ordering::Relaxed);
                self.memory.waits.inc();
            }
            let awaited = *self.awaited.get_or_insert(missing);
            let permits = ready!(self.queue.poll_acquire_many(cx, awaited));
            self.awaited = None;
            self.memory.waiting.fetch_sub(1, Ordering::Relaxed);
            // The semaphore is never closed.
            if let Some(permits) = permits {
                permits.forget();
                self.held += awaited;
            }
        }
    }

    fn end_wait(&mut self) {
        if self.awaited.take().is_some() {
            self.memory.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue = PollSemaphore::new(Arc::clone(&self.memory.units));
        }
    }

    /// Returns what is beyond `bytes`; a little may stay for the next request.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let surplus = self.held.saturating_sub(self.units(bytes));
        if surplus > SPARE || surplus > 0 && self.is_short() {
            self.release(surplus);
        }
    }

    /// Releases the bytes beyond `bytes`: the connection is quiet.
    pub(super) fn release_beyond(&mut self, bytes: usize) {
        self.release(self.held.saturating_sub(self.units(bytes)));
    }

    /// Whether any connection waits for room.
    pub(super) fn is_short(&self) -> bool {
        self.memory.waiting() > 0
    }

    /// Whether the connection holds bytes that another connection may wait for.
    pub(super) fn is_held(&self) -> bool {
        self.held > 0 && self.awaited.is_none()
    }

    fn units(&self, bytes: usize) -> u32 {
        let units = if bytes <= FREE { 0 } else { bytes.div_ceil(UNIT) };
        u32::try_from(units).unwrap_or(u32::MAX).min(self.memory.all)
    }

    fn release(&mut self, units: u32) {
        if units > 0 {
            self.held -= units;
            self.memory.units.add_permits(units as usize);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end_wait();
        self.release(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    fn memory(limit: usize) -> Arc<RequestMemory> {
        Arc::new(RequestMemory::new(Some(limit as u64), IntCounter::new("waits", "waits").unwrap()))
    }

    fn is_ready(reservation: &mut Reservation, bytes: usize) -> bool {
        is_ready_beside(reservation, 0, bytes)
    }

    /// With requests of `unanswered_bytes` bytes, and another of `bytes`.
    fn is_ready_beside(reservation: &mut Reservation, unanswered_bytes: usize, bytes: usize) -> bool {
        reservation
            .poll_reserve(&mut Context::from_waker(Waker::noop()), unanswered_bytes, unanswered_bytes + bytes)
            .is_ready()
    }

    #[test]
    fn small_requests_are_never_held_up() {
        let memory = memory(2 * MIB);
        let (mut a, mut b) = (Reservation::new(Arc::clone(&memory)), Reservation::new(Arc::clone(&memory)));
        assert!(is_ready(&mut a, 2 * MIB));
        assert!(is_ready(&mut b, FREE));
        assert!(!is_ready(&mut b, FREE + 1));
        assert_eq!((memory.in_flight(), memory.waiting(), memory.waits.get()), (2 * MIB, 1, 1));
    }

    #[test]
    fn the_queue_is_fair_and_a_request_larger_than_the_bound_goes_alone() {
        let memory = memory(MIB);
        let mut all: Vec<_> = (0..4).map(|_| Reservation::new(Arc::clone(&memory))).collect();
        assert!(is_ready(&mut all[0], 600 * KIB));
        assert!(!is_ready(&mut all[1], 100 * MIB));
        assert!(!is_ready(&mut all[2], 100 * KIB), "it would fit, but another came first");
        all[0].shrink(0);
        assert!(!is_ready(&mut all[2], 100 * KIB));
        assert!(is_ready(&mut all[1], 100 * MIB));
        assert!(!is_ready(&mut all[3], 20 * KIB));
        all.remove(1);
        assert!(is_ready(&mut all[1], 100 * KIB));
        assert!(is_ready(&mut all[2], 20 * KIB));
        drop(all);
        assert_eq!((memory.in_flight(), memory.waiting()), (0, 0));
    }

    #[test]
    fn two_connections_never_wait_for_each_other() {
        for (unanswered_bytes, next) in
            [(512 * KIB, 800 * KIB), (512 * KIB, 300 * KIB), (400 * KIB, MIB), (500 * KIB, 9 * MIB)]
        {
            for first_answered in [0, 1] {
                let memory = memory(MIB);
                let mut both = [Reservation::new(Arc::clone(&memory)), Reservation::new(Arc::clone(&memory))];
                assert!(both.iter_mut().all(|one| is_ready(one, unanswered_bytes)));
                // Each reads another request while the first is worked on; then these are answered, one by one.
                assert!(!both.iter_mut().any(|one| is_ready_beside(one, unanswered_bytes, next)));
                let mut ready = is_ready(&mut both[first_answered], next);
                ready |= is_ready(&mut both[1 - first_answered], next);
                ready |= is_ready(&mut both[first_answered], next);
                assert!(ready, "one of the two goes on with {next} after {unanswered_bytes}");
                both.iter_mut().filter(|one| one.awaited.is_none()).for_each(|one| one.shrink(0));
                assert!(both.iter_mut().any(|one| is_ready(one, next)));
                drop(both);
                assert_eq!((memory.in_flight(), memory.waiting()), (0, 0));
            }
        }
    }

    #[test]
    fn a_dropped_connection_leaves_the_queue() {
        let memory = memory(MIB);
        let (mut a, mut b) = (Reservation::new(Arc::clone(&memory)), Reservation::new(Arc::clone(&memory)));
        let mut c = Reservation::new(Arc::clone(&memory));
        assert!(is_ready(&mut a, MIB));
        assert!(!is_ready(&mut b, MIB));
        assert!(!is_ready(&mut c, 100 * KIB));
        drop(b);
        a.shrink(512 * KIB);
        assert!(is_ready(&mut c, 100 * KIB));
        assert_eq!((memory.in_flight(), memory.waiting()), (612 * KIB, 0));
    }

    #[test]
    fn without_a_bound_bytes_are_only_counted() {
        let memory = Arc::new(RequestMemory::new(None, IntCounter::new("waits", "waits").unwrap()));
        let mut all: Vec<_> = (0..100).map(|_| Reservation::new(Arc::clone(&memory))).collect();
        assert!(all.iter_mut().all(|one| is_ready(one, 100 * MIB)));
        assert_eq!(memory.in_flight(), 100 * 100 * MIB);
    }
}
