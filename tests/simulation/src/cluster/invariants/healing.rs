//! Once faults stop, the cluster becomes whole by itself: all nodes serve and are not fenced, all replicas are in sync, and there is one view of
//! who leads.
//!
//! Source: issue 20 of this project; KIP-631 (fencing), KIP-966 (replicas come back into the ISR).

use std::sync::Arc;

use esker_broker::broker::Broker;

use crate::cluster::net::NODES;

/// What is not whole yet; `None`: all is.
pub fn missing(brokers: &[Arc<Broker>]) -> Option<String> {
    if brokers.len() < NODES {
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
    let ends = |broker: &Arc<Broker>| -> Vec<_> {
        let partitions = broker.replicas.partitions();
        let ends = partitions.iter().map(|partition| {
            let log = partition.log();
            (partition.id(), log.log_end_offset(), log.high_watermark())
        });
        let mut ends: Vec<_> = ends.collect();
        ends.sort();
        ends
    };
    let all: Vec<Vec<_>> = brokers.iter().map(ends).collect();
    let committed = all.iter().flatten().all(|(_, end, high_watermark)| end == high_watermark);
    let same = all.windows(2).all(|pair| pair[0] == pair[1]);
    (!committed || !same).then(|| format!("log ends and high watermarks: {all:?}"))
}
