//! Requests that several workloads share: create a topic, produce a batch, fetch.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::Batch;

use crate::client::Client;

/// How often a step is tried before its failure is a violation.
pub const TRIES: usize = 100;

/// Creates a topic; one that is there is fine.
pub async fn create_topic(
    client: &mut Client,
    name: &'static str,
    partitions: i32,
    configs: &[(&'static str, &'static str)],
) -> Result<(), String> {
    let configs =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..CreateTopicsRequest::default() };
    for _ in 0..TRIES {
        if let Some(answer) = client.ask(5, &request, &format!("CreateTopics {name}")).await {
            let code = answer.topics[0].error_code;
            client.note(&format!("CreateTopics {code:?}"));
            if [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS].contains(&code) {
                return Ok(());
            }
        }
        client.lab().pause(50).await;
    }
    Err(format!("topic {name} cannot be created"))
}

/// Produces a batch with `acks=all`; its base offset, or the error.
pub async fn produce(
    client: &mut Client,
    (topic, partition): (&'static str, usize),
    transactional_id: Option<&'static str>,
    records: Bytes,
    what: &str,
) -> Option<Result<i64, ErrorCode>> {
    let data = PartitionProduceData { index: partition as i32, records: Some(records) };
    let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..TopicProduceData::default() };
    let transactional_id = transactional_id.map(Into::into);
    let request = ProduceRequest { transactional_id, acks: -1, timeout_ms: 5000, topic_data: vec![data] };
    let answer = client.ask(9, &request, &format!("Produce {topic}-{partition} {what}")).await?;
    let answer = &answer.responses[0].partition_responses[0];
    client.note(&format!("Produce {:?} at {}", answer.error_code, answer.base_offset));
    Some(if answer.error_code == ErrorCode::NONE { Ok(answer.base_offset) } else { Err(answer.error_code) })
}

/// One fetch from `offset` on.
pub async fn fetch(
    client: &mut Client,
    (topic, partition): (&'static str, usize),
    offset: i64,
    max_wait_ms: i32,
    read_committed: bool,
) -> Option<PartitionData> {
    let wanted = FetchPartition {
        partition: partition as i32,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let wanted = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() };
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: i8::from(read_committed),
        session_epoch: -1,
        topics: vec![wanted],
        ..FetchRequest::default()
    };
    let answer = client.ask(11, &request, &format!("Fetch {topic}-{partition} from {offset}")).await?;
    let data = answer.responses.into_iter().next()?.partitions.into_iter().next()?;
    client.note(&format!(
        "Fetch {:?}, log start {}, last stable offset {}, high watermark {}",
        data.error_code, data.log_start_offset, data.last_stable_offset, data.high_watermark
    ));
    Some(data)
}

/// The keys and values of a batch by offset; `None` if its CRC does not fit, or if they are no text.
pub fn records_of(batch: &Batch) -> Option<BTreeMap<i64, (String, String)>> {
    batch.verify_crc().ok()?;
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).ok();
    let records = batch.records(1 << 20).ok()?.map(|record| {
        let record = record.ok()?;
        Some((record.offset, (text(record.key.unwrap_or_default())?, text(record.value?)?)))
    });
    records.collect()
}
