//! Waiting fetches: a parked fetch reads again when enough bytes became readable, when it must be answered, or at its deadline.
//!
//! A fetch without a session (and a session's full fetch) parks on each of its partitions. An incremental fetch parks on its
//! session's ready-list, however many partitions the session has, and reads the partitions on the list.
//!
//! Must never: loop past the deadline, or keep a registration when its future is dropped.

use std::sync::Arc;

use tokio::time::Instant;

use super::{ColdGate, FetchLimits, ReadPass, ReadRequest, read_any};
use crate::replica::partition::Partition;
use crate::replica::purgatory::{FetchWaiter, Place, ReadyList, SessionPark};
use crate::replica::read::ReadAt;

/// The requests of a parked fetch, and its registration for wake-ups. The registration ends when the value is dropped.
trait Parked {
    fn waiter(&self) -> &FetchWaiter;
    fn requests(&self) -> &[ReadRequest];
    fn limits(&self) -> &FetchLimits;
    /// Whether another pass may have another result than `pass`.
    fn has_moved(&self, pass: &ReadPass) -> bool;
    /// Updates the requests before another pass. False if there is nothing to wait for any more.
    fn refresh(&mut self) -> bool;
}

/// A fetch's registrations with its partitions.
struct ParkedFetch<'a> {
    waiter: Arc<FetchWaiter>,
    requests: &'a [ReadRequest],
    limits: &'a FetchLimits,
    /// One for each partition that can be read, in order.
    places: Vec<Place>,
}

impl<'a> ParkedFetch<'a> {
    fn register(requests: &'a [ReadRequest], limits: &'a FetchLimits) -> Self {
        let mut parked =
            Self { waiter: FetchWaiter::new(), requests, limits, places: Vec::with_capacity(requests.len()) };
        for (partition, at) in readable(requests) {
            parked.places.push(partition.park_fetch(at.bound, &parked.waiter));
        }
        parked
    }
}

impl Parked for ParkedFetch<'_> {
    fn waiter(&self) -> &FetchWaiter {
        &self.waiter
    }

    fn requests(&self) -> &[ReadRequest] {
        self.requests
    }

    fn limits(&self) -> &FetchLimits {
        self.limits
    }

    fn has_moved(&self, pass: &ReadPass) -> bool {
        pass.is_stale(self.requests)
    }

    fn refresh(&mut self) -> bool {
        true
    }
}

impl Drop for ParkedFetch<'_> {
    fn drop(&mut self) {
        for ((partition, at), place) in readable(self.requests).zip(self.places.drain(..)) {
            partition.unpark_fetch(at.bound, place);
        }
    }
}

fn readable(requests: &[ReadRequest]) -> impl Iterator<Item = (&Arc<Partition>, &ReadAt)> {
    requests.iter().filter_map(|request| Some((request.partition.as_ref().ok()?, &request.at)))
}

/// The requests of one pass of an incremental fetch.
#[derive(Debug)]
pub struct ReadyRequests {
    /// The session's ready-list, in the order of reads.
    pub requests: Vec<ReadRequest>,
    /// See [`FetchLimits::has_others`].
    pub has_others: bool,
}

/// An incremental fetch's registration with its session.
struct ParkedIncremental<'a, F> {
    park: SessionPark<'a>,
    ready: &'a ReadyList,
    requests: Vec<ReadRequest>,
    limits: FetchLimits,
    list: F,
}

impl<F: FnMut() -> Option<ReadyRequests>> Parked for ParkedIncremental<'_, F> {
    fn waiter(&self) -> &FetchWaiter {
        &self.park.waiter
    }

    fn requests(&self) -> &[ReadRequest] {
        &self.requests
    }

    fn limits(&self) -> &FetchLimits {
        &self.limits
    }

    fn has_moved(&self, pass: &ReadPass) -> bool {
        self.ready.has_moved() || pass.is_stale(&self.requests)
    }

    fn refresh(&mut self) -> bool {
        let Some(requests) = (self.list)() else { return false };
        (self.requests, self.limits.has_others) = (requests.requests, requests.has_others);
        true
    }
}

/// Waits until enough bytes are readable, or until the deadline, and returns the last pass, which has the current state of the
/// partitions.
pub async fn wait_for_more(
    gate: &ColdGate,
    requests: &[ReadRequest],
    limits: &FetchLimits,
    first: ReadPass,
) -> ReadPass {
    wait_for_wakeups(gate, &mut ParkedFetch::register(requests, limits), first).await
}

/// As [`wait_for_more`] for an incremental fetch. Each pass reads the requests that `list` returns: the partitions of the session
/// that are on its ready-list. `list` returns `None` when the session has ended; the fetch then ends with its last pass. Returns
/// the last requests and their pass.
pub async fn wait_for_ready(
    gate: &ColdGate,
    ready: &ReadyList,
    (requests, first): (Vec<ReadRequest>, ReadPass),
    limits: &FetchLimits,
    list: impl FnMut() -> Option<ReadyRequests>,
) -> (Vec<ReadRequest>, ReadPass) {
    let mut parked = ParkedIncremental { park: ready.park(), ready, requests, limits: *limits, list };
    let pass = wait_for_wakeups(gate, &mut parked, first).await;
    (parked.requests, pass)
}

async fn wait_for_wakeups(gate: &ColdGate, parked: &mut impl Parked, first: ReadPass) -> ReadPass {
    let deadline = Instant::now() + parked.limits().max_wait;
    let (mut pass, mut credited) = (first, 0);
    // Appends before the registration gave no credit: compare the offsets.
    let mut is_stale = parked.has_moved(&pass);
    loop {
        let time_is_over = Instant::now() >= deadline;
        if is_stale {
            credited = parked.waiter().credited();
            if !parked.refresh() {
                return pass;
            }
            pass = read_any(gate, parked.requests(), parked.limits()).await;
        }
        if time_is_over || pass.is_enough(parked.limits()) {
            return pass;
        }
        parked.waiter().arm(credited, parked.limits().min_bytes.saturating_sub(pass.bytes));
        let is_woken = tokio::time::timeout_at(deadline, parked.waiter().wait()).await.is_ok();
        is_stale = is_woken || parked.has_moved(&pass);
    }
}
