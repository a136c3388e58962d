//! Requests that wait for a partition to move: fetches for bytes, `acks=all` produces for the high watermark,
//! DeleteRecords for the low watermark.
//!
//! A waiter is one allocation shared by all partitions it waits on. A partition that moves costs a few atomic loads when there is
//! no waiter; it never runs a waiter's request itself, it only wakes it. A registration ends when the request's future is dropped
//! for any reason (an answer, a time-out, a closed connection, a panic): its guard ([`super::fetch::wait_for_more`],
//! [`super::partition::PendingCommit`] and [`super::partition::PendingDeletion`] hold one) removes it, so that the lists contain only live requests.
//!
//! No wake-up is lost: a partition publishes its new end *before* it looks for waiters, a waiter enters the list
//! *before* it looks at the ends once more, and a sequentially consistent fence stands between the two on either side.
//!
//! Must never: hold a list's lock across an await, or wake while holding anything but that lock (and a partition's `appending`, where a
//! leadership ends).

mod commit;
mod deletion;
mod fetch;
mod places;
mod waiter;
mod watch;

pub use commit::CommitGate;
pub(super) use commit::CommitWaiters;
pub(super) use deletion::DeletionWaiters;
pub(super) use fetch::FetchWaiters;
pub(super) use places::Place;
pub(super) use waiter::{EVERYTHING, FetchWaiter, Progress};
pub use watch::ReadyList;
pub(super) use watch::SessionPark;
