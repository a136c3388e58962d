//! Groups that this broker coordinates, how far they are behind, and the partitions of both coordinators.

use std::collections::BTreeMap;

use esker_core::group::GroupOverview;
use tokio::time::Instant;

use super::scraper::Scraper;
use crate::broker::Broker;
use crate::coordinator::GroupLag;
use crate::telemetry::{Kind, Page, labels_text};

/// Kafka's states of classic groups, as its gauges are called.
const CLASSIC: [(&str, &str); 5] = [
    ("Stable", "kafka_coordinator_group_groupmetadatamanager_numgroupsstable"),
    ("Empty", "kafka_coordinator_group_groupmetadatamanager_numgroupsempty"),
    ("Dead", "kafka_coordinator_group_groupmetadatamanager_numgroupsdead"),
    ("PreparingRebalance", "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance"),
    ("CompletingRebalance", "kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance"),
];

pub(super) fn write(broker: &Broker, scraper: &Scraper, page: &mut Page) {
    let (mut groups, mut offsets) = (Vec::new(), 0);
    for shard in broker.groups.shards() {
        // What is still loading has none to show.
        let _ = shard.read(|shard| {
            groups.extend(shard.overviews());
            offsets += shard.offset_count();
        });
    }
    write_counts(&groups, offsets, page);
    write_coordinators(broker, page);
    let (now, metrics) = (Instant::now(), &broker.metrics);
    let rebalances = metrics.groups.consumer_rebalances() as f64;
    let rate = scraper.rates.per_second("rebalances", rebalances, metrics.started, now);
    let name = "kafka_server_group_coordinator_metrics_consumer_group_rebalance_rate";
    page.gauge(name, "Rebalances of groups of KIP-848 a second", rate);
    write_members(broker, &groups, page);
    write_lags(broker, scraper, page);
}

fn write_counts(groups: &[GroupOverview], offsets: usize, page: &mut Page) {
    let count = |is: &dyn Fn(&GroupOverview) -> bool| groups.iter().filter(|group| is(group)).count();
    let name = "kafka_server_group_coordinator_metrics_group_count";
    let mut rows = page.family(name, Kind::Gauge, &["protocol"], "Groups that this broker coordinates");
    for kind in ["classic", "consumer"] {
        rows.add(&[kind], count(&|group| group.kind == kind));
    }
    drop(rows);
    let name = "kafka_server_group_coordinator_metrics_consumer_group_count";
    let mut rows = page.family(name, Kind::Gauge, &["state"], "Groups of KIP-848 that this broker coordinates");
    for state in ["Empty", "Assigning", "Reconciling", "Stable", "Dead"] {
        rows.add(&[&state.to_lowercase()], count(&|group| group.kind == "consumer" && group.state == state));
    }
    drop(rows);
    let name = "kafka_coordinator_group_groupmetadatamanager_numgroups";
    page.gauge(name, "Classic groups that this broker coordinates", count(&|group| group.kind == "classic"));
    for (state, name) in CLASSIC {
        let classic = count(&|group| group.kind == "classic" && group.state == state);
        page.gauge(name, "Classic groups in this state", classic);
    }
    page.gauge("kafka_coordinator_group_groupmetadatamanager_numoffsets", "Committed offsets", offsets);
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    groups.iter().for_each(|group| *states.entry(group.state).or_default() += 1);
    let mut rows = page.family("esker_groups", Kind::Gauge, &["state"], "Groups by state");
    states.iter().for_each(|(state, count)| rows.add(&[state], *count));
}

fn write_coordinators(broker: &Broker, page: &mut Page) {
    let name = "kafka_server_group_coordinator_metrics_num_partitions";
    let help = "Partitions of __consumer_offsets that this broker leads";
    let mut rows = page.family(name, Kind::Gauge, &["state"], help);
    let shards = broker.groups.shards();
    for state in ["loading", "active", "failed"] {
        rows.add(&[state], shards.iter().filter(|shard| shard.state() == Some(state)).count());
    }
    drop(rows);
    let loads = [("group", broker.groups.longest_load_ms()), ("transaction", broker.transactions.longest_load_ms())];
    for (of, longest) in loads {
        let name = format!("kafka_server_{of}_coordinator_metrics_partition_load_time_max");
        page.gauge(&name, "Milliseconds that the slowest load of a partition took since the start", longest);
    }
}

fn write_members(broker: &Broker, groups: &[GroupOverview], page: &mut Page) {
    let help = "Members of a group";
    for (name, label) in
        [("kafka_consumergroup_members", "consumergroup"), ("kminion_kafka_consumer_group_members", "group_id")]
    {
        let mut rows = page.family(name, Kind::Gauge, &[label], help);
        groups.iter().for_each(|group| rows.add(&[&group.group], group.members));
    }
    let labels = ["coordinator_id", "group_id", "protocol", "protocol_type", "state"];
    let help = "1, with facts about a group";
    let mut rows = page.family("kminion_kafka_consumer_group_info", Kind::Gauge, &labels, help);
    let own = broker.node_id.to_string();
    for group in groups {
        rows.add(&[&own, &group.group, &group.protocol, &group.protocol_type, group.state], 1_i64);
    }
}

fn write_lags(broker: &Broker, scraper: &Scraper, page: &mut Page) {
    let mut lags = broker.groups.lags(&broker.replicas);
    for row in lags.iter_mut().filter(|row| row.lag.is_none()) {
        row.lag = scraper.ends.of(&row.topic, row.partition).map(|end| (end - row.committed).max(0));
    }
    let ages = scraper.ages.of(&lags, &broker.replicas, broker.now_ms());
    let partitions: Vec<String> = lags.iter().map(|row| row.partition.to_string()).collect();
    let labels = ["consumergroup", "partition", "topic"];
    let texts: Vec<String> = lags
        .iter()
        .zip(&partitions)
        .map(|(row, partition)| {
            let values = [row.group.as_str(), partition, row.topic.as_str()];
            labels_text(labels.into_iter().zip(values))
        })
        .collect();
    let name = "kafka_consumergroup_current_offset";
    let mut rows = page.family(name, Kind::Gauge, &labels, "Committed offset of a group");
    lags.iter().zip(&texts).for_each(|(row, text)| rows.add_labeled(text, row.committed));
    drop(rows);
    let help = "Records between a group's committed offset and the high watermark";
    let mut rows = page.family("kafka_consumergroup_lag", Kind::Gauge, &labels, help);
    for (row, text) in lags.iter().zip(&texts) {
        if let Some(lag) = row.lag {
            rows.add_labeled(text, lag);
        }
    }
    drop(rows);
    let name = "kafka_consumergroup_lag_seconds";
    let help_age = "How old the first record is that a group has not consumed; 0 if there is none";
    let mut rows = page.family(name, Kind::Gauge, &labels, help_age);
    for (age, text) in ages.iter().zip(&texts) {
        if let Some(ms) = age {
            rows.add_labeled(text, *ms as f64 / 1000.0);
        }
    }
    drop(rows);
    let labels = ["group_id", "partition_id", "topic_name"];
    let name = "kminion_kafka_consumer_group_topic_partition_lag";
    let mut rows = page.family(name, Kind::Gauge, &labels, help);
    for (row, partition) in lags.iter().zip(&partitions) {
        if let Some(lag) = row.lag {
            rows.add(&[&row.group, partition, &row.topic], lag);
        }
    }
    drop(rows);
    write_lag_sums(&lags, page);
}

/// Sums over the partitions of a topic. A topic of which a lag is not known has no sum of lags: it would be too small.
fn write_lag_sums(lags: &[GroupLag], page: &mut Page) {
    type Sums = (i64, Option<i64>);
    let mut sums: BTreeMap<(&str, &str), Sums> = BTreeMap::new();
    for row in lags {
        let sum = sums.entry((&row.group, &row.topic)).or_insert((0, Some(0)));
        let lags = sum.1.zip(row.lag).map(|(sum, lag)| sum.saturating_add(lag));
        *sum = (sum.0.saturating_add(row.committed.max(0)), lags);
    }
    let (exporter, kminion) = (["consumergroup", "topic"], ["group_id", "topic_name"]);
    type Look = fn(&Sums) -> Option<i64>;
    let families: [(&str, &[&str], &str, Look); 4] = [
        (
            "kafka_consumergroup_current_offset_sum",
            &exporter,
            "Committed offsets of a group in a topic, added up",
            |sum| Some(sum.0),
        ),
        ("kafka_consumergroup_lag_sum", &exporter, "Lags of a group in a topic, added up", |sum| sum.1),
        (
            "kminion_kafka_consumer_group_topic_offset_sum",
            &kminion,
            "Committed offsets of a group in a topic, added up",
            |sum| Some(sum.0),
        ),
        ("kminion_kafka_consumer_group_topic_lag", &kminion, "Lags of a group in a topic, added up", |sum| sum.1),
    ];
    for (name, labels, help, look) in families {
        let mut rows = page.family(name, Kind::Gauge, labels, help);
        for ((group, topic), sum) in &sums {
            if let Some(sum) = look(sum) {
                rows.add(&[group, topic], sum);
            }
        }
    }
}
