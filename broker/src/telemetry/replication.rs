//! Changes of in-sync replicas that this broker brought about as a leader.

use prometheus::{Error, IntCounter};

use super::counters::CounterSet;

/// Counters of in-sync replicas.
#[derive(Debug, Clone)]
pub struct ReplicationMetrics {
    /// Sets that became smaller.
    pub isr_shrinks: IntCounter,
    /// Sets that became larger.
    pub isr_expands: IntCounter,
    /// Changes that the controller refused.
    pub failed_isr_updates: IntCounter,
}

impl ReplicationMetrics {
    pub(super) fn new(set: &CounterSet) -> Result<Self, Error> {
        let counter = |name: &str, help: &str| set.counter(&format!("kafka_server_replicamanager_{name}_total"), help);
        Ok(Self {
            isr_shrinks: counter(
                "isrshrinks",
                "In-sync sets that lost a replica because it lagged; a fenced broker is taken out by the controller and not counted",
            )?,
            isr_expands: counter("isrexpands", "In-sync sets that a replica joined")?,
            failed_isr_updates: counter("failedisrupdates", "Changes of in-sync sets that the controller refused")?,
        })
    }
}
