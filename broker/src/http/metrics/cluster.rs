//! Metrics of the cluster: of the partitions that this broker leads or follows, of all brokers and partitions as its metadata has them, and of its
//! own place among them.
//!
//! The numbers over all brokers and partitions are the same on every node; Kafka has them on controllers. Rows about single brokers and topics, as an
//! exporter has them, come from the active controller alone.

use std::sync::Arc;

use esker_core::config::TopicConfig;
use esker_core::health::count_cluster;
use esker_core::metadata::MetadataImage;

use super::quorum;
use super::scraper::Scraper;
use crate::broker::Broker;
use crate::replica::{Partition, Role};
use crate::telemetry::{Kind, Page};

/// The partitions here, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReplicaCounts {
    led: usize,
    under_replicated: usize,
    under_min_isr: usize,
    at_min_isr: usize,
    reassigning: usize,
    offline: usize,
    /// Followers here: what the one lacks that lacks most.
    max_lag: i64,
    /// Followers of what is led here: records, and ms.
    follower_lag: (i64, i64),
}

/// Kafka's rules: a replica that a reassignment adds does not count as missing.
fn count_replicas(broker: &Broker, partitions: &[Arc<Partition>]) -> ReplicaCounts {
    let image = broker.metadata.image();
    let mut counts = ReplicaCounts::default();
    for partition in partitions {
        counts.offline += usize::from(partition.log().is_offline());
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
            let (records, ms) = leader.worst_lag(partition.log().log_end_offset());
            counts.follower_lag = (counts.follower_lag.0.max(records), counts.follower_lag.1.max(ms));
        }
    }
    counts
}

pub(super) fn write(broker: &Broker, partitions: &[Arc<Partition>], scraper: &Scraper, page: &mut Page) {
    write_replicas(broker, partitions, page);
    let quorum = broker.metadata.raft_status();
    write_controller(broker, quorum.is_leading, page);
    let image = broker.metadata.image();
    let image = quorum.is_leading.then_some(&*image);
    write_brokers(broker, image, page);
    write_topics(broker, image, page);
    quorum::write(broker, &quorum, scraper, page);
    write_session(broker, page);
}

fn write_replicas(broker: &Broker, partitions: &[Arc<Partition>], page: &mut Page) {
    let counts = count_replicas(broker, partitions);
    for (name, help, value) in [
        ("partitioncount", "Partitions on this broker", partitions.len()),
        ("leadercount", "Partitions that this broker leads", counts.led),
        (
            "underreplicatedpartitions",
            "Partitions led here of which a replica is not in sync: more than 0 for long calls for an operator",
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
        ("offlinereplicacount", "Replicas here that lie on a failed log dir", counts.offline),
    ] {
        page.gauge(&format!("kafka_server_replicamanager_{name}"), help, value);
    }
    let manager = |name: &str| format!("kafka_server_replicafetchermanager_{name}");
    let help = "Records that the follower here which lacks most lacks of what its leader has committed";
    let failing = broker.replicas.failing_partitions();
    for (name, help, value) in [
        ("maxlag", help, counts.max_lag),
        ("failedpartitionscount", "Partitions whose last answer from their leader was an error", to_i64(failing)),
        (
            "deadthreadcount",
            "Fetchers that ended by a fault and have not started again",
            to_i64(broker.replicas.dead_fetchers()),
        ),
    ] {
        page.family(&manager(name), Kind::Gauge, &["clientId"], help).add(&["Replica"], value);
    }
    page.gauge("esker_replication_lag_records", help, counts.max_lag);
    let help = "Records that the follower lacks that is furthest behind, of the partitions led here";
    page.gauge("esker_follower_lag_records", help, counts.follower_lag.0);
    let help = "Since when the follower lacks records that is behind for longest, of the partitions led here, seconds";
    page.gauge("esker_follower_lag_seconds", help, counts.follower_lag.1 as f64 / 1000.0);
}

fn to_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn write_controller(broker: &Broker, is_leading: bool, page: &mut Page) {
    let image = broker.metadata.image();
    let counts = count_cluster(&image);
    for (name, help, value) in [
        ("globaltopiccount", "Topics in the cluster", image.topic_count()),
        ("globalpartitioncount", "Partitions in the cluster", counts.partitions),
        (
            "offlinepartitionscount",
            "Partitions of the cluster without a leader: more than 0 calls for an operator",
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
        page.gauge(&format!("kafka_controller_kafkacontroller_{name}"), help, value);
    }
}

/// One row for each broker, from the active controller.
fn write_brokers(broker: &Broker, image: Option<&MetadataImage>, page: &mut Page) {
    let brokers = || image.into_iter().flat_map(MetadataImage::brokers);
    let help = "Brokers of the cluster that are not fenced; from the active controller";
    let mut rows = page.family("kafka_brokers", Kind::Gauge, &[], help);
    if image.is_some() {
        rows.add(&[], brokers().filter(|broker| !broker.fenced).count());
    }
    drop(rows);
    let at = |found: &esker_core::metadata::BrokerImage| {
        let listener = found.listeners.first();
        (listener.map_or(String::new(), |at| at.host.to_string()), listener.map_or(0, |at| at.port).to_string())
    };
    let help = "1 for each registered broker; from the active controller";
    let mut rows = page.family("kafka_broker_info", Kind::Gauge, &["address", "id"], help);
    for found in brokers() {
        let (host, port) = at(found);
        rows.add(&[&format!("{host}:{port}"), &found.node_id.to_string()], 1_i64);
    }
    drop(rows);
    let labels = ["address", "broker_id", "is_controller", "port", "rack_id"];
    let mut rows = page.family("kminion_kafka_broker_info", Kind::Gauge, &labels, help);
    for found in brokers() {
        let ((host, port), id) = (at(found), found.node_id.to_string());
        let is_controller = (found.node_id == broker.node_id).to_string();
        rows.add(&[&host, &id, &is_controller, &port, found.rack.as_deref().unwrap_or_default()], 1_i64);
    }
    drop(rows);
    let labels = ["broker_count", "cluster_id", "cluster_version", "controller_id"];
    let help = "1, with facts about the cluster; from the active controller";
    let mut rows = page.family("kminion_kafka_cluster_info", Kind::Gauge, &labels, help);
    if image.is_some() {
        let (count, id) = (brokers().count().to_string(), broker.node_id.to_string());
        rows.add(&[&count, &broker.cluster_id, concat!("esker-", env!("CARGO_PKG_VERSION")), &id], 1_i64);
    }
}

/// Rows by topic, from the active controller.
fn write_topics(broker: &Broker, image: Option<&MetadataImage>, page: &mut Page) {
    let topics = || image.into_iter().flat_map(MetadataImage::topics);
    let help = "Partitions of a topic; from the active controller";
    let mut rows = page.family("kafka_topic_partitions", Kind::Gauge, &["topic"], help);
    topics().for_each(|topic| rows.add(&[&topic.name], topic.partitions.len()));
    drop(rows);
    let labels = ["cleanup_policy", "partition_count", "replication_factor", "topic_name"];
    let help = "1, with facts about a topic; from the active controller";
    let mut rows = page.family("kminion_kafka_topic_info", Kind::Gauge, &labels, help);
    for topic in topics() {
        let replication = topic.partitions.iter().next().map_or(0, |first| first.replicas.len()).to_string();
        let policy = image.map_or_else(String::new, |image| {
            let configs = TopicConfig::resolve(image, broker.node_id, &broker.config.statics, &topic.name);
            cleanup_policy(&configs)
        });
        rows.add(&[&policy, &topic.partitions.len().to_string(), &replication, &topic.name], 1_i64);
    }
}

fn cleanup_policy(configs: &TopicConfig) -> String {
    let policies = [("compact", configs.compact), ("delete", configs.delete)];
    policies.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

fn write_session(broker: &Broker, page: &mut Page) {
    let state = broker.service_state();
    for (name, help, value) in [
        ("fenced", "1 while the controller has fenced this broker: it leads nothing", state.fenced),
        ("isolated", "1 while this broker has no lease: it acknowledges nothing", state.isolated),
    ] {
        page.gauge(&format!("esker_broker_{name}"), help, value);
    }
    let help =
        "Until this broker stops acknowledging unless the active controller answers; no row where there is no end";
    let mut lease = page.family("esker_broker_lease_remaining_seconds", Kind::Gauge, &[], help);
    if let Some(left) = broker.session.lease_remaining() {
        lease.add(&[], left.as_secs_f64());
    }
    drop(lease);
    let applied = broker.replicas.applied_image().offset();
    let metadata = |name: &str| format!("kafka_server_brokermetadatametrics_{name}");
    let help = "Entries of the metadata log that are in force on this broker";
    page.gauge(&metadata("last_applied_record_offset"), help, applied);
    let lag = broker.session.metadata_lag(applied);
    let help = "Since when this broker lacks entries of the metadata log that the controller has, ms";
    page.gauge(&metadata("last_applied_record_lag_ms"), help, u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
    let help = "Partitions, topics and configs whose newest metadata could not be put in force on this broker";
    page.gauge(&metadata("metadata_apply_error_count"), help, broker.metrics.apply_errors.get());
    let help = "Replicas that belong to this broker and that it cannot serve; it tries again twice a second";
    page.gauge("esker_partitions_unserved", help, broker.replicas.unserved_partitions());
}
