//! Metrics of the metadata quorum: under the names of Kafka's raft-metrics, and with more detail under `esker_raft_`.

use tokio::time::Instant;

use super::scraper::Scraper;
use crate::broker::Broker;
use crate::raft::RaftStatus;
use crate::telemetry::{Kind, Page};

pub(super) fn write(broker: &Broker, status: &RaftStatus, scraper: &Scraper, page: &mut Page) {
    let now = Instant::now();
    broker.metadata.metrics().write(page, now);
    let leader = status.leader.map_or(-1, i64::from);
    page.gauge("kafka_server_raftmetrics_current_leader", "Node that leads the quorum, -1: none", leader);
    for (name, help, value) in [
        ("kafka_server_raftmetrics_current_epoch", "Term of the metadata quorum", status.term),
        ("kafka_server_raftmetrics_high_watermark", "Entries of the metadata log committed", status.committed),
        ("kafka_server_raftmetrics_log_end_offset", "Entries in this node's metadata log", status.entries),
        ("kafka_server_raftmetrics_number_of_voters", "Nodes that vote", status.voters as u64),
        ("kafka_server_raftmetrics_number_of_observers", "Nodes that follow without a vote", status.observers as u64),
        (
            "kafka_controller_kafkacontroller_lastappliedrecordoffset",
            "Entries applied to this node's metadata",
            status.applied,
        ),
        (
            "kafka_controller_kafkacontroller_lastcommittedrecordoffset",
            "Entries that this node knows to be committed",
            status.committed,
        ),
        (
            "kafka_controller_kafkacontroller_newactivecontrollerscount",
            "Times that this node saw another active controller",
            status.leader_changes,
        ),
        ("esker_raft_term", "Term of the metadata quorum", status.term),
        ("esker_raft_is_leader", "1 on the node that leads the metadata quorum", u64::from(status.is_leading)),
        ("esker_raft_log_entries", "Entries in this node's metadata log", status.entries),
        ("esker_raft_committed_entries", "Of these committed, as far as this node knows", status.committed),
        ("esker_raft_applied_entries", "Of these applied to this node's metadata", status.applied),
        ("esker_raft_voters", "Nodes that vote", status.voters as u64),
        ("esker_raft_members_changing", "1 while the members are being changed", u64::from(status.changing)),
    ] {
        page.gauge(name, help, value);
    }
    let lag = if status.is_leading { 0 } else { broker.session.metadata_lag(status.applied).as_millis() };
    let help = "Since when this node lacks entries of the metadata log that the controller has, ms";
    let name = "kafka_controller_kafkacontroller_lastappliedrecordlagms";
    page.gauge(name, help, u64::try_from(lag).unwrap_or(u64::MAX));
    let rate = scraper.rates.per_second("raft", status.entries as f64, broker.metrics.started, now);
    for (name, help, of_leader) in [
        ("append_records_rate", "Entries a second that this node appends as leader of the quorum", true),
        ("fetch_records_rate", "Entries a second that this node receives from the leader of the quorum", false),
    ] {
        let value = if status.is_leading == of_leader { rate } else { 0.0 };
        page.gauge(&format!("kafka_server_raftmetrics_{name}"), help, value);
    }
    let state = if status.is_leading {
        "leader"
    } else if status.leader.is_none() {
        "unattached"
    } else if status.votes {
        "follower"
    } else {
        "observer"
    };
    let name = "kafka_server_raftmetrics_current_state";
    let mut rows = page.family(name, Kind::Gauge, &["current_state"], "1, with the state of this node in the quorum");
    rows.add(&[state], 1_i64);
    drop(rows);
    let help = "Times that this node saw another leader, or the same one in another term";
    page.counter("esker_raft_leader_changes_total", help, status.leader_changes);
    let help = "Entries of the metadata log that another voter lacks; the leader alone has rows";
    let mut lags = page.family("esker_raft_voter_lag", Kind::Gauge, &["node"], help);
    for (node, behind) in &status.lags {
        lags.add(&[&node.to_string()], *behind);
    }
    drop(lags);
    let help = "Entries of the metadata log that an observer lacked at its last pull; the leader alone has rows";
    let mut lags = page.family("esker_raft_observer_lag", Kind::Gauge, &["node"], help);
    for (node, behind) in &status.observer_lags {
        lags.add(&[&node.to_string()], *behind);
    }
}
