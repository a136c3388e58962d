//! The registration of this broker with the active controller, and its lease on it.
//!
//! Heartbeats (`cluster::heartbeat`) renew the lease; what a leader or a coordinator answers depends on it. A read costs three clocks and
//! two loads: the lease goes on while the machine is suspended, as the controller's time does. Must never: renew by itself.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use esker_core::health::ControllerContact;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::raft::QuorumView;

/// The registration of this broker, and whether it may act on it.
#[derive(Debug)]
pub struct BrokerSession {
    epoch: AtomicI64,
    /// Times of the lease are since then.
    origin: Instant,
    /// How long the machine had been suspended by then.
    suspended_before: Duration,
    /// How long it has been suspended since its boot.
    suspended: fn() -> Duration,
    /// When the lease ends, in µs since `origin`; 0: there is none.
    lease_end: AtomicU64,
    fenced: AtomicBool,
    /// How much of the metadata log the controller has in force, by its last answer.
    controller_offset: AtomicU64,
    /// Why the last heartbeat has no answer that counts.
    failure: Mutex<Option<String>>,
    /// An offset of the metadata log that was not in force here when the controller had it, and when that was.
    behind: Mutex<Option<(u64, Instant)>>,
    stale: watch::Sender<bool>,
}

impl Default for BrokerSession {
    fn default() -> Self {
        Self::new(suspended)
    }
}

/// How long this machine has been suspended since its boot: Linux' monotonic clock, which tokio reads, stands still meanwhile.
fn suspended() -> Duration {
    let read = |clock: ClockId| {
        let time = clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}

impl BrokerSession {
    fn new(suspended: fn() -> Duration) -> Self {
        Self {
            epoch: AtomicI64::new(-1),
            origin: Instant::now(),
            suspended_before: suspended(),
            suspended,
            lease_end: AtomicU64::new(0),
            fenced: AtomicBool::new(true),
            controller_offset: AtomicU64::new(0),
            failure: Mutex::default(),
            behind: Mutex::default(),
            stale: watch::Sender::new(false),
        }
    }

    /// The broker is registered under this epoch. Its lease begins with the first heartbeat that is answered.
    pub fn registered(&self, epoch: i64, fenced: bool) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.fenced.store(fenced, Ordering::SeqCst);
        self.stale.send_replace(false);
    }

    /// The epoch of the registration, -1 before it.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Whether the lease has ended: nothing may be acknowledged. This is by the clock: a process that was paused finds so before its next
    /// heartbeat.
    pub fn is_isolated(&self) -> bool {
        let now = u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX);
        now >= self.lease_end.load(Ordering::Relaxed)
    }

    /// How long the lease lasts; `None`: it has no end.
    pub fn lease_remaining(&self) -> Option<Duration> {
        let end = self.lease_end.load(Ordering::Relaxed);
        (end != NO_END).then(|| Duration::from_micros(end).saturating_sub(self.now()))
    }

    /// How much of the metadata log the controller had in force when it last answered.
    pub fn controller_offset(&self) -> u64 {
        self.controller_offset.load(Ordering::Relaxed)
    }

    /// The controller has so much of the metadata log in force, this broker so much.
    pub fn set_controller_offset(&self, offset: u64, applied: u64) {
        self.controller_offset.store(offset, Ordering::Relaxed);
        let mut behind = self.behind.lock();
        let is_behind = behind.is_some_and(|(target, _)| applied < target);
        if !is_behind {
            *behind = (applied < offset).then(|| (offset, Instant::now()));
        }
    }

    /// Since when this broker, which has so much of the metadata log in force, lacks what the controller has.
    pub fn metadata_lag(&self, applied: u64) -> Duration {
        let behind = *self.behind.lock();
        behind.filter(|(target, _)| applied < *target).map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Why the last heartbeat has no answer that counts.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// The active controller of `view`, and how the last heartbeat to it went.
    pub fn contact(&self, view: &QuorumView) -> ControllerContact {
        let others = view.voters().filter(|voter| Some(voter.id) != view.own && Some(voter.id) != view.leader);
        let voters = || others.map(|voter| (voter.id.node_id, voter.address.to_string())).collect();
        let failure = self.failure();
        let Some(leader) = view.leader else { return ControllerContact::NoLeader { voters: voters() } };
        // A leader refuses its own heartbeats when no majority confirms it.
        if view.is_leading() && failure.is_some() {
            return ControllerContact::NoMajority { voters: voters() };
        }
        let address = view.leader_address().unwrap_or("an address that is not known").to_owned();
        ControllerContact::Leader { node_id: leader.node_id, address, failure, voters: voters() }
    }

    /// The last heartbeat has no answer that counts, or it has one.
    pub fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock() = failure;
    }

    /// When the lease ends, in the time of [`BrokerSession::now`]; `None`: there is none.
    pub fn set_lease(&self, end: Option<Duration>) {
        let end = end.map_or(0, |end| u64::try_from(end.as_micros()).unwrap_or(NO_END));
        self.lease_end.store(end, Ordering::SeqCst);
    }

    /// Whether the controller said so last.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// The controller says so.
    pub fn set_fenced(&self, fenced: bool) {
        self.fenced.store(fenced, Ordering::SeqCst);
    }

    /// Time as the lease counts it.
    pub fn now(&self) -> Duration {
        let suspended = (self.suspended)().saturating_sub(self.suspended_before);
        // Two clocks are not read at one moment: what is less than a millisecond is that.
        self.origin
            .elapsed()
            .saturating_add(Duration::from_secs(suspended.as_secs()))
            .saturating_add(Duration::from_millis(u64::from(suspended.subsec_millis())))
    }

    /// The registration is not the one that counts any more.
    pub fn set_stale(&self) {
        self.stale.send_replace(true);
    }

    /// Waits until the registration is not the one that counts any more.
    pub async fn stale(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.stale.subscribe().wait_for(|stale| *stale).await;
    }
}

/// The lease has no end.
const NO_END: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    static SUSPENDED: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_lease_ends_while_the_machine_is_suspended() {
        let session = BrokerSession::new(|| Duration::from_millis(7_000 + SUSPENDED.load(Ordering::SeqCst)));
        assert!(session.is_isolated(), "there is no lease");
        let lease = Duration::from_secs(1000);
        session.set_lease(Some(session.now() + lease));
        assert!(!session.is_isolated());
        SUSPENDED.store(500_000, Ordering::SeqCst);
        let left = session.lease_remaining().unwrap();
        assert!(!session.is_isolated() && left <= lease / 2 && left > lease / 4, "{left:?}");
        SUSPENDED.store(1_000_000, Ordering::SeqCst);
        assert!(session.is_isolated());
        assert_eq!(session.lease_remaining(), Some(Duration::ZERO));
        session.set_lease(Some(session.now() + lease));
        assert!(!session.is_isolated());
    }

    #[test]
    fn the_clocks_of_this_machine_can_be_compared() {
        let (one, other) = (suspended(), suspended());
        assert!(one.abs_diff(other) < Duration::from_secs(1), "{one:?} {other:?}");
    }
}
