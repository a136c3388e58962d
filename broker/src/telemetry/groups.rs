//! What groups do.

use esker_core::group::Reason;
use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of groups.
#[derive(Debug, Clone)]
pub struct GroupMetrics {
    rebalances: IntCounterVec,
}

impl GroupMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Rebalances of groups by what began them";
        let rebalances = IntCounterVec::new(Opts::new("esker_group_rebalances_total", help), &["reason"])?;
        // Every reason has its row from the start: a rate needs a value before the first rebalance.
        for reason in Reason::ALL {
            rebalances.with_label_values(&[reason.name()]);
        }
        registry.register(Box::new(rebalances.clone()))?;
        Ok(Self { rebalances })
    }

    /// A rebalance began.
    pub fn rebalance(&self, reason: Reason) {
        self.rebalances.with_label_values(&[reason.name()]).inc();
    }
}
