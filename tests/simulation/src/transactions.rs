//! A transactional producer over two partitions, and a reader with `read_committed`.
//!
//! Rules: all of a committed transaction is visible, nothing of an aborted one, and one whose EndTxn was not answered is visible in all
//! partitions or in none. A transaction that was never asked to commit is aborted.

use std::collections::BTreeMap;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::records::{Batch, BatchBuilder, EndTxnMarker};

use crate::access::{TRIES, create_topic, fetch, produce, records_of};
use crate::client::Client;
use crate::workload::SharedModel;

const TOPIC: &str = "x";
const ID: &str = "tx";
const PARTITIONS: usize = 2;
/// The kind of coordinator.
const TRANSACTION: i8 = 1;

/// How a transaction ended, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    /// EndTxn with a commit was sent, and not answered.
    Unknown,
}

#[derive(Debug)]
struct Transaction {
    fate: Fate,
    /// Records that were sent to each partition.
    records: [usize; PARTITIONS],
}

/// What the client knows of its transactions; they are numbered.
#[derive(Debug, Default)]
pub struct Transactions {
    topic_exists: bool,
    all: Vec<Transaction>,
    pub committed: usize,
    pub aborted: usize,
}

type Producer = (i64, i16);

/// Begins and ends transactions until it is dropped.
pub async fn run(mut client: Client, model: SharedModel) {
    loop {
        client.lab().pause(20).await;
        let Some(producer) = init(&mut client).await else { continue };
        let mut sequences = [0; PARTITIONS];
        while transaction(&mut client, &model, producer, &mut sequences).await.is_some() {
            client.lab().pause(30).await;
        }
    }
}

/// Ends what the producer before has left open.
async fn init(client: &mut Client) -> Option<Producer> {
    let find = FindCoordinatorRequest { key: ID.into(), key_type: TRANSACTION, ..FindCoordinatorRequest::default() };
    let found = client.ask(3, &find, "FindCoordinator tx").await?;
    client.note(&format!("FindCoordinator {:?}", found.error_code));
    if found.error_code != ErrorCode::NONE {
        return None;
    }
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let answer = client.ask(4, &request, "InitProducerId tx").await?;
    client.note(&format!("InitProducerId {:?} {} {}", answer.error_code, answer.producer_id, answer.producer_epoch));
    (answer.error_code == ErrorCode::NONE).then_some((answer.producer_id, answer.producer_epoch))
}

/// One transaction; `None` if the producer has to begin anew.
async fn transaction(
    client: &mut Client,
    model: &SharedModel,
    (id, epoch): Producer,
    sequences: &mut [i32; PARTITIONS],
) -> Option<()> {
    add_partitions(client, (id, epoch)).await?;
    let number = {
        let all = &mut model.lock().unwrap().transactions.all;
        all.push(Transaction { fate: Fate::Aborted, records: [0; PARTITIONS] });
        all.len() - 1
    };
    for _ in 0..2 + client.lab().below(3) {
        let (partition, count) = (client.lab().below(PARTITIONS), 1 + client.lab().below(3));
        let first = {
            let records = &mut model.lock().unwrap().transactions.all[number].records[partition];
            *records += count;
            *records - count
        };
        let mut builder =
            BatchBuilder::new(Compression::None).producer(id, epoch, sequences[partition]).transactional(true);
        for delta in 0..count {
            let value = format!("{number}-{}", first + delta);
            builder.append(delta as i32, client.lab().node.now_ms(), None, Some(value.as_bytes()), &[]);
        }
        let what = format!("transaction {number}");
        produce(client, (TOPIC, partition), Some(ID), builder.build().unwrap(), &what).await?.ok()?;
        sequences[partition] += count as i32;
    }
    end(client, model, number, (id, epoch)).await
}

async fn add_partitions(client: &mut Client, (id, epoch): Producer) -> Option<()> {
    let topic = AddPartitionsToTxnTopic { name: TOPIC.into(), partitions: (0..PARTITIONS as i32).collect() };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: id,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: vec![topic],
        ..AddPartitionsToTxnRequest::default()
    };
    for _ in 0..TRIES {
        let answer = client.ask(3, &request, "AddPartitionsToTxn").await?;
        let code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
        client.note(&format!("AddPartitionsToTxn {code:?}"));
        match code {
            ErrorCode::NONE => return Some(()),
            ErrorCode::CONCURRENT_TRANSACTIONS => client.lab().pause(20).await,
            _ => return None,
        }
    }
    None
}

async fn end(client: &mut Client, model: &SharedModel, number: usize, (id, epoch): Producer) -> Option<()> {
    let committed = client.lab().below(3) > 0;
    if committed {
        model.lock().unwrap().transactions.all[number].fate = Fate::Unknown;
    }
    let request = EndTxnRequest { transactional_id: ID.into(), producer_id: id, producer_epoch: epoch, committed };
    let answer = client.ask(3, &request, &format!("EndTxn {number} committed: {committed}")).await?;
    client.note(&format!("EndTxn {:?}", answer.error_code));
    if answer.error_code != ErrorCode::NONE {
        return None;
    }
    let transactions = &mut model.lock().unwrap().transactions;
    if committed {
        transactions.all[number].fate = Fate::Committed;
        transactions.committed += 1;
    } else {
        transactions.aborted += 1;
    }
    Some(())
}

/// Reads everything with `read_committed` and holds it against the rules.
pub async fn verify(client: &mut Client, model: &SharedModel) -> Result<(), String> {
    if !model.lock().unwrap().transactions.topic_exists {
        create_topic(client, TOPIC, PARTITIONS as i32, &[("segment.ms", "500")]).await?;
        model.lock().unwrap().transactions.topic_exists = true;
    }
    let mut tries = 0;
    while init(client).await.is_none() {
        tries += 1;
        if tries == TRIES {
            return Err("the transactional producer cannot begin anew".to_owned());
        }
        client.lab().pause(20).await;
    }
    let mut visible = [BTreeMap::new(), BTreeMap::new()];
    for (partition, found) in visible.iter_mut().enumerate() {
        *found = read_committed(client, partition).await?;
    }
    let mut model = model.lock().unwrap();
    let checked = model.transactions.check(&visible);
    if let Err(what) = &checked {
        model.violated(what.clone());
    }
    checked
}

/// How many records of each transaction a reader sees, in order and without a gap.
async fn read_committed(client: &mut Client, partition: usize) -> Result<BTreeMap<usize, usize>, String> {
    let (mut visible, mut position, mut failures) = (BTreeMap::new(), 0, 0);
    // Producers of aborted transactions by first offset.
    let mut aborted: Vec<(i64, i64)> = Vec::new();
    loop {
        if failures == TRIES {
            return Err(format!("{TOPIC}-{partition} cannot be read"));
        }
        let answer = fetch(client, (TOPIC, partition), position, 0, true).await;
        let Some(data) = answer.filter(|data| data.error_code == ErrorCode::NONE) else {
            failures += 1;
            client.lab().pause(20).await;
            continue;
        };
        for one in data.aborted_transactions.unwrap_or_default() {
            aborted.push((one.first_offset, one.producer_id));
        }
        aborted.sort_unstable();
        aborted.dedup();
        let mut rest = data.records.unwrap_or_default();
        while let Ok((batch, behind)) = Batch::parse(rest) {
            rest = behind;
            position = batch.header.base_offset + i64::from(batch.header.last_offset_delta) + 1;
            let (at, producer) = (batch.header.base_offset, batch.header.producer_id);
            if batch.header.attributes.is_control() {
                let record = batch.records(1 << 20).ok().and_then(|mut records| records.next()?.ok());
                let marker = record.and_then(|record| EndTxnMarker::parse(&record.key?, &record.value?));
                if marker.is_some_and(|marker| !marker.committed) {
                    let ended = aborted.iter().position(|(first, of)| *of == producer && *first <= at);
                    ended.map(|ended| aborted.remove(ended));
                }
                continue;
            }
            if aborted.iter().any(|(first, of)| *of == producer && *first <= at) {
                continue;
            }
            let records = records_of(&batch).ok_or("a batch of a transaction is damaged")?;
            for (_, value) in records.into_values() {
                let (transaction, number) = value.split_once('-').unwrap();
                let seen = visible.entry(transaction.parse().unwrap()).or_insert(0);
                if number.parse() != Ok(*seen) {
                    return Err(format!("{TOPIC}-{partition}: {value} where record {seen} comes next"));
                }
                *seen += 1;
            }
        }
        // Markers of the transaction before may be on their way.
        if position >= data.high_watermark && data.last_stable_offset == data.high_watermark {
            return Ok(visible);
        }
        failures += 1;
        client.lab().pause(20).await;
    }
}

impl Transactions {
    fn check(&mut self, visible: &[BTreeMap<usize, usize>; PARTITIONS]) -> Result<(), String> {
        for (number, transaction) in self.all.iter_mut().enumerate() {
            let seen = [0, 1].map(|partition| visible[partition].get(&number).copied().unwrap_or(0));
            let whole = seen == transaction.records;
            let nothing = seen == [0; PARTITIONS];
            let fits = match transaction.fate {
                Fate::Committed => whole,
                Fate::Aborted => nothing,
                Fate::Unknown => whole || nothing,
            };
            if !fits {
                return Err(format!(
                    "transaction {number} is {:?}: sent {:?}, visible {seen:?}",
                    transaction.fate, transaction.records
                ));
            }
            transaction.fate = if whole { Fate::Committed } else { Fate::Aborted };
        }
        Ok(())
    }
}
