//! What replication is configured to on this broker.

use std::time::Duration;

/// The typed view of `replica.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// `replica.fetch.max.bytes`: of one partition.
    pub fetch_max_bytes: i32,
    /// `replica.fetch.response.max.bytes`: of one answer.
    pub response_max_bytes: i32,
    /// `replica.fetch.min.bytes`.
    pub min_bytes: i32,
    /// `replica.fetch.wait.max.ms`.
    pub wait_max_ms: i32,
    /// `replica.fetch.backoff.ms`: the longest pause after an error.
    pub backoff_max: Duration,
    /// `replica.socket.timeout.ms`: how long an answer may take.
    pub request_timeout: Duration,
    /// `replication.quota.window.num`.
    pub quota_samples: usize,
    /// `replication.quota.window.size.seconds`.
    pub quota_sample: Duration,
    /// `replica.selector.class` is the rack-aware one: consumers are sent to a follower in their rack (KIP-392).
    pub is_rack_aware: bool,
}

/// Kafka's own implementations of `replica.selector.class`.
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";
const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Whether a `replica.selector.class` is the rack-aware one, or what it may be.
pub(super) fn is_rack_aware(class: &str) -> Result<bool, String> {
    match class.trim() {
        "" | LEADER_SELECTOR => Ok(false),
        RACK_AWARE_SELECTOR => Ok(true),
        _ => Err(format!("no classes are loaded: set {LEADER_SELECTOR} or {RACK_AWARE_SELECTOR}")),
    }
}

impl ReplicationConfig {
    /// Reads it; `long` gives the value of a config by its name.
    pub(super) fn read(long: impl Fn(&str) -> i64, is_rack_aware: bool) -> Self {
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let duration = |name: &str| Duration::from_millis(u64::try_from(long(name)).unwrap_or_default());
        Self {
            lag_time_max: duration("replica.lag.time.max.ms"),
            fetch_max_bytes: int("replica.fetch.max.bytes"),
            response_max_bytes: int("replica.fetch.response.max.bytes"),
            min_bytes: int("replica.fetch.min.bytes"),
            wait_max_ms: int("replica.fetch.wait.max.ms"),
            backoff_max: duration("replica.fetch.backoff.ms"),
            request_timeout: duration("replica.socket.timeout.ms"),
            quota_samples: usize::try_from(long("replication.quota.window.num")).unwrap_or(1),
            quota_sample: Duration::from_secs(
                u64::try_from(long("replication.quota.window.size.seconds")).unwrap_or(1),
            ),
            is_rack_aware,
        }
    }
}
