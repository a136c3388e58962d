//! The judgement: pure rules from facts to findings. Each check has at least one finding.

mod disks;
mod groups;
mod network;
mod nodes;
mod quorum;
mod replicas;
#[cfg(test)]
pub(super) mod test_facts;
mod transactions;

use super::facts::Facts;
use super::finding::Finding;

/// All findings, check by check.
pub(super) fn diagnose(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Vec<Finding>; 10] = [
        network::check_addresses,
        replicas::check_replication,
        replicas::check_racks,
        replicas::check_durability,
        disks::check_disks,
        quorum::check_voters,
        groups::check_groups,
        transactions::check_transactions,
        nodes::check_clocks,
        nodes::check_files,
    ];
    checks.iter().flat_map(|check| check(facts)).collect()
}
