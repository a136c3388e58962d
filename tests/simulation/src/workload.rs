//! What the clients do: create the topic, produce (idempotent, `acks=all`), consume, and commit offsets of a group. A step whose
//! outcome a power cut hid is repeated in the next life.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::records::{Batch, BatchBuilder};

use crate::access::{self, TRIES};
use crate::client::Client;
use crate::group::{self, Membership};
use crate::model::{Fetched, Model, PARTITIONS, Pending};

pub const TOPIC: &str = "t";

pub type SharedModel = Arc<Mutex<Model>>;

/// Creates the topic, if that is not acknowledged yet.
pub async fn create_topic(client: &mut Client, model: &SharedModel, durability: &'static str) -> Result<(), String> {
    if !model.lock().unwrap().topic_exists {
        let configs = [("durability", durability), ("segment.ms", "400")];
        access::create_topic(client, TOPIC, PARTITIONS as i32, &configs).await?;
        model.lock().unwrap().topic_exists = true;
    }
    Ok(())
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
        let place = (TOPIC, partition);
        let Some(answer) = access::produce(&mut client, place, None, records, &what).await else { continue };
        let mut model = model.lock().unwrap();
        match answer {
            Ok(_) | Err(ErrorCode::DUPLICATE_SEQUENCE_NUMBER) => {
                let sent = &mut model.producers[number].sent[partition];
                let pending = sent.pending.take().unwrap();
                sent.next_sequence += pending.values.len() as i32;
                model.counts.acknowledged += pending.values.len();
                model.acknowledged_batches[partition] += 1;
                if let Ok(base_offset) = answer {
                    model.acknowledged[partition].extend((base_offset..).zip(pending.values));
                }
            }
            Err(code @ (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID)) => {
                model.violated(format!("{what} was refused: {code:?}"));
            }
            Err(_) => {}
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
    let what = format!("{:?}", pending.values);
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
    let data = access::fetch(client, (TOPIC, partition), offset, max_wait_ms, false).await?;
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
    let records = access::records_of(batch)?;
    Some(records.into_iter().map(|(offset, (_, value))| (offset, value)).collect())
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
                    let found = log.len() as i64 > from;
                    if log.len() as i64 >= high_watermark {
                        break;
                    }
                    match found {
                        true => failures = 0,
                        false if failures == TRIES => {
                            return Err(format!("t-{partition} ends before its high watermark"));
                        }
                        false => failures += 1,
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
