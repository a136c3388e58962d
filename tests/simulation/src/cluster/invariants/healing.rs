//! Once faults stop, the cluster becomes whole by itself: all nodes serve and are not fenced, all replicas are in sync, and there is one view of
//! who leads.
//!
//! Source: issue 20 of this project; KIP-631 (fencing), KIP-966 (replicas come back into the ISR).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_broker::broker::Broker;
use esker_core::metadata::PartitionId;

use crate::cluster::net::nodes;

/// What is not whole yet; `None`: all is.
pub fn missing(brokers: &[Arc<Broker>]) -> Option<String> {
    if brokers.len() < nodes() {
        let up: Vec<i32> = brokers.iter().map(|broker| broker.node_id).collect();
        return Some(format!("only nodes {up:?} serve"));
    }
    let newest = brokers.iter().map(|broker| broker.metadata.image().offset()).max();
    for broker in brokers {
        let (image, own) = (broker.metadata.image(), broker.node_id);
        if Some(image.offset()) != newest {
            return Some(format!("node {own} has metadata up to {} of {newest:?}", image.offset()));
        }
        if let Some(fenced) = image.brokers().find(|broker| broker.fenced) {
            return Some(format!("node {} is fenced", fenced.node_id));
        }
        if broker.session.is_isolated() || broker.session.is_fenced() {
            return Some(format!("node {own} believes to be isolated or fenced"));
        }
        for topic in image.topics() {
            for partition in topic.partitions.iter() {
                if partition.isr.len() < partition.replicas.len() || partition.leader < 0 {
                    let (leader, isr, number) = (partition.leader, &partition.isr, partition.partition);
                    return Some(format!("{}-{number} has leader {leader} and ISR {isr:?}", topic.name));
                }
            }
        }
        if let Some(late) = broker.replicas.partitions().into_iter().find(|partition| {
            let role = partition.role();
            let epoch = image.partition(partition.id()).map(|known| known.leader_epoch);
            role.assignment().map(|assignment| assignment.leader_epoch) != epoch
        }) {
            return Some(format!("node {own} has an old role in {}-{}", late.topic(), late.index()));
        }
    }
    None
}

/// What is not at rest yet: all replicas have the same end, and know that it is committed.
pub fn unsettled(brokers: &[Arc<Broker>]) -> Option<String> {
    let mut ends: BTreeMap<PartitionId, Vec<(i32, i64, i64)>> = BTreeMap::new();
    for broker in brokers {
        for partition in broker.replicas.partitions() {
            let log = partition.log();
            let end = (broker.node_id, log.log_end_offset(), log.high_watermark());
            ends.entry(partition.id()).or_default().push(end);
        }
    }
    let is_at_rest = |replicas: &Vec<(i32, i64, i64)>| {
        replicas
            .iter()
            .all(|(_, end, committed)| end == committed && Some(*end) == replicas.first().map(|first| first.1))
    };
    let moving = ends.iter().find(|(_, replicas)| !is_at_rest(replicas));
    moving.map(|(id, replicas)| format!("{id:?}: log ends and high watermarks: {replicas:?}"))
}
