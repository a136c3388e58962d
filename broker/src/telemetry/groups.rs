//! What groups do, and what their coordinator holds.

use std::collections::BTreeMap;

use esker_core::group::{Kind, Reason};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::scrape::Gauges;
use crate::broker::Broker;

/// Counters of groups.
#[derive(Debug, Clone)]
pub struct GroupMetrics {
    rebalances: IntCounterVec,
    consumer_rebalances: IntCounter,
    commits: IntCounter,
    expirations: IntCounter,
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
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("kafka_server_group_coordinator_metrics_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
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

    /// So many offsets were committed.
    pub fn committed(&self, offsets: usize) {
        self.commits.inc_by(offsets as u64);
    }

    /// So many offsets lapsed.
    pub fn expired(&self, offsets: usize) {
        self.expirations.inc_by(offsets as u64);
    }
}

/// Kafka's states of classic groups, as its gauges are called.
const CLASSIC: [(&str, &str); 5] = [
    ("Stable", "kafka_coordinator_group_groupmetadatamanager_numgroupsstable"),
    ("Empty", "kafka_coordinator_group_groupmetadatamanager_numgroupsempty"),
    ("Dead", "kafka_coordinator_group_groupmetadatamanager_numgroupsdead"),
    ("PreparingRebalance", "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance"),
    ("CompletingRebalance", "kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance"),
];

/// Groups that this broker coordinates, and the partitions of both coordinators.
pub(super) fn register(broker: &Broker, gauges: &Gauges) -> Result<(), prometheus::Error> {
    let mut groups: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut offsets = 0;
    for shard in broker.groups.shards() {
        // What is still loading has none to show.
        let _ = shard.read(|shard| {
            shard.kinds_and_states().for_each(|group| *groups.entry(group).or_default() += 1);
            offsets += shard.offset_count();
        });
    }
    let of = |kind: &str| groups.iter().filter(|((its, _), _)| *its == kind).map(|(_, count)| count).sum::<usize>();
    let count = "kafka_server_group_coordinator_metrics_group_count";
    let count = gauges.many(count, "Groups that this broker coordinates", &["protocol"])?;
    for kind in ["classic", "consumer"] {
        count.with_label_values(&[kind]).set(i64::try_from(of(kind)).unwrap_or(i64::MAX));
    }
    let states = "kafka_server_group_coordinator_metrics_consumer_group_count";
    let states = gauges.many(states, "Groups of KIP-848 that this broker coordinates", &["state"])?;
    for state in ["Empty", "Assigning", "Reconciling", "Stable", "Dead"] {
        let count = groups.get(&("consumer", state)).copied().unwrap_or_default();
        states.with_label_values(&[&state.to_lowercase()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let all = "kafka_coordinator_group_groupmetadatamanager_numgroups";
    gauges.one(all, "Classic groups that this broker coordinates", of("classic"))?;
    for (state, name) in CLASSIC {
        let count = groups.get(&("classic", state)).copied().unwrap_or_default();
        gauges.one(name, "Classic groups in this state", count)?;
    }
    gauges.one("kafka_coordinator_group_groupmetadatamanager_numoffsets", "Committed offsets", offsets)?;
    let name = "kafka_server_group_coordinator_metrics_num_partitions";
    let partitions = gauges.many(name, "Partitions of __consumer_offsets that this broker leads", &["state"])?;
    let shards = broker.groups.shards();
    for state in ["loading", "active", "failed"] {
        let count = shards.iter().filter(|shard| shard.state() == Some(state)).count();
        partitions.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let loads = [("group", broker.groups.longest_load_ms()), ("transaction", broker.transactions.longest_load_ms())];
    for (of, longest) in loads {
        let name = format!("kafka_server_{of}_coordinator_metrics_partition_load_time_max");
        let help = "Milliseconds that the slowest load of a partition took since the start";
        gauges.one(&name, help, usize::try_from(longest).unwrap_or(usize::MAX))?;
    }
    Ok(())
}
