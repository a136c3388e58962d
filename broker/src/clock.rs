//! The wall clock, read at the edge and passed inwards.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as Kafka's timestamps are.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
