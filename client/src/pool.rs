//! The connections of a client, by broker and purpose.
//!
//! Answers come in order, so a request that a broker may hold back (a fetch that waits for data, a join that waits for
//! members) would delay all behind it. Each producer, consumer and group member therefore has connections of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::connection::{Connection, Meant};
use crate::error::ConnectionError;
use crate::retry::Backoff;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Short requests of all callers.
    General,
    /// One producer, consumer or member of a group.
    Own(u64),
}

impl Purpose {
    /// A purpose that no other caller has.
    pub(crate) fn own() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Own(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    failures: u32,
    not_before: Option<Instant>,
    failure: Option<ConnectionError>,
}

type SlotKey = (String, Purpose);

/// The connections.
#[derive(Debug)]
pub(crate) struct Pool {
    config: ClientConfig,
    slots: Mutex<HashMap<SlotKey, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Pool {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self { config, slots: Mutex::new(HashMap::new()) }
    }

    /// A connection to `address`: the one that stands, or a new one. After a failure, attempts fail at once with
    /// the same error until the pause is over.
    pub(crate) async fn get(
        &self,
        address: &str,
        purpose: Purpose,
        meant: &Meant,
    ) -> Result<Arc<Connection>, ConnectionError> {
        let slot = Arc::clone(self.slots.lock().entry((address.to_owned(), purpose)).or_default());
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|c| c.is_open()) {
            return Ok(Arc::clone(connection));
        }
        slot.connection = None;
        if let (Some(at), Some(failure)) = (slot.not_before, &slot.failure)
            && Instant::now() < at
        {
            return Err(failure.clone());
        }
        match Connection::open(address, &self.config, meant).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *slot = Slot { connection: Some(Arc::clone(&connection)), ..Slot::default() };
                Ok(connection)
            }
            // A broker answers there: another one than is meant, and perhaps the one that is meant next.
            Err(error @ ConnectionError::Misrouted { .. }) => Err(error),
            Err(error) => {
                slot.not_before = Some(Instant::now() + self.pause(slot.failures));
                slot.failures = slot.failures.saturating_add(1);
                slot.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// A connection that stands already.
    pub(crate) fn existing_connection(&self, address: &str, purpose: Purpose) -> Option<Arc<Connection>> {
        let slot = Arc::clone(self.slots.lock().get(&(address.to_owned(), purpose))?);
        let slot = slot.try_lock().ok()?;
        slot.connection.as_ref().filter(|c| c.is_open()).map(Arc::clone)
    }

    /// Drops all connections of a purpose; they end when the last answer has come.
    pub(crate) fn forget(&self, purpose: Purpose) {
        self.slots.lock().retain(|(_, other), _| *other != purpose);
    }

    fn pause(&self, failures: u32) -> Duration {
        Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max).pause(failures)
    }
}
