//! Groups that this broker coordinates, and the partitions of both coordinators.

use std::collections::BTreeMap;

use super::gauges::Gauges;
use crate::broker::Broker;

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
    gauges.set_one(all, "Classic groups that this broker coordinates", of("classic"))?;
    for (state, name) in CLASSIC {
        let count = groups.get(&("classic", state)).copied().unwrap_or_default();
        gauges.set_one(name, "Classic groups in this state", count)?;
    }
    gauges.set_one("kafka_coordinator_group_groupmetadatamanager_numoffsets", "Committed offsets", offsets)?;
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
        gauges.set_one(&name, help, usize::try_from(longest).unwrap_or(usize::MAX))?;
    }
    Ok(())
}
