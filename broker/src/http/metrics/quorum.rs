//! Metrics of the metadata quorum: under the names of Kafka's raft-metrics, and with more detail under `esker_raft_`.

use super::gauges::Gauges;
use crate::raft::RaftStatus;

pub(super) fn register(status: &RaftStatus, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let leader = gauges.many("kafka_server_raftmetrics_current_leader", "Node that leads the quorum, -1: none", &[])?;
    leader.with_label_values::<&str>(&[]).set(status.leader.map_or(-1, i64::from));
    for (name, help, value) in [
        ("kafka_server_raftmetrics_current_epoch", "Term of the metadata quorum", count(status.term)),
        ("kafka_server_raftmetrics_high_watermark", "Entries of the metadata log committed", count(status.committed)),
        ("kafka_server_raftmetrics_log_end_offset", "Entries in this node's metadata log", count(status.entries)),
        ("kafka_server_raftmetrics_number_of_voters", "Nodes that vote", status.voters),
        ("kafka_server_raftmetrics_number_of_observers", "Nodes that follow without a vote", status.observers),
        ("esker_raft_term", "Term of the metadata quorum", count(status.term)),
        ("esker_raft_is_leader", "1 on the node that leads the metadata quorum", usize::from(status.is_leading)),
        ("esker_raft_log_entries", "Entries in this node's metadata log", count(status.entries)),
        ("esker_raft_committed_entries", "Of these committed, as far as this node knows", count(status.committed)),
        ("esker_raft_applied_entries", "Of these applied to this node's metadata", count(status.applied)),
        ("esker_raft_voters", "Nodes that vote", status.voters),
        ("esker_raft_members_changing", "1 while the members are being changed", usize::from(status.changing)),
    ] {
        gauges.set_one(name, help, value)?;
    }
    gauges.total(
        "esker_raft_leader_changes_total",
        "Times that this node saw another leader, or the same one in another term",
        status.leader_changes,
    )?;
    let lag = gauges.many(
        "esker_raft_voter_lag",
        "Entries of the metadata log that another voter lacks; the leader alone has rows",
        &["node"],
    )?;
    for (node, behind) in &status.lags {
        lag.with_label_values(&[&node.to_string()]).set(i64::try_from(*behind).unwrap_or(i64::MAX));
    }
    Ok(())
}
