//! What groups do: rebalances, commits, expired offsets.

use esker_core::group::{Kind, Reason};
use prometheus::{Error, IntCounter, IntCounterVec};

use super::counters::CounterSet;

/// Counters of groups.
#[derive(Debug, Clone)]
pub struct GroupMetrics {
    rebalances: IntCounterVec,
    consumer_rebalances: IntCounter,
    commits: IntCounter,
    expirations: IntCounter,
}

impl GroupMetrics {
    pub(super) fn new(set: &CounterSet) -> Result<Self, Error> {
        let help = "Rebalances of groups by what began them";
        let rebalances = set.counters("esker_group_rebalances_total", help, &["reason"])?;
        // Every reason has its row from the start: a rate needs a value before the first rebalance.
        for reason in Reason::ALL {
            rebalances.with_label_values(&[reason.name()]);
        }
        let counter =
            |name: &str, help: &str| set.counter(&format!("kafka_server_group_coordinator_metrics_{name}"), help);
        Ok(Self {
            rebalances,
            consumer_rebalances: counter("consumer_group_rebalance_count", "Rebalances of groups of KIP-848")?,
            commits: counter("offset_commit_count", "Offsets committed")?,
            expirations: counter("offset_expiration_count", "Offsets that lapsed")?,
        })
    }

    /// A rebalance began.
    pub fn rebalance(&self, kind: Kind, reason: Reason) {
        self.rebalances.with_label_values(&[reason.name()]).inc();
        if kind == Kind::Consumer {
            self.consumer_rebalances.inc();
        }
    }

    /// Rebalances of groups of KIP-848 since the start.
    pub fn consumer_rebalances(&self) -> u64 {
        self.consumer_rebalances.get()
    }

    /// So many offsets were committed.
    pub fn committed(&self, offsets: usize) {
        self.commits.inc_by(offsets as u64);
    }

    /// So many offsets lapsed.
    pub fn expired(&self, offsets: usize) {
        self.expirations.inc_by(offsets as u64);
    }
}
