//! The table of all metrics, `deploy/METRICS.md`, made from the families of a scrape: a metric that is served is in it, and no other.

use std::fmt::Write as _;

use crate::telemetry::Family;

const INTRO: &str = "\
# Metrics
`GET /metrics` on the HTTP listener (`--http`, port 9644) serves everything below in Prometheus' text format, compressed where the scraper accepts gzip.
Names are those that dashboards and alerts for Kafka know: of the JMX exporter with Strimzi's rules, of `kafka_exporter` (`kafka_consumergroup_lag`,
`kafka_topic_partition_*`), and of kminion (`kminion_*`); no exporter is needed beside Esker. `esker_*` is what Kafka does not have.

- Quantiles are of the last five minutes and right to a quarter; sums and counts are since the start.
- Rates a second are over the last minute. A scrape is a sample: they need scrapes at least that often.
- Rows about a partition come from its leader, rows about the whole cluster from the active controller: sums over brokers are right. Kafka's numbers over
  all partitions (`kafka_controller_*`) are on every node, as on Kafka's controllers.
- A metric has at most 50,000 rows on one broker. Rows beyond that are left out and counted in `esker_metrics_dropped_rows`. Names and versions of clients'
  software are bounded, too (`esker_client_software_dropped_total`).
- One scrape runs at a time, on a thread of its own.

This file is made by `GET /metrics/table`, and a test compares them.
";

/// Metrics of Kafka or its exporters that are not here, and why.
const NOT_SERVED: [(&str, &str); 18] = [
    ("jvm_memory_used_bytes", "there is no JVM; see `process_resident_memory_bytes`"),
    ("jvm_threads_current", "there is no JVM; see `process_threads`"),
    ("jvm_gc_collection_seconds", "there is no garbage collection; see `esker_worker_stalls_total`"),
    (
        "kafka_network_requestmetrics_temporarymemorybytes",
        "not measured; see `kafka_network_socketserver_memorypoolused`",
    ),
    (
        "kafka_network_requestmetrics_messageconversionstimems",
        "not measured; see `kafka_server_brokertopicmetrics_*messageconversions_total`",
    ),
    ("kafka_server_brokertopicmetrics_totalsharefetchrequests_total", "share groups are not served"),
    ("kafka_server_brokertopicmetrics_failedsharefetchrequests_total", "share groups are not served"),
    ("kafka_server_sharegroupmetrics_recordacknowledgements_total", "share groups are not served"),
    ("kafka_server_sharegroupmetrics_partitionloadtimems", "share groups are not served"),
    ("kafka_server_brokertopicmetrics_remotecopybytes_total", "there is no tiered storage"),
    ("kafka_server_quota_throttle_time", "quotas of clients are not served"),
    (
        "kafka_server_group_coordinator_metrics_event_queue_size",
        "the coordinator has no queue: a request is decided on the worker that read it",
    ),
    ("kafka_controller_kafkacontroller_*zookeeper*", "there is no ZooKeeper"),
    ("kminion_kafka_consumer_group_empty_members", "not counted; see `kminion_kafka_consumer_group_members`"),
    ("kminion_kafka_consumer_group_topic_members", "not counted; see `kminion_kafka_consumer_group_members`"),
    ("kminion_kafka_consumer_group_topic_assigned_partitions", "not counted"),
    (
        "kminion_kafka_consumer_group_offset_commits_total",
        "not counted by group; see `kafka_server_group_coordinator_metrics_offset_commit_count`",
    ),
    ("kafka_server_replicafetchermanager_minfetchrate", "not measured; see `esker_peer_received_bytes_total`"),
];

/// The whole file.
pub(in crate::http) fn table(families: &[Family]) -> String {
    let mut families: Vec<&Family> = families.iter().collect();
    families.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut text = INTRO.to_owned();
    text.push_str("\n| metric | type | labels | what it is |\n|---|---|---|---|\n");
    for Family { name, kind, labels, help } in families {
        let help = help.replace('|', "\\|");
        let _ = writeln!(text, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
    }
    text.push_str("\n## Not served\n| metric | reason |\n|---|---|\n");
    for (name, reason) in NOT_SERVED {
        let _ = writeln!(text, "| `{name}` | {reason} |");
    }
    text
}
