//! The replication quotas of this broker (KIP-73): what it sends to followers as a leader, and what it fetches as a follower.
//!
//! Without a quota nothing is counted, and no lock is taken. The rules are in [`esker_core::replication`]. Must never: be asked about a replica
//! that is in sync.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_core::replication::RateWindow;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::ReplicationConfig;

/// One quota and what was counted towards it.
#[derive(Debug)]
pub struct ReplicationQuota {
    /// Bytes a second; [`UNLIMITED`] for none.
    limit: AtomicU64,
    origin: Instant,
    window: Mutex<RateWindow>,
}

const UNLIMITED: u64 = u64::MAX;

impl ReplicationQuota {
    fn new(config: &ReplicationConfig) -> Self {
        let window = RateWindow::new(config.quota_samples, config.quota_sample);
        Self { limit: AtomicU64::new(UNLIMITED), origin: Instant::now(), window: Mutex::new(window) }
    }

    /// Sets `*.replication.throttled.rate`; the highest number is none.
    pub(super) fn set_limit(&self, bytes_per_second: i64) {
        let limit = if bytes_per_second == i64::MAX { UNLIMITED } else { u64::try_from(bytes_per_second).unwrap_or(0) };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.limit.load(Ordering::Relaxed) != UNLIMITED
    }

    /// Counts bytes of a throttled replica.
    pub fn record(&self, bytes: usize) {
        if self.is_limited() {
            self.window.lock().record(self.now_ms(), u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// How long replicas that are throttled have to wait; zero if they do not.
    pub fn pause(&self) -> Duration {
        match self.limit.load(Ordering::Relaxed) {
            UNLIMITED => Duration::ZERO,
            limit => self.window.lock().time_until_within(self.now_ms(), limit),
        }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Both quotas.
#[derive(Debug)]
pub struct ReplicationQuotas {
    /// `leader.replication.throttled.rate`.
    pub leader: ReplicationQuota,
    /// `follower.replication.throttled.rate`.
    pub follower: ReplicationQuota,
}

impl ReplicationQuotas {
    /// Without limits.
    pub(super) fn new(config: &ReplicationConfig) -> Self {
        Self { leader: ReplicationQuota::new(config), follower: ReplicationQuota::new(config) }
    }
}
