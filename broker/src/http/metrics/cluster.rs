//! Metrics of the cluster: of the partitions that this broker leads or follows, of all brokers and partitions as its metadata has them, and of its
//! own place among them.
//!
//! The numbers over all brokers and partitions are the same on every node; Kafka has them on controllers.

use std::sync::Arc;

use esker_core::health::count_cluster;

use super::gauges::Gauges;
use super::quorum;
use crate::broker::Broker;
use crate::replica::{Partition, Role};

/// The partitions here, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReplicaCounts {
    led: usize,
    under_replicated: usize,
    under_min_isr: usize,
    at_min_isr: usize,
    reassigning: usize,
    max_lag: i64,
}

/// Kafka's rules: a replica that a reassignment adds does not count as missing.
fn count_replicas(broker: &Broker, partitions: &[Arc<Partition>]) -> ReplicaCounts {
    let image = broker.metadata.image();
    let mut counts = ReplicaCounts::default();
    for partition in partitions {
        let role = partition.role();
        let Role::Leader(leader) = &*role else {
            counts.max_lag = counts.max_lag.max(partition.replication_lag().unwrap_or_default());
            continue;
        };
        let (replicas, isr) = (leader.assignment.replicas.len(), leader.assignment.isr.len());
        let min_isr = leader.min_in_sync();
        counts.led += 1;
        counts.under_min_isr += usize::from(isr < min_isr);
        counts.at_min_isr += usize::from(isr == min_isr);
        // An assignment without followers is not being changed.
        if replicas > 1 {
            let adding = image.partition(partition.id()).map_or(0, |partition| partition.adding.len());
            counts.reassigning += usize::from(adding > 0);
            counts.under_replicated += usize::from(isr < replicas.saturating_sub(adding));
        }
    }
    counts
}

pub(super) fn register(
    broker: &Broker,
    partitions: &[Arc<Partition>],
    gauges: &Gauges,
) -> Result<(), prometheus::Error> {
    replicas(broker, partitions, gauges)?;
    let quorum = broker.metadata.raft_status();
    controller(broker, quorum.is_leading, gauges)?;
    quorum::register(&quorum, gauges)?;
    session(broker, gauges)
}

fn replicas(broker: &Broker, partitions: &[Arc<Partition>], gauges: &Gauges) -> Result<(), prometheus::Error> {
    let counts = count_replicas(broker, partitions);
    for (name, help, value) in [
        ("partitioncount", "Partitions on this broker", partitions.len()),
        ("leadercount", "Partitions that this broker leads", counts.led),
        (
            "underreplicatedpartitions",
            "Partitions led here of which a replica is not in sync: more than 0 for long calls for somebody",
            counts.under_replicated,
        ),
        (
            "underminisrpartitioncount",
            "Partitions led here with fewer in-sync replicas than min.insync.replicas: acks=all is refused",
            counts.under_min_isr,
        ),
        (
            "atminisrpartitioncount",
            "Partitions led here with as many in-sync replicas as min.insync.replicas: none may fail",
            counts.at_min_isr,
        ),
        ("reassigningpartitions", "Partitions led here to which a reassignment adds replicas", counts.reassigning),
    ] {
        gauges.set_one(&format!("kafka_server_replicamanager_{name}"), help, value)?;
    }
    let help = "Records that the follower here which lacks most lacks of what its leader has committed";
    let lag = gauges.many("kafka_server_replicafetchermanager_maxlag", help, &["clientId"])?;
    lag.with_label_values(&["Replica"]).set(counts.max_lag);
    gauges.set_one("esker_replication_lag_records", help, usize::try_from(counts.max_lag).unwrap_or_default())
}

fn controller(broker: &Broker, is_leading: bool, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let image = broker.metadata.image();
    let counts = count_cluster(&image);
    for (name, help, value) in [
        ("globaltopiccount", "Topics in the cluster", image.topic_count()),
        ("globalpartitioncount", "Partitions in the cluster", counts.partitions),
        (
            "offlinepartitionscount",
            "Partitions of the cluster without a leader: more than 0 calls for somebody",
            counts.offline,
        ),
        (
            "preferredreplicaimbalancecount",
            "Partitions of the cluster that their preferred replica does not lead",
            counts.not_preferred,
        ),
        ("activebrokercount", "Brokers that are not fenced", counts.live_brokers),
        ("fencedbrokercount", "Registered brokers that are fenced", counts.fenced_brokers),
        ("controlledshutdownbrokercount", "Brokers that are shutting down", counts.shutting_down),
        ("activecontrollercount", "1 on the active controller: the sum over the cluster is 1", usize::from(is_leading)),
    ] {
        gauges.set_one(&format!("kafka_controller_kafkacontroller_{name}"), help, value)?;
    }
    Ok(())
}

fn session(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let state = broker.service_state();
    for (name, help, value) in [
        ("fenced", "1 while the controller has fenced this broker: it leads nothing", state.fenced),
        ("isolated", "1 while this broker has no lease: it acknowledges nothing", state.isolated),
    ] {
        gauges.set_one(&format!("esker_broker_{name}"), help, usize::from(value))?;
    }
    let lease = gauges.fine(
        "esker_broker_lease_remaining_seconds",
        "Until this broker stops acknowledging unless the active controller answers; no row where there is no end",
        &[],
    )?;
    if let Some(left) = broker.session.lease_remaining() {
        lease.with_label_values::<&str>(&[]).set(left.as_secs_f64());
    }
    Ok(())
}
