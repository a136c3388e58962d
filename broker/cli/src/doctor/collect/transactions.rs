//! Transactions of all coordinators, and transactions that are open in partitions (KIP-664).

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_client::admin::Resource;
use esker_client::{Admin, Client, Target, Topic, TopicPartition};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use esker_protocol::messages::describe_transactions::{DescribeTransactionsRequest, TransactionState};
use esker_protocol::messages::list_transactions::ListTransactionsRequest;
use esker_protocol::primitives::Str;

use super::super::facts::{Fact, OpenTransaction, Transaction, TransactionFacts};

/// Partitions whose producers are looked at, at most.
const PARTITIONS: usize = 10_000;
/// Transactional ids, or partitions, of one request.
const AT_ONCE: usize = 200;
const MAX_TIMEOUT: &str = "transaction.max.timeout.ms";
/// Kafka's default of it.
const DEFAULT_MAX_TIMEOUT_MS: i64 = 900_000;

/// The transactions of brokers that can be reached.
pub(super) async fn collect_transactions(
    client: &Client,
    brokers: &[i32],
    topics: &[Arc<Topic>],
) -> Fact<TransactionFacts> {
    let Some(first) = brokers.first() else { return Err("no broker can be reached".to_owned()) };
    let mut facts = TransactionFacts { max_timeout_ms: max_timeout(client, *first).await, ..Default::default() };
    for broker in brokers {
        facts.transactions.extend(of_coordinator(client, *broker).await?);
    }
    let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    let mut room = PARTITIONS;
    for topic in topics {
        for partition in &topic.partitions {
            match partition.leader.filter(|leader| room > 0 && brokers.contains(leader)) {
                Some(leader) => {
                    room -= 1;
                    let tp = TopicPartition { topic: topic.name.clone(), partition: partition.id };
                    by_leader.entry(leader).or_default().push(tp);
                }
                None => facts.partitions_left_out += 1,
            }
        }
    }
    for (leader, partitions) in by_leader {
        for some in partitions.chunks(AT_ONCE) {
            facts.open.extend(open_in(client, leader, some).await?);
        }
    }
    Ok(facts)
}

async fn max_timeout(client: &Client, broker: i32) -> i64 {
    let configs = Admin::new(client).describe_configs(&Resource::Broker(Some(broker))).await.unwrap_or_default();
    let value = configs.iter().find(|config| config.name == MAX_TIMEOUT).and_then(|config| config.value.as_deref());
    value.and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_MAX_TIMEOUT_MS)
}

async fn of_coordinator(client: &Client, broker: i32) -> Fact<Vec<Transaction>> {
    let listed = client.request(Target::Node(broker), ListTransactionsRequest::default()).await;
    let listed = listed.map_err(|error| error.to_string())?;
    if listed.error_code != ErrorCode::NONE {
        return Err(format!("broker {broker} refuses ListTransactions: {}", listed.error_code.name()));
    }
    let ids: Vec<Str> = listed.transaction_states.into_iter().map(|state| state.transactional_id).collect();
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        let request = DescribeTransactionsRequest { transactional_ids: some.to_vec() };
        let answer = client.request(Target::Node(broker), request).await.map_err(|error| error.to_string())?;
        // Those that expired or moved meanwhile are left out.
        let known = answer.transaction_states.into_iter().filter(|state| state.error_code == ErrorCode::NONE);
        found.extend(known.map(|state| to_facts(&state)));
    }
    Ok(found)
}

fn to_facts(state: &TransactionState) -> Transaction {
    let partitions = state.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|id| TopicPartition { topic: topic.topic.clone(), partition: *id })
    });
    Transaction {
        id: state.transactional_id.to_string(),
        state: state.transaction_state.to_string(),
        producer_id: state.producer_id,
        started_ms: Some(state.transaction_start_time_ms).filter(|at| *at >= 0),
        timeout_ms: state.transaction_timeout_ms.into(),
        partitions: partitions.collect(),
    }
}

async fn open_in(client: &Client, leader: i32, partitions: &[TopicPartition]) -> Fact<Vec<OpenTransaction>> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).filter_map(|of_topic| {
        let name = of_topic.first()?.topic.clone();
        Some(TopicRequest { name, partition_indexes: of_topic.iter().map(|tp| tp.partition).collect() })
    });
    let request = DescribeProducersRequest { topics: topics.collect() };
    let answer = client.request(Target::Node(leader), request).await.map_err(|error| error.to_string())?;
    let mut open = Vec::new();
    for topic in answer.topics {
        // A partition whose leader moved meanwhile has no producers here.
        for partition in topic.partitions {
            let tp = TopicPartition { topic: topic.name.clone(), partition: partition.partition_index };
            let of_transactions = partition.active_producers.iter().filter(|p| p.current_txn_start_offset >= 0);
            open.extend(of_transactions.map(|producer| OpenTransaction {
                partition: tp.clone(),
                producer_id: producer.producer_id,
                start_offset: producer.current_txn_start_offset,
                last_timestamp_ms: producer.last_timestamp,
            }));
        }
    }
    Ok(open)
}
