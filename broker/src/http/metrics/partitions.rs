//! Metrics by partition. The log's rows are those of each replica here; rows about the partition come from its leader alone, so that a sum over
//! brokers is the cluster's, as with an exporter. Partitions without a leader have their rows from the active controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_core::metadata::{NO_LEADER, PartitionImage};

use crate::broker::Broker;
use crate::replica::{Partition, Role};
use crate::telemetry::{Kind, Page, labels_text};

/// What a scrape reads of one replica, in one look.
struct Row {
    topic: String,
    index: String,
    labels: String,
    size: u64,
    start: i64,
    end: i64,
    high_watermark: i64,
    last_stable: i64,
    segments: usize,
    /// -1: no limit.
    retention_bytes: i64,
    damaged: usize,
    /// Of a follower: whom it follows, and what it lacks.
    behind: Option<(i32, i64)>,
    led: Option<Led>,
}

/// What the leader of a partition knows of it.
struct Led {
    leader: i32,
    replicas: usize,
    in_sync: usize,
    min_in_sync: usize,
    is_preferred: bool,
    is_under_replicated: bool,
}

fn partition_labels(topic: &str, index: &str) -> String {
    labels_text([("partition", index), ("topic", topic)].into_iter())
}

fn read(partition: &Partition, adding: usize) -> Row {
    let (log, index) = (partition.log(), partition.index().to_string());
    let role = partition.role();
    let led = match &*role {
        Role::Leader(leader) => {
            let (replicas, in_sync) = (leader.assignment.replicas.len(), leader.assignment.isr.len());
            Some(Led {
                leader: leader.assignment.leader,
                replicas,
                in_sync,
                min_in_sync: leader.min_in_sync(),
                is_preferred: leader.assignment.replicas.first() == Some(&leader.assignment.leader),
                is_under_replicated: in_sync < replicas.saturating_sub(adding),
            })
        }
        _ => None,
    };
    let leader = role.assignment().map_or(NO_LEADER, |assignment| assignment.leader);
    Row {
        topic: partition.topic().to_owned(),
        labels: partition_labels(partition.topic(), &index),
        index,
        size: log.size_bytes(),
        start: log.log_start_offset(),
        end: log.log_end_offset(),
        high_watermark: log.high_watermark(),
        last_stable: log.last_stable_offset(),
        segments: log.segment_count(),
        retention_bytes: log.config().retention_bytes,
        damaged: log.damaged_ranges().len(),
        behind: partition.replication_lag().map(|lag| (leader, lag)),
        led,
    }
}

/// Writes all of them.
pub(super) fn write(broker: &Broker, partitions: &[Arc<Partition>], is_leading: bool, page: &mut Page) {
    let image = broker.metadata.image();
    let adding = |partition: &Partition| match partition.role().assignment() {
        // An assignment without followers is not being changed.
        Some(assignment) if assignment.replicas.len() > 1 => {
            image.partition(partition.id()).map_or(0, |found| found.adding.len())
        }
        _ => 0,
    };
    let rows: Vec<Row> = partitions.iter().map(|partition| read(partition, adding(partition))).collect();
    write_logs(&rows, page);
    write_led(&rows, page);
    let leaderless = || {
        let all = image.topics().flat_map(|topic| {
            topic.partitions.iter().enumerate().map(move |(index, found)| (topic.name.as_str(), index, found))
        });
        all.filter(|(_, _, found)| is_leading && found.leader == NO_LEADER)
    };
    let leaderless: Vec<(String, &PartitionImage)> = match is_leading && image.led_count(NO_LEADER) > 0 {
        true => {
            leaderless().map(|(topic, index, found)| (partition_labels(topic, &index.to_string()), found)).collect()
        }
        false => Vec::new(),
    };
    write_exporter(&rows, &leaderless, page);
    write_kminion(broker, &rows, page);
    write_followed(&rows, page);
}

const LABELS: [&str; 2] = ["partition", "topic"];

fn each((rows, page): (&[Row], &mut Page), (name, help): (&str, &str), value: impl Fn(&Row) -> Option<i64>) {
    let mut family = page.family(name, Kind::Gauge, &LABELS, help);
    for row in rows {
        if let Some(value) = value(row) {
            family.add_labeled(&row.labels, value);
        }
    }
}

fn to_i64<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn write_logs(rows: &[Row], page: &mut Page) {
    type Look = fn(&Row) -> Option<i64>;
    let families: [(&str, &str, Look); 6] = [
        ("kafka_log_log_size", "Bytes of a replica's log", |row| Some(to_i64(row.size))),
        ("kafka_log_log_logstartoffset", "First offset of a replica's log", |row| Some(row.start)),
        ("kafka_log_log_logendoffset", "Next offset of a replica's log", |row| Some(row.end)),
        ("kafka_log_log_numlogsegments", "Segments of a replica's log", |row| Some(to_i64(row.segments))),
        (
            "kafka_log_log_retentionsizein_percent",
            "Size of a replica's log in percent of retention.bytes; logs without that limit have no row",
            |row| {
                let limit = u64::try_from(row.retention_bytes).ok()?;
                row.size.saturating_mul(100).checked_div(limit).map(to_i64)
            },
        ),
        (
            "esker_log_damaged_ranges",
            "Ranges of a log that were on disk and cannot be read any more; partitions without any have no row",
            |row| (row.damaged > 0).then(|| to_i64(row.damaged)),
        ),
    ];
    for (name, help, look) in families {
        each((rows, page), (name, help), look);
    }
    let damaged: usize = rows.iter().map(|row| row.damaged).sum();
    page.gauge("esker_damaged_ranges", "Damaged ranges of all logs: more than 0 calls for an operator", damaged);
}

fn write_led(rows: &[Row], page: &mut Page) {
    type Look = fn(&Row, &Led) -> i64;
    let families: [(&str, &str, Look); 6] = [
        ("underreplicated", "1 while a replica is not in sync", |_, led| i64::from(led.is_under_replicated)),
        ("underminisr", "1 with fewer in-sync replicas than min.insync.replicas: acks=all is refused", |_, led| {
            i64::from(led.in_sync < led.min_in_sync)
        }),
        ("atminisr", "1 with as many in-sync replicas as min.insync.replicas: none may fail", |_, led| {
            i64::from(led.in_sync == led.min_in_sync)
        }),
        ("insyncreplicascount", "In-sync replicas", |_, led| to_i64(led.in_sync)),
        ("replicascount", "Replicas", |_, led| to_i64(led.replicas)),
        ("laststableoffsetlag", "Records between the last stable offset and the high watermark", |row, _| {
            row.high_watermark.saturating_sub(row.last_stable).max(0)
        }),
    ];
    for (name, help, look) in families {
        let name = format!("kafka_cluster_partition_{name}");
        each((rows, page), (&name, help), |row| Some(look(row, row.led.as_ref()?)));
    }
}

/// The names of danielqsj/kafka_exporter.
fn write_exporter(rows: &[Row], leaderless: &[(String, &PartitionImage)], page: &mut Page) {
    type Look = fn(&Row, &Led) -> i64;
    type Leaderless = fn(&PartitionImage) -> Option<i64>;
    let families: [(&str, &str, Look, Leaderless); 7] = [
        ("current_offset", "High watermark", |row, _| row.high_watermark, |_| None),
        ("oldest_offset", "First offset", |row, _| row.start, |_| None),
        ("leader", "Node that leads, -1: none", |_, led| i64::from(led.leader), |_| Some(-1)),
        ("replicas", "Replicas", |_, led| to_i64(led.replicas), |found| Some(to_i64(found.replicas.len()))),
        ("in_sync_replica", "In-sync replicas", |_, led| to_i64(led.in_sync), |found| Some(to_i64(found.isr.len()))),
        (
            "leader_is_preferred",
            "1 while the preferred replica leads",
            |_, led| i64::from(led.is_preferred),
            |_| Some(0),
        ),
        (
            "under_replicated_partition",
            "1 while a replica is not in sync",
            |_, led| i64::from(led.is_under_replicated),
            |_| Some(1),
        ),
    ];
    for (name, help, look, without) in families {
        let name = format!("kafka_topic_partition_{name}");
        let mut family = page.family(&name, Kind::Gauge, &LABELS, help);
        for row in rows {
            if let Some(led) = &row.led {
                family.add_labeled(&row.labels, look(row, led));
            }
        }
        for (labels, found) in leaderless {
            if let Some(value) = without(found) {
                family.add_labeled(labels, value);
            }
        }
    }
}

/// The names of kminion.
fn write_kminion(broker: &Broker, rows: &[Row], page: &mut Page) {
    let led = || rows.iter().filter(|row| row.led.is_some());
    let labels = ["partition_id", "topic_name"];
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let texts: Vec<String> = led()
        .map(|row| labels_text([("partition_id", row.index.as_str()), ("topic_name", row.topic.as_str())].into_iter()))
        .collect();
    for row in led() {
        let sum = sums.entry(&row.topic).or_default();
        *sum = (sum.0.saturating_add(row.start), sum.1.saturating_add(row.high_watermark));
    }
    let mut low = page.family("kminion_kafka_topic_partition_low_water_mark", Kind::Gauge, &labels, "First offset");
    led().zip(&texts).for_each(|(row, text)| low.add_labeled(text, row.start));
    drop(low);
    let mut high = page.family("kminion_kafka_topic_partition_high_water_mark", Kind::Gauge, &labels, "High watermark");
    led().zip(&texts).for_each(|(row, text)| high.add_labeled(text, row.high_watermark));
    drop(high);
    let help = "First offsets of a topic's partitions that this broker leads, added up";
    let mut low = page.family("kminion_kafka_topic_low_water_mark_sum", Kind::Gauge, &["topic_name"], help);
    sums.iter().for_each(|(topic, (start, _))| low.add(&[topic], *start));
    drop(low);
    let help = "High watermarks of a topic's partitions that this broker leads, added up";
    let mut high = page.family("kminion_kafka_topic_high_water_mark_sum", Kind::Gauge, &["topic_name"], help);
    sums.iter().for_each(|(topic, (_, end))| high.add(&[topic], *end));
    drop(high);
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    rows.iter().for_each(|row| *sizes.entry(&row.topic).or_default() += row.size);
    let help = "Bytes of a topic's replicas on this broker";
    let mut family = page.family("kminion_kafka_topic_log_dir_size_total_bytes", Kind::Gauge, &["topic_name"], help);
    sizes.iter().for_each(|(topic, size)| family.add(&[topic], *size));
    drop(family);
    let labels = ["address", "broker_id", "port", "rack_id"];
    let help = "Bytes of this broker's logs";
    let mut family = page.family("kminion_kafka_broker_log_dir_size_total_bytes", Kind::Gauge, &labels, help);
    let image = broker.metadata.image();
    if let Some(own) = image.broker(broker.node_id) {
        let (id, port) = (own.node_id.to_string(), own.listeners.first().map_or(0, |at| at.port).to_string());
        let host = own.listeners.first().map_or("", |at| at.host.as_str());
        let size: u64 = sizes.values().sum();
        family.add(&[host, &id, &port, own.rack.as_deref().unwrap_or_default()], size);
    }
}

fn write_followed(rows: &[Row], page: &mut Page) {
    let labels = ["clientId", "partition", "topic"];
    let help = "Records that a follower here lacks of what its leader has committed";
    let mut family = page.family("kafka_server_fetcherlagmetrics_consumerlag", Kind::Gauge, &labels, help);
    for row in rows {
        if let Some((leader, lag)) = row.behind {
            family.add(&[&format!("ReplicaFetcherThread-0-{leader}"), &row.index, &row.topic], lag);
        }
    }
}
