//! A broker's lease: how long it may act on what it knows of the cluster without hearing from the active controller.
//!
//! A broker whose heartbeats are not answered may be fenced, and another may lead its partitions. It stops acknowledging before that can
//! be: the lease counts from when an answered heartbeat was sent, the controller's session from when it arrived, and the lease is
//! shorter. So a partitioned or paused leader never acknowledges beside a new one. Clocks of the two nodes need no agreement on the time, only on
//! its rate.
//!
//! Times are since any origin that the caller keeps to; the clock must go on while the machine is suspended.

use std::time::Duration;

/// The lease; one that was never renewed is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    length: Duration,
    renewed: Option<Duration>,
}

impl Lease {
    /// A lease of this length: shorter than the session timeout of the controller.
    pub fn new(length: Duration) -> Self {
        Self { length, renewed: None }
    }

    /// A lease below the session timeout by a fifth: room for clocks of different rates, and for requests in progress.
    pub fn of_session(timeout: Duration) -> Self {
        Self::new(timeout.saturating_sub(timeout / 5))
    }

    /// A heartbeat that was sent at `sent_at` was answered by the active controller.
    pub fn renewed(&mut self, sent_at: Duration) {
        self.renewed = self.renewed.max(Some(sent_at));
    }

    /// The lease is over: this broker was told that it is fenced, or has another epoch now.
    pub fn release(&mut self) {
        self.renewed = None;
    }

    /// Whether the broker may acknowledge.
    pub fn holds(&self, now: Duration) -> bool {
        self.expires_at().is_some_and(|end| now < end)
    }

    /// When it ends unless it is renewed.
    pub fn expires_at(&self) -> Option<Duration> {
        self.renewed.map(|renewed| renewed.saturating_add(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lease_counts_from_when_the_heartbeat_was_sent() {
        let mut lease = Lease::of_session(ms(600));
        assert!(!lease.holds(ms(0)) && lease.expires_at().is_none(), "no heartbeat was answered yet");
        lease.renewed(ms(100));
        assert!(lease.holds(ms(579)) && !lease.holds(ms(580)));
        lease.renewed(ms(300));
        lease.renewed(ms(200));
        assert_eq!(lease.expires_at(), Some(ms(780)), "a late answer to an earlier heartbeat shortens nothing");
        lease.release();
        assert!(!lease.holds(ms(301)));
    }

    #[test]
    fn a_lease_is_shorter_than_its_session() {
        for timeout in [1, 5, 600, 9000] {
            let mut lease = Lease::of_session(ms(timeout));
            lease.renewed(ms(0));
            assert!(lease.expires_at().unwrap() < ms(timeout), "{timeout}");
        }
    }
}
