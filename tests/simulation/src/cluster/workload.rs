//! What the clients of the cluster do: produce (idempotent, `acks=all`), consume, create and delete topics.

use std::collections::BTreeMap;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{Batch, BatchBuilder};

use super::client::Client;
use super::model::{PARTITIONS, Place};
use super::net::nodes;
use crate::workload::values_of;

/// Creates a topic with three replicas; true once it is there.
pub async fn create_topic(client: &mut Client, name: &'static str, configs: &[(&'static str, &'static str)]) -> bool {
    let configs =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: PARTITIONS as i32,
        replication_factor: 3,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1500, ..CreateTopicsRequest::default() };
    let node = client.lab.below(nodes());
    let Some(answer) = client.ask(node, 5, &request, &format!("CreateTopics {name}")).await else { return false };
    let code = answer.topics[0].error_code;
    client.note(&format!("CreateTopics {code:?}"));
    [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&code)
}

/// Creates and deletes topics until it is dropped.
pub async fn administer(mut client: Client) {
    let names = ["passing-1", "passing-2"];
    loop {
        client.lab.pause(1500).await;
        let name = names[client.lab.below(names.len())];
        if client.lab.below(2) == 0 {
            create_topic(&mut client, name, &[("min.insync.replicas", "2")]).await;
        } else {
            let request = DeleteTopicsRequest {
                topic_names: vec![name.into()],
                timeout_ms: 1500,
                ..DeleteTopicsRequest::default()
            };
            let node = client.lab.below(nodes());
            if let Some(answer) = client.ask(node, 5, &request, &format!("DeleteTopics {name}")).await {
                client.note(&format!("DeleteTopics {:?}", answer.responses[0].error_code));
            }
        }
    }
}

/// Produces until it is dropped.
pub async fn produce(mut client: Client, number: usize, places: Vec<Place>) {
    loop {
        client.lab.pause(30).await;
        let known = client.lab.model.lock().unwrap().producers[number];
        let Some(identity) = known else {
            init_producer(&mut client, number).await;
            continue;
        };
        let place = places[client.lab.below(places.len())];
        let Some(leader) = client.leader(place.0, place.1).await else { continue };
        let (request, what) = next_batch(&client, number, place, identity);
        let Some(answer) = client.ask(leader, 9, &request, &format!("Produce {place:?} {what}")).await else {
            client.forget(place.0, place.1);
            continue;
        };
        let answer = &answer.responses[0].partition_responses[0];
        client.note(&format!("Produce {:?} at {}", answer.error_code, answer.base_offset));
        match answer.error_code {
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => {
                let at = (answer.error_code == ErrorCode::NONE).then_some(answer.base_offset);
                acknowledge(&client, number, place, at);
            }
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID => {
                client.lab.violated(format!("{place:?}: {what} was refused: {:?}", answer.error_code));
            }
            code => {
                if !code.is_retriable() {
                    client.lab.violated(format!("{place:?}: {what} was refused: {code:?}"));
                }
                client.forget(place.0, place.1);
            }
        }
    }
}

fn acknowledge(client: &Client, number: usize, place: Place, at: Option<i64>) {
    let mut model = client.lab.model.lock().unwrap();
    let ledger = model.ledger(place);
    let sent = &mut ledger.sent[number];
    let values = sent.pending.take().unwrap();
    sent.next_sequence += values.len() as i32;
    ledger.batches += 1;
    let records = values.len();
    let mut twice = None;
    if let Some(at) = at {
        for (offset, value) in (at..).zip(values) {
            if let Some(before) = ledger.acknowledged.insert(offset, value.clone()) {
                twice = Some(format!("{place:?}: {before} and {value} were both acknowledged at {offset}"));
            }
        }
    }
    model.counts.acknowledged += records;
    if let Some(twice) = twice {
        model.violated(twice);
    }
}

async fn init_producer(client: &mut Client, number: usize) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let node = client.lab.below(nodes());
    let Some(answer) = client.ask(node, 4, &request, "InitProducerId").await else { return };
    client.note(&format!("InitProducerId {:?} {}", answer.error_code, answer.producer_id));
    if answer.error_code == ErrorCode::NONE {
        let identity = (answer.producer_id, answer.producer_epoch);
        let others = client.lab.model.lock().unwrap().producers;
        if others.contains(&Some(identity)) {
            client.lab.violated(format!("producer id {} was handed out twice", identity.0));
        }
        client.lab.model.lock().unwrap().producers[number] = Some(identity);
    }
}

/// The batch that is pending, or a new one, which is pending then.
fn next_batch(client: &Client, number: usize, place: Place, (id, epoch): (i64, i16)) -> (ProduceRequest, String) {
    let fresh = 1 + client.lab.below(5);
    let mut model = client.lab.model.lock().unwrap();
    let sent = &mut model.ledger(place).sent[number];
    let first = sent.next_sequence;
    let values =
        sent.pending.get_or_insert_with(|| (first..).take(fresh).map(|at| format!("{number}-{at}")).collect()).clone();
    let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, first);
    for (delta, value) in (0..).zip(&values) {
        let key = vec![b'k'; 1 + (delta as usize * 331 + first as usize * 97) % 700];
        builder.append(delta, client.lab.ms(), Some(&key), Some(value.as_bytes()), &[]);
    }
    let data = PartitionProduceData { index: place.1 as i32, records: Some(builder.build().unwrap()) };
    let data = TopicProduceData { name: place.0.into(), partition_data: vec![data], ..TopicProduceData::default() };
    let request =
        ProduceRequest { transactional_id: None, acks: client.lab.acks, timeout_ms: 1500, topic_data: vec![data] };
    (request, format!("{values:?}"))
}

/// One fetch from the leader.
pub async fn fetch(client: &mut Client, place: Place, offset: i64, max_wait_ms: i32) -> Option<PartitionData> {
    let leader = client.leader(place.0, place.1).await?;
    let wanted = FetchPartition {
        partition: place.1 as i32,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: place.0.into(), partitions: vec![wanted], ..FetchTopic::default() }],
        ..FetchRequest::default()
    };
    let answer = client.ask(leader, 11, &request, &format!("Fetch {place:?} from {offset}")).await;
    let data = answer.and_then(|answer| answer.responses.into_iter().next()?.partitions.into_iter().next());
    let Some(data) = data else {
        client.forget(place.0, place.1);
        return None;
    };
    client.note(&format!("Fetch {:?}, high watermark {}", data.error_code, data.high_watermark));
    if data.error_code != ErrorCode::NONE {
        client.forget(place.0, place.1);
        // Kafka says so of a follower that leads and has not heard of the high watermark yet; a committed record is never out of range.
        return None;
    }
    Some(data)
}

/// The values of a fetch, by offset, from `offset` on.
pub fn values_from(data: PartitionData, offset: i64) -> BTreeMap<i64, String> {
    let (mut values, mut rest) = (BTreeMap::new(), data.records.unwrap_or_default());
    while !rest.is_empty() {
        let Ok((batch, behind)) = Batch::parse(rest) else { break };
        rest = behind;
        values.extend(values_of(&batch).unwrap_or_default().into_iter().filter(|(at, _)| *at >= offset));
    }
    values
}

/// Reads all partitions until it is dropped, each again from its begin now and then.
pub async fn consume(mut client: Client, places: Vec<Place>) {
    let mut positions: BTreeMap<Place, i64> = BTreeMap::new();
    loop {
        client.lab.pause(25).await;
        let place = places[client.lab.below(places.len())];
        if client.lab.below(40) == 0 {
            positions.remove(&place);
        }
        let position = positions.entry(place).or_default();
        let Some(data) = fetch(&mut client, place, *position, 100).await else { continue };
        let high_watermark = data.high_watermark;
        let values = values_from(data, *position);
        if !values.keys().copied().eq(*position..*position + values.len() as i64) {
            client.lab.violated(format!("a fetch of {place:?} from {position} has gaps"));
        }
        *position += values.len() as i64;
        super::invariants::reads::check(&client.lab, place, values, high_watermark);
    }
}
