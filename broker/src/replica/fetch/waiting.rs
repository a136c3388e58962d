//! Waiting for more: a parked fetch reads again when enough came in, when something must be answered, or when its time is over.
//!
//! A fetch without a session (and a session's full fetch) parks on each of its partitions. An incremental fetch parks on its
//! session's ready-list, however many partitions the session has, and reads what is on the list.
//!
//! Must never: loop past the deadline, or keep a registration when its future is dropped.

use std::sync::Arc;

use tokio::time::Instant;

use super::{ColdGate, FetchLimits, Pass, Wanted, read};
use crate::replica::partition::Partition;
use crate::replica::purgatory::{FetchWaiter, Place, ReadyList, SessionPark};
use crate::replica::read::ReadAt;

/// What a parked fetch reads, and how it learns of moves. A registration ends when the value is dropped.
trait Parked {
    fn waiter(&self) -> &FetchWaiter;
    fn wanted(&self) -> &[Wanted];
    fn limits(&self) -> &FetchLimits;
    /// Whether another pass may find something else than `pass` did.
    fn has_moved(&self, pass: &Pass) -> bool;
    /// Before another pass: what it reads. False if there is nothing to wait for any more.
    fn refresh(&mut self) -> bool;
}

/// A fetch's registrations with its partitions.
struct ParkedFetch<'a> {
    waiter: Arc<FetchWaiter>,
    wanted: &'a [Wanted],
    limits: &'a FetchLimits,
    /// One for each partition that can be read, in order.
    places: Vec<Place>,
}

impl<'a> ParkedFetch<'a> {
    fn on(wanted: &'a [Wanted], limits: &'a FetchLimits) -> Self {
        let mut parked = Self { waiter: FetchWaiter::new(), wanted, limits, places: Vec::with_capacity(wanted.len()) };
        for (partition, at) in readable(wanted) {
            parked.places.push(partition.park_fetch(at.bound, &parked.waiter));
        }
        parked
    }
}

impl Parked for ParkedFetch<'_> {
    fn waiter(&self) -> &FetchWaiter {
        &self.waiter
    }

    fn wanted(&self) -> &[Wanted] {
        self.wanted
    }

    fn limits(&self) -> &FetchLimits {
        self.limits
    }

    fn has_moved(&self, pass: &Pass) -> bool {
        pass.is_stale(self.wanted)
    }

    fn refresh(&mut self) -> bool {
        true
    }
}

impl Drop for ParkedFetch<'_> {
    fn drop(&mut self) {
        for ((partition, at), place) in readable(self.wanted).zip(self.places.drain(..)) {
            partition.unpark_fetch(at.bound, place);
        }
    }
}

fn readable(wanted: &[Wanted]) -> impl Iterator<Item = (&Arc<Partition>, &ReadAt)> {
    wanted.iter().filter_map(|want| Some((want.partition.as_ref().ok()?, &want.at)))
}

/// What an incremental fetch reads in one pass.
#[derive(Debug)]
pub struct ReadyRequests {
    /// The session's ready-list, in the order of reads.
    pub wanted: Vec<Wanted>,
    /// See [`FetchLimits::has_others`].
    pub has_others: bool,
}

/// An incremental fetch's registration with its session.
struct ParkedIncremental<'a, F> {
    park: SessionPark<'a>,
    ready: &'a ReadyList,
    wanted: Vec<Wanted>,
    limits: FetchLimits,
    list: F,
}

impl<F: FnMut() -> Option<ReadyRequests>> Parked for ParkedIncremental<'_, F> {
    fn waiter(&self) -> &FetchWaiter {
        &self.park.waiter
    }

    fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    fn limits(&self) -> &FetchLimits {
        &self.limits
    }

    fn has_moved(&self, pass: &Pass) -> bool {
        self.ready.has_moved() || pass.is_stale(&self.wanted)
    }

    fn refresh(&mut self) -> bool {
        let Some(requests) = (self.list)() else { return false };
        (self.wanted, self.limits.has_others) = (requests.wanted, requests.has_others);
        true
    }
}

/// Waits until there is enough (or time is over) and returns the last pass, which is as the partitions are then.
pub async fn wait_for_more(gate: &ColdGate, wanted: &[Wanted], limits: &FetchLimits, first: Pass) -> Pass {
    wait_on(gate, &mut ParkedFetch::on(wanted, limits), first).await
}

/// As [`wait_for_more`] for an incremental fetch, which reads what `list` returns at each pass: the partitions of the session
/// that are on its ready-list. `list` returns `None` when the session has ended; the fetch ends with what it has then.
/// Returns the last pass and what it read.
pub async fn wait_for_ready(
    gate: &ColdGate,
    ready: &ReadyList,
    (wanted, first): (Vec<Wanted>, Pass),
    limits: &FetchLimits,
    list: impl FnMut() -> Option<ReadyRequests>,
) -> (Vec<Wanted>, Pass) {
    let mut parked = ParkedIncremental { park: ready.park(), ready, wanted, limits: *limits, list };
    let pass = wait_on(gate, &mut parked, first).await;
    (parked.wanted, pass)
}

async fn wait_on(gate: &ColdGate, parked: &mut impl Parked, first: Pass) -> Pass {
    let deadline = Instant::now() + parked.limits().max_wait;
    let (mut pass, mut credited) = (first, 0);
    // What came before this fetch stood in the lists gave no credit: the ends show it.
    let mut is_stale = parked.has_moved(&pass);
    loop {
        let time_is_over = Instant::now() >= deadline;
        if is_stale {
            credited = parked.waiter().credited();
            if !parked.refresh() {
                return pass;
            }
            pass = read(gate, parked.wanted(), parked.limits()).await;
        }
        if time_is_over || pass.enough(parked.limits()) {
            return pass;
        }
        parked.waiter().arm(credited, parked.limits().min_bytes.saturating_sub(pass.bytes));
        let is_woken = tokio::time::timeout_at(deadline, parked.waiter().wait()).await.is_ok();
        is_stale = is_woken || parked.has_moved(&pass);
    }
}
