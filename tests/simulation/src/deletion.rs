//! Records and topics that go: DeleteRecords and retention on one topic, deletion and recreation of another.
//!
//! Rules: the log start is at or above every acknowledged DeleteRecords, and no record goes that no DeleteRecords named and that
//! is younger than `retention.ms`. A topic that was created again has nothing of the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use esker_protocol::records::{Batch, BatchBuilder};

use crate::access::{TRIES, create_topic, fetch, produce, records_of};
use crate::client::Client;
use crate::workload::SharedModel;

const TRIMMED: &str = "d";
const RECREATED: &str = "e";
const RETENTION_MS: i64 = 2500;
const CONFIGS: [(&str, &str); 3] = [("segment.ms", "300"), ("retention.ms", "2500"), ("file.delete.delay.ms", "100")];
/// The timestamp that stands for the first offset.
const EARLIEST: i64 = -2;

/// What the client knows of the topic whose records go.
#[derive(Debug, Default)]
pub struct Trimmed {
    topic_exists: bool,
    /// Numbers and timestamps of acknowledged records.
    acknowledged: BTreeMap<i64, (usize, i64)>,
    sent: usize,
    start_acknowledged: i64,
    start_sent: i64,
    /// The largest log start that a check found, and how much of it was retention's.
    pub by_retention: i64,
}

/// What the client knows of the topic that is deleted and created again.
#[derive(Debug, Default)]
pub struct Recreated {
    /// It is created and no deletion was sent since.
    exists: bool,
    pub incarnation: usize,
    acknowledged: Vec<String>,
}

fn batch(client: &Client, values: &[String]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (delta, value) in (0..).zip(values) {
        builder.append(delta, client.lab().node.now_ms(), None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

/// After no answer: the request may be on its way still.
async fn let_pass() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Produces and deletes records until it is dropped.
pub async fn trim(mut client: Client, model: SharedModel) {
    loop {
        client.lab().pause(40).await;
        if client.lab().below(8) == 0 {
            delete_records(&mut client, &model).await;
            continue;
        }
        let (count, now_ms) = (1 + client.lab().below(3), client.lab().node.now_ms());
        let first = {
            let trimmed = &mut model.lock().unwrap().trimmed;
            trimmed.sent += count;
            trimmed.sent - count
        };
        let values: Vec<String> = (first..first + count).map(|number| number.to_string()).collect();
        let records = batch(&client, &values);
        match produce(&mut client, (TRIMMED, 0), None, records, &format!("{values:?}")).await {
            Some(Ok(base)) => {
                let records = (base..).zip((first..first + count).map(|number| (number, now_ms)));
                model.lock().unwrap().trimmed.acknowledged.extend(records);
            }
            Some(Err(_)) => {}
            None => let_pass().await,
        }
    }
}

async fn delete_records(client: &mut Client, model: &SharedModel) {
    let end = model.lock().unwrap().trimmed.acknowledged.last_key_value().map_or(0, |(offset, _)| offset + 1);
    let offset = end - client.lab().below(30) as i64;
    if offset <= model.lock().unwrap().trimmed.start_acknowledged {
        return;
    }
    {
        let trimmed = &mut model.lock().unwrap().trimmed;
        trimmed.start_sent = trimmed.start_sent.max(offset);
    }
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name: TRIMMED.into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5000 };
    let Some(answer) = client.ask(1, &request, &format!("DeleteRecords {offset}")).await else { return };
    let answer = &answer.topics[0].partitions[0];
    client.note(&format!("DeleteRecords {:?} {}", answer.error_code, answer.low_watermark));
    if answer.error_code == ErrorCode::NONE {
        let trimmed = &mut model.lock().unwrap().trimmed;
        trimmed.start_acknowledged = trimmed.start_acknowledged.max(offset);
    }
}

async fn log_start(client: &mut Client) -> Option<i64> {
    let partition = ListOffsetsPartition { timestamp: EARLIEST, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: TRIMMED.into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
    let answer = client.ask(5, &request, "ListOffsets d").await?;
    let answer = &answer.topics[0].partitions[0];
    client.note(&format!("ListOffsets {:?} {}", answer.error_code, answer.offset));
    (answer.error_code == ErrorCode::NONE).then_some(answer.offset)
}

/// Reads a partition from its start on; `None` if that failed.
async fn read(client: &mut Client, topic: &'static str, start: i64) -> Option<BTreeMap<i64, String>> {
    let (mut log, mut position) = (BTreeMap::new(), start);
    loop {
        let data = fetch(client, (topic, 0), position, 0, false).await?;
        if data.error_code != ErrorCode::NONE {
            return None;
        }
        let mut rest = data.records.unwrap_or_default();
        while let Ok((batch, behind)) = Batch::parse(rest) {
            rest = behind;
            position = batch.header.base_offset + i64::from(batch.header.last_offset_delta) + 1;
            log.extend(records_of(&batch)?.into_iter().map(|(at, (_, value))| (at, value)));
        }
        if position >= data.high_watermark {
            return Some(log);
        }
    }
}

/// Holds both topics against the rules.
pub async fn verify(client: &mut Client, model: &SharedModel) -> Result<(), String> {
    if !model.lock().unwrap().trimmed.topic_exists {
        create_topic(client, TRIMMED, 1, &CONFIGS).await?;
        model.lock().unwrap().trimmed.topic_exists = true;
    }
    for _ in 0..TRIES {
        client.lab().pause(20).await;
        let Some(start) = log_start(client).await else { continue };
        // Retention may move the start meanwhile: it is read again then.
        let Some(log) = read(client, TRIMMED, start).await else { continue };
        let mut model = model.lock().unwrap();
        let checked = model.trimmed.check(start, &log, client.lab().node.now_ms());
        if let Err(what) = &checked {
            model.violated(what.clone());
        }
        return checked;
    }
    Err(format!("{TRIMMED}-0 cannot be read"))
}

impl Trimmed {
    fn check(&mut self, start: i64, log: &BTreeMap<i64, String>, now_ms: i64) -> Result<(), String> {
        if start < self.start_acknowledged {
            return Err(format!("{TRIMMED}-0 starts at {start}; deleted up to {}", self.start_acknowledged));
        }
        for (offset, (number, timestamp)) in &self.acknowledged {
            let may_go = *offset < self.start_sent || *timestamp <= now_ms - RETENTION_MS;
            let found = log.get(offset);
            let fits = match found {
                Some(value) => *value == number.to_string(),
                None => *offset < start && may_go,
            };
            if !fits {
                return Err(format!(
                    "{TRIMMED}-0: {number} was acknowledged at {offset}; start {start}, found {found:?}"
                ));
            }
        }
        self.by_retention = self.by_retention.max(start - self.start_sent);
        Ok(())
    }
}

/// Creates the other topic, writes to it and deletes it, until it is dropped.
pub async fn recreate(mut client: Client, model: SharedModel) {
    loop {
        client.lab().pause(60).await;
        let incarnation = model.lock().unwrap().recreated.incarnation;
        if !model.lock().unwrap().recreated.exists {
            if create_topic(&mut client, RECREATED, 1, &[("file.delete.delay.ms", "50")]).await.is_err() {
                continue;
            }
            model.lock().unwrap().recreated.exists = true;
        }
        for number in 0..client.lab().below(6) {
            let value = format!("{incarnation}-{number}");
            let records = batch(&client, std::slice::from_ref(&value));
            match produce(&mut client, (RECREATED, 0), None, records, &value).await {
                Some(Ok(_)) => model.lock().unwrap().recreated.acknowledged.push(value),
                Some(Err(_)) => {}
                None => let_pass().await,
            }
        }
        verify_recreated(&mut client, &model).await;
        if model.lock().unwrap().violation.is_some() || client.lab().below(2) > 0 {
            continue;
        }
        delete_topic(&mut client, &model).await;
    }
}

async fn delete_topic(client: &mut Client, model: &SharedModel) {
    {
        // Whatever the answer, what was there need not be any more.
        let recreated = &mut model.lock().unwrap().recreated;
        recreated.exists = false;
        recreated.acknowledged.clear();
    }
    let request =
        DeleteTopicsRequest { topic_names: vec![RECREATED.into()], timeout_ms: 5000, ..DeleteTopicsRequest::default() };
    for _ in 0..TRIES {
        let answer = client.ask(5, &request, "DeleteTopics e").await;
        let Some(answer) = answer else {
            let_pass().await;
            continue;
        };
        let code = answer.responses[0].error_code;
        client.note(&format!("DeleteTopics {code:?}"));
        if [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION].contains(&code) {
            model.lock().unwrap().recreated.incarnation += 1;
            return;
        }
        client.lab().pause(50).await;
    }
}

/// Holds the topic, if it is there, against what was written to this incarnation.
pub async fn verify_recreated(client: &mut Client, model: &SharedModel) {
    let Some(log) = read(client, RECREATED, 0).await else { return };
    let mut model = model.lock().unwrap();
    let recreated = &model.recreated;
    let own = format!("{}-", recreated.incarnation);
    let foreign = log.values().find(|value| !value.starts_with(&own));
    let lost = recreated.acknowledged.iter().find(|value| !log.values().any(|found| found == *value));
    if foreign.is_some() || lost.is_some() {
        let what = format!("{RECREATED}-0, incarnation {own}: {foreign:?} is not of it, {lost:?} is missing");
        model.violated(what);
    }
}
