//! How far reassignments are: the assignments of their partitions, and the bytes that were copied.

use std::collections::{BTreeMap, BTreeSet};

use async_recursion::async_recursion as boxed;
use esker_client::admin::Reassignment;
use esker_client::{Admin, Client, Error, ErrorCode, TopicPartition};
use esker_core::plan::Assignment;
use esker_protocol::primitives::Str;

/// Topics of one request.
const TOPICS_AT_ONCE: usize = 500;

/// The assignments of partitions as they are now, by partition. One that was deleted is left out.
#[boxed]
pub async fn assignments(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Assignment>, Error> {
    let listed = Admin::new(client).list_reassignments().await?;
    let mut ongoing: BTreeMap<TopicPartition, Reassignment> =
        listed.into_iter().map(|found| (found.partition.clone(), found)).collect();
    let topics: BTreeSet<Str> = partitions.iter().map(|tp| tp.topic.clone()).collect();
    let topics: Vec<Str> = topics.into_iter().collect();
    let mut found = BTreeMap::new();
    for names in topics.chunks(TOPICS_AT_ONCE) {
        let answer = client.refresh(names).await?;
        for topic in answer.topics {
            let name = topic.name.clone().unwrap_or_default();
            if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                continue;
            }
            for partition in topic.partitions {
                let tp = TopicPartition::new(name.clone(), partition.partition_index);
                let ongoing = ongoing.remove(&tp);
                // The reassignment was read first: where it is complete since, the replicas are those that stay.
                let is_current = |one: &Reassignment| one.replicas == partition.replica_nodes;
                let (adding, removing) =
                    ongoing.filter(is_current).map(|one| (one.adding, one.removing)).unwrap_or_default();
                let leader = Some(partition.leader_id).filter(|leader| *leader >= 0);
                let (replicas, isr) = (partition.replica_nodes, partition.isr_nodes);
                found.insert(tp, Assignment { replicas, isr, leader, adding, removing });
            }
        }
    }
    Ok(found)
}

/// Bytes of some replicas, by broker and partition. Brokers that do not answer are left out.
#[boxed]
pub async fn sizes(
    client: &Client,
    replicas: &BTreeMap<i32, Vec<TopicPartition>>,
) -> BTreeMap<(i32, TopicPartition), u64> {
    let mut found = BTreeMap::new();
    for (broker, partitions) in replicas {
        let dirs = Admin::new(client).describe_log_dirs(*broker, Some(partitions)).await;
        for (tp, bytes) in dirs.into_iter().flatten().flat_map(|dir| dir.replicas) {
            found.insert((*broker, tp), bytes);
        }
    }
    found
}
