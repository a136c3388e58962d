//! What the clients do: create the topic, produce (idempotent, `acks=all`), consume, and commit offsets of a group. A step whose
//! outcome a power cut hid is repeated in the next life.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::{Batch, BatchBuilder};

use crate::client::Client;
use crate::group::{self, Membership};
use crate::model::{Fetched, Model, PARTITIONS, Pending};

pub const TOPIC: &str = "t";
/// How often a step is tried before its failure is a violation.
pub const TRIES: usize = 100;

pub type SharedModel = Arc<Mutex<Model>>;

/// Creates the topic, if that is not acknowledged yet.
pub async fn create_topic(client: &mut Client, model: &SharedModel, durability: &'static str) -> Result<(), String> {
    if model.lock().unwrap().topic_exists {
        return Ok(());
    }
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS as i32,
        replication_factor: 1,
        configs: [("durability", durability), ("segment.ms", "400")]
            .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
            .into(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..CreateTopicsRequest::default() };
    for _ in 0..TRIES {
        if let Some(answer) = client.ask(5, &request, "CreateTopics t").await {
            let code = answer.topics[0].error_code;
            client.note(&format!("CreateTopics {code:?}"));
            if [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&code) {
                model.lock().unwrap().topic_exists = true;
                return Ok(());
            }
        }
        client.lab().pause(50).await;
    }
    Err("the topic cannot be created".to_owned())
}

/// Produces until it is dropped.
pub async fn produce(mut client: Client, model: SharedModel, number: usize) {
    loop {
        client.lab().pause(15).await;
        let known = model.lock().unwrap().producers[number].id;
        let Some((id, epoch)) = known else {
            init_producer(&mut client, &model, number).await;
            continue;
        };
        let partition = client.lab().below(PARTITIONS);
        let (records, what) = next_batch(&client, &model, number, partition, (id, epoch));
        let data = PartitionProduceData { index: partition as i32, records: Some(records) };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..TopicProduceData::default() };
        let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 5000, topic_data: vec![topic] };
        let Some(answer) = client.ask(9, &request, &what).await else { continue };
        let answer = &answer.responses[0].partition_responses[0];
        client.note(&format!("Produce {:?} at {}", answer.error_code, answer.base_offset));
        let mut model = model.lock().unwrap();
        match answer.error_code {
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => {
                let sent = &mut model.producers[number].sent[partition];
                let pending = sent.pending.take().unwrap();
                sent.next_sequence += pending.values.len() as i32;
                model.counts.acknowledged += pending.values.len();
                model.acknowledged_batches[partition] += 1;
                if answer.base_offset >= 0 {
                    model.acknowledged[partition].extend((answer.base_offset..).zip(pending.values));
                }
            }
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID => {
                model.violated(format!("{what} was refused: {:?}", answer.error_code));
            }
            _ => {}
        }
    }
}

async fn init_producer(client: &mut Client, model: &SharedModel, number: usize) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let Some(answer) = client.ask(4, &request, "InitProducerId").await else { return };
    client.note(&format!("InitProducerId {:?} {}", answer.error_code, answer.producer_id));
    if answer.error_code == ErrorCode::NONE {
        let mut model = model.lock().unwrap();
        if !model.producer_ids.insert(answer.producer_id) {
            model.violated(format!("producer id {} was handed out twice", answer.producer_id));
        }
        model.producers[number].id = Some((answer.producer_id, answer.producer_epoch));
    }
}

/// The batch that is pending, or a new one, which is pending then.
fn next_batch(
    client: &Client,
    model: &SharedModel,
    number: usize,
    partition: usize,
    (id, epoch): (i64, i16),
) -> (bytes::Bytes, String) {
    let fresh = 1 + client.lab().below(5);
    let mut model = model.lock().unwrap();
    let sent = &mut model.producers[number].sent[partition];
    let first = sent.next_sequence;
    let pending = sent.pending.get_or_insert_with(|| Pending {
        sequence: first,
        values: (first..).take(fresh).map(|at| format!("{number}-{at}")).collect(),
    });
    let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, pending.sequence);
    for (delta, value) in (0..).zip(&pending.values) {
        // Records of several sectors: a torn write shows.
        let key = vec![b'k'; 1 + (delta as usize * 331 + pending.sequence as usize * 97) % 900];
        builder.append(delta, client.lab().node.now_ms(), Some(&key), Some(value.as_bytes()), &[]);
    }
    let what = format!("Produce {TOPIC}-{partition} {:?}", pending.values);
    (builder.build().unwrap(), what)
}

/// One fetch: the values from `offset` on, and the high watermark. Values that rot took and the broker reports are those of the model.
async fn fetch(
    client: &mut Client,
    model: &SharedModel,
    partition: usize,
    offset: i64,
    max_wait_ms: i32,
) -> Option<(BTreeMap<i64, String>, i64)> {
    let wanted = FetchPartition {
        partition: partition as i32,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![wanted], ..FetchTopic::default() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let answer = client.ask(11, &request, &format!("Fetch {TOPIC}-{partition} from {offset}")).await?;
    let data = answer.responses.into_iter().next()?.partitions.into_iter().next()?;
    let mut fetched = Fetched { values: BTreeMap::new(), damaged_at: None };
    let mut rest = data.records.unwrap_or_default();
    while !rest.is_empty() {
        let Ok((batch, behind)) = Batch::parse(rest) else { break };
        rest = behind;
        let next = fetched.values.last_key_value().map_or(offset, |(last, _)| last + 1);
        match values_of(&batch) {
            Some(values) => fetched.values.extend(values.into_iter().filter(|(at, _)| *at >= offset)),
            None => {
                fetched.damaged_at = Some(next);
                break;
            }
        }
    }
    client.note(&format!(
        "Fetch {:?}, {} records, damaged at {:?}, high watermark {}",
        data.error_code,
        fetched.values.len(),
        fetched.damaged_at,
        data.high_watermark
    ));
    let mut high_watermark = data.high_watermark;
    if data.error_code == ErrorCode::CORRUPT_MESSAGE {
        // The answer has none then.
        (fetched.damaged_at, high_watermark) = (Some(offset), i64::MAX);
    } else if data.error_code != ErrorCode::NONE {
        return None;
    }
    let values = model.lock().unwrap().step_over_rot(partition, fetched);
    values.map(|values| (values, high_watermark))
}

/// The values of a batch by offset; `None` if its CRC does not fit.
pub fn values_of(batch: &Batch) -> Option<BTreeMap<i64, String>> {
    batch.verify_crc().ok()?;
    let records = batch.records(1 << 20).ok()?.map(|record| {
        let record = record.ok()?;
        Some((record.offset, String::from_utf8(record.value?.to_vec()).ok()?))
    });
    records.collect()
}

/// Consumes from the committed offsets on and commits, until it is dropped.
pub async fn consume(mut client: Client, model: SharedModel) {
    let mut positions = model.lock().unwrap().committed.map(|committed| committed.acknowledged);
    let mut membership = Membership::default();
    loop {
        client.lab().pause(20).await;
        let partition = client.lab().below(PARTITIONS);
        let position = &mut positions[partition];
        if let Some((values, _)) = fetch(&mut client, &model, partition, *position, 100).await {
            if !values.keys().copied().eq(*position..*position + values.len() as i64) {
                model.lock().unwrap().violated(format!("a fetch of t-{partition} from {position} has gaps"));
            }
            *position += values.len() as i64;
            model.lock().unwrap().seen[partition].extend(values);
        }
        if client.lab().below(3) == 0 {
            membership.commit(&mut client, &model, partition, *position).await;
        }
    }
}

/// Holds everything that is in the broker against the model. `Err` is a violation.
pub async fn verify(client: &mut Client, model: &SharedModel) -> Result<(), String> {
    for partition in 0..PARTITIONS {
        let mut log = BTreeMap::new();
        let mut failures = 0;
        loop {
            let from = log.len() as i64;
            match fetch(client, model, partition, from, 0).await {
                Some((values, high_watermark)) => {
                    log.extend(values);
                    if log.len() as i64 >= high_watermark {
                        break;
                    }
                }
                None if failures == TRIES => return Err(format!("t-{partition} cannot be read")),
                None => failures += 1,
            }
            client.lab().pause(20).await;
        }
        let mut model = model.lock().unwrap();
        let checked = model.check_log(partition, &log);
        if let Err(what) = &checked {
            // Whatever the disk does meanwhile.
            model.violated(what.clone());
        }
        checked?;
    }
    group::verify_offsets(client, model).await
}
