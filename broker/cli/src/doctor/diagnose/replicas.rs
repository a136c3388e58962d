//! The checks of replicas: in sync or not and why, racks, durability.

use std::collections::{BTreeMap, BTreeSet};

use esker_client::Partition;

use super::super::facts::{Facts, TopicFacts, Way};
use super::super::finding::{Check, Finding, name_some};
use esker_records::units::show_count;

/// Brokers in a cluster that should not have partitions with one replica.
const REPLICATED_CLUSTER: usize = 3;

fn each_partition(facts: &Facts) -> impl Iterator<Item = (&TopicFacts, &Partition, String)> {
    let of_topic = |topic: &'_ TopicFacts| topic.name.clone();
    facts.topics.iter().flat_map(move |topic| {
        let name = of_topic(topic);
        topic.partitions.iter().map(move |p| (topic, p, format!("{name}-{}", p.id)))
    })
}

/// Partitions without a leader, below `min.insync.replicas`, with replicas out of sync, or with one replica.
pub(super) fn check_replication(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::Replication;
    let (mut leaderless, mut below_min, mut single) = (Vec::new(), Vec::new(), Vec::new());
    let mut missing: BTreeMap<(i32, String), Vec<String>> = BTreeMap::new();
    for (topic, partition, name) in each_partition(facts) {
        if partition.leader.is_none() {
            leaderless.push(name.clone());
        } else if topic.min_isr.is_some_and(|min| partition.isr.len() < min.min(partition.replicas.len())) {
            // Brokers ask for no more in-sync replicas than the partition has replicas.
            below_min.push(name.clone());
        }
        if partition.replicas.len() == 1 {
            single.push(topic.name.clone());
        }
        for replica in partition.replicas.iter().filter(|id| !partition.isr.contains(id)) {
            let why = explain_replica(facts, partition, *replica);
            missing.entry((*replica, why)).or_default().push(name.clone());
        }
    }
    let mut findings = Vec::new();
    if !leaderless.is_empty() {
        let text = format!(
            "{} no leader, so no reads and no writes: {}",
            show_count(leaderless.len(), "partition has", "partitions have"),
            name_some(&leaderless)
        );
        // With eligible leader replicas (KIP-966) the last in-sync replica leaves the ISR, too.
        let advice =
            "start the brokers that `esker topic describe` names under ISR; where it is empty, all under REPLICAS";
        findings.push(Finding::error(CHECK, text, advice));
    }
    if !below_min.is_empty() {
        let partitions = show_count(below_min.len(), "partition has", "partitions have");
        let text = format!(
            "{partitions} fewer in-sync replicas than min.insync.replicas: acks=all is refused: {}",
            name_some(&below_min)
        );
        findings.push(Finding::error(CHECK, text, "bring the brokers below back"));
    }
    for ((_, why), partitions) in missing {
        let count = show_count(partitions.len(), "partition lacks", "partitions lack");
        let text = format!("{count} a replica: {why}: {}", name_some(&partitions));
        findings.push(Finding::warning(CHECK, text, "the partitions return to full replication once it follows again"));
    }
    single.dedup();
    if facts.brokers.len() >= REPLICATED_CLUSTER && !single.is_empty() {
        let text = format!("topics with a single replica, which are lost with its disk: {}", name_some(&single));
        let advice = "raise their replication factor with a reassignment, or create topics with -r 3";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    if findings.is_empty() {
        let partitions = show_count(each_partition(facts).count(), "partition", "partitions");
        findings.push(Finding::ok(CHECK, format!("all replicas of {partitions} are in sync")));
    }
    findings
}

/// Why a replica is not in sync.
fn explain_replica(facts: &Facts, partition: &Partition, id: i32) -> String {
    match facts.broker(id) {
        None => format!("broker {id} does not run, or is not registered any more"),
        Some(broker) if broker.fenced => {
            format!("broker {id} is fenced: it does not run, or cannot reach the active controller")
        }
        Some(_) if partition.offline.contains(&id) => format!("the log dir of broker {id} has failed"),
        Some(broker) if !matches!(broker.way, Way::Reached { .. }) => {
            format!("broker {id} runs, but is behind, and this client cannot reach it")
        }
        Some(_) => format!("broker {id} runs, but is behind: it catches up, or its disk or network is too slow"),
    }
}

/// Partitions whose replicas are all in one rack, where there are more.
pub(super) fn check_racks(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::Racks;
    let racks = facts.racks();
    let names: BTreeSet<&str> = racks.values().copied().collect();
    if racks.is_empty() {
        return vec![Finding::skipped(CHECK, "no broker has a rack (broker.rack)")];
    }
    let mut findings = Vec::new();
    let without: Vec<_> =
        facts.brokers.iter().filter(|broker| broker.rack.is_none()).map(|broker| broker.id.to_string()).collect();
    if !without.is_empty() {
        let text = format!("brokers without a rack, while others have one: {}", name_some(&without));
        findings.push(Finding::warning(CHECK, text, "set broker.rack on all brokers, so that replicas are spread"));
    }
    let in_one_rack = |partition: &Partition| {
        let of: BTreeSet<_> = partition.replicas.iter().map(|id| racks.get(id)).collect();
        partition.replicas.len() > 1 && of.len() == 1 && of.iter().all(Option::is_some)
    };
    let unspread: Vec<_> =
        each_partition(facts).filter(|(_, partition, _)| in_one_rack(partition)).map(|(_, _, name)| name).collect();
    if names.len() > 1 && !unspread.is_empty() {
        let text = format!(
            "{} all replicas in one rack, with which their records are lost: {}",
            show_count(unspread.len(), "partition has", "partitions have"),
            name_some(&unspread)
        );
        findings.push(Finding::warning(CHECK, text, "spread them: `esker cluster rebalance` shows the plan first"));
    }
    if findings.is_empty() {
        let text = match names.len() {
            1 => "all brokers are in one rack".to_owned(),
            count => format!("partitions are spread over {count} racks"),
        };
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}

/// When a record counts as durable.
pub(super) fn check_durability(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::Durability;
    let mut by_value: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut unknown = String::from("no broker can be reached");
    for broker in facts.brokers.iter().filter(|broker| !broker.fenced) {
        match &broker.durability {
            Ok(value) => by_value.entry(value).or_default().push(broker.id.to_string()),
            Err(why) => unknown.clone_from(why),
        }
    }
    if by_value.is_empty() {
        return vec![Finding::skipped(CHECK, unknown)];
    }
    let brokers: Vec<_> =
        by_value.iter().map(|(value, ids)| format!("log.durability={value} on brokers {}", ids.join(", "))).collect();
    let own: Vec<_> = facts
        .topics
        .iter()
        .filter_map(|topic| Some(format!("{}={}", topic.name, topic.durability.as_ref()?)))
        .collect();
    let topics = match own.is_empty() {
        true => "no topic has a value of its own".to_owned(),
        false => format!("topics with a value of their own: {}", name_some(&own)),
    };
    let mut findings = Vec::new();
    if by_value.len() > 1 {
        let text = format!("brokers differ: {}", brokers.join("; "));
        let advice = "set one value for all: `esker config set broker default log.durability=flush`";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    let by_default = by_value.keys().next().copied().filter(|_| by_value.len() == 1).unwrap_or_default();
    let at_risk: Vec<_> = each_partition(facts)
        .filter(|(topic, partition, _)| {
            topic.durability.as_deref().unwrap_or(by_default) == "page-cache" && partition.replicas.len() == 1
        })
        .map(|(_, _, name)| name)
        .collect();
    if !at_risk.is_empty() {
        let text = format!("partitions with one replica and durability=page-cache: {}", name_some(&at_risk));
        let advice = "a power failure loses acknowledged records: use durability=flush or more replicas";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{}; {topics}", brokers.join("; "))));
    }
    findings
}

#[cfg(test)]
mod tests;
