//! Producers, transactional and plain, and consumers against a broker that is killed (kill -9) again and again, while clients die as
//! well: what they saw is held against the checker of histories.
//!
//! About 40 s; `ESKER_HISTORY_SECONDS` for more or less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::{BatchBuilder, Batches, ControlType};
use esker_protocol::{Request, decode_response, encode_request};
use esker_tests::history::{Fate, History, Poll, Send};
use esker_tests::{Esker, PATIENCE};

const PARTITIONS: i32 = 3;
const TOPIC: &str = "t";
/// A pause before something is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// What all of them share.
#[derive(Default)]
struct World {
    address: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    next: AtomicU64,
    /// Ends of transactions that came again, and were refused.
    late: AtomicU64,
    history: Mutex<History>,
}

impl World {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn value(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A connection that is opened when it is needed.
struct Link {
    world: Arc<World>,
    stream: Option<TcpStream>,
}

impl Link {
    fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), stream: None }
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let answer = self.try_ask(version, request);
        if answer.is_err() {
            self.stream = None;
            std::thread::sleep(PAUSE);
        }
        answer
    }

    fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let address = self.world.address.lock().unwrap().ok_or(io::ErrorKind::NotConnected)?;
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream
            }
        };
        stream.write_all(&encode_request(version, 1, Some("history".into()), request).unwrap().into_bytes())?;
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        stream.read_exact(&mut frame)?;
        self.stream = Some(stream);
        Ok(decode_response::<R>(version, frame.into()).expect("it can be decoded").1)
    }

    /// Asks until there is an answer that `good` takes.
    fn insist<R: Request>(&mut self, version: i16, request: &R, good: impl Fn(&R::Response) -> bool) -> R::Response {
        let until = Instant::now() + PATIENCE * 2;
        loop {
            match self.ask(version, request) {
                Ok(answer) if good(&answer) => return answer,
                Ok(_) => std::thread::sleep(PAUSE),
                Err(_) => {}
            }
            assert!(Instant::now() < until, "nobody answers {version} {request:?}");
        }
    }

    fn producer(&mut self, transactional_id: Option<&str>) -> Identity {
        if let Some(id) = transactional_id {
            let find = FindCoordinatorRequest {
                key_type: 1,
                coordinator_keys: vec![Str::copy(id)],
                ..FindCoordinatorRequest::default()
            };
            self.insist(4, &find, |answer| answer.coordinators[0].error_code == ErrorCode::NONE);
        }
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(Str::copy),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = self.insist(5, &request, |answer| answer.error_code == ErrorCode::NONE);
        Identity { id: answer.producer_id, epoch: answer.producer_epoch, sequences: [0; PARTITIONS as usize] }
    }
}

/// A producer as the broker knows it.
struct Identity {
    id: i64,
    epoch: i16,
    sequences: [i32; PARTITIONS as usize],
}

impl Identity {
    fn produce(&self, partition: i32, values: &[u64], transactional_id: Option<&str>) -> ProduceRequest {
        let sequence = self.sequences[usize::try_from(partition).unwrap()];
        let mut batch = BatchBuilder::new(Compression::None)
            .producer(self.id, self.epoch, sequence)
            .transactional(transactional_id.is_some());
        for (at, value) in values.iter().enumerate() {
            batch.append(i32::try_from(at).unwrap(), 1, None, Some(value.to_string().as_bytes()), &[]);
        }
        let records = Some(batch.build().unwrap());
        ProduceRequest {
            transactional_id: transactional_id.map(Str::copy),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC.into(),
                partition_data: vec![PartitionProduceData { index: partition, records }],
                ..TopicProduceData::default()
            }],
        }
    }

    fn advance(&mut self, partition: i32, by: usize) {
        self.sequences[usize::try_from(partition).unwrap()] += i32::try_from(by).unwrap();
    }
}

fn outcome(answer: &<ProduceRequest as Request>::Response) -> (ErrorCode, i64) {
    let part = &answer.responses[0].partition_responses[0];
    (part.error_code, part.base_offset)
}

fn sends(producer: u32, partition: i32, values: &[u64], transaction: Option<u64>, fate: Fate, base: i64) -> Vec<Send> {
    let offset = |at: usize| (fate == Fate::Done && base >= 0).then(|| base + i64::try_from(at).unwrap());
    let send =
        |(at, value): (usize, &u64)| Send { producer, partition, value: *value, transaction, fate, offset: offset(at) };
    values.iter().enumerate().map(send).collect()
}

/// An idempotent producer: it sends a batch again, with the same sequence, until it has an answer.
fn plain(world: &Arc<World>, me: u32) {
    let mut link = Link::new(world);
    let mut who = link.producer(None);
    let mut round = 0;
    while !world.is_over() {
        round += 1;
        let partition = round % PARTITIONS;
        let values: Vec<u64> = (0..3).map(|_| world.value()).collect();
        let request = who.produce(partition, &values, None);
        let again = |code: ErrorCode| {
            matches!(
                code,
                ErrorCode::NOT_LEADER_OR_FOLLOWER
                    | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    | ErrorCode::REQUEST_TIMED_OUT
            )
        };
        let (code, base) = outcome(&link.insist(12, &request, |answer| !again(outcome(answer).0)));
        assert!(matches!(code, ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER), "a producer is told {code:?}");
        who.advance(partition, values.len());
        let base = if code == ErrorCode::NONE { base } else { -1 };
        world.history.lock().unwrap().sends.extend(sends(me, partition, &values, None, Fate::Done, base));
    }
}

/// A transactional producer: some transactions it aborts, in some it dies, and comes back as itself.
fn transactional(world: &Arc<World>, me: u32) {
    let id = format!("tx-{me}");
    let (mut round, mut at) = (0, [0; PARTITIONS as usize]);
    'lives: while !world.is_over() {
        let (mut link, mut other) = (Link::new(world), Link::new(world));
        let mut who = link.producer(Some(&id));
        let mut before: Option<EndTxnRequest> = None;
        while !world.is_over() {
            round += 1;
            let transaction = u64::from(me) << 32 | round;
            let note = |fate: Fate| _ = world.history.lock().unwrap().transactions.insert(transaction, fate);
            // Until its commit is asked for, it must not be seen whatever happens.
            note(Fate::Failed);
            for (step, at) in (0..).zip(&mut at) {
                // What it reads counts with the transaction.
                if let Ok((records, next, _)) = fetch(&mut link, step, *at, 0) {
                    *at = next;
                    let poll = Poll { consumer: (me, 0), partition: step, records, transaction: Some(transaction) };
                    world.history.lock().unwrap().polls.push(poll);
                }
                let values = [world.value(), world.value()];
                let request = who.produce(step, &values, Some(&id));
                // The end of the transaction before may still be written down.
                let sent = loop {
                    match link.ask(12, &request).map(|answer| outcome(&answer)) {
                        Ok((ErrorCode::CONCURRENT_TRANSACTIONS, _)) => std::thread::sleep(PAUSE),
                        sent => break sent,
                    }
                };
                let (fate, base) = match sent {
                    Ok((ErrorCode::NONE, base)) => (Fate::Done, base),
                    Ok(_) => (Fate::Failed, -1),
                    Err(_) => (Fate::Unknown, -1),
                };
                let made = sends(me, step, &values, Some(transaction), fate, base);
                world.history.lock().unwrap().sends.extend(made);
                if fate != Fate::Done || (round % 7 == 3 && step == 1) {
                    continue 'lives;
                }
                who.advance(step, values.len());
                // The end of the transaction before comes again, late: it must not end this one.
                if let Some(late) = before.take_if(|_| step == 1)
                    && let Ok(answer) = other.ask(5, &late)
                {
                    assert!(answer.error_code.is_error(), "a late end is taken in the middle of {transaction}");
                    world.late.fetch_add(1, Ordering::Relaxed);
                }
            }
            let committed = round % 4 != 0;
            if committed {
                note(Fate::Unknown);
            }
            let end = EndTxnRequest {
                transactional_id: Str::copy(&id),
                producer_id: who.id,
                producer_epoch: who.epoch,
                committed,
            };
            match link.ask(5, &end) {
                Ok(answer) if answer.error_code == ErrorCode::NONE => {
                    if committed {
                        note(Fate::Done);
                    }
                    before = (round % 3 == 0).then_some(end);
                    if answer.producer_id >= 0 {
                        // A new epoch begins its sequences anew.
                        who = Identity { id: answer.producer_id, epoch: answer.producer_epoch, sequences: [0; 3] };
                    }
                }
                _ => continue 'lives,
            }
        }
    }
    // What it left open ends.
    Link::new(world).producer(Some(&id));
}

/// Offsets and values of records, where to go on, and the high watermark.
type Fetched = (Vec<(i64, u64)>, i64, i64);

/// Committed records of a partition from an offset on.
fn fetch(link: &mut Link, partition: i32, from: i64, wait_ms: i32) -> io::Result<Fetched> {
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: 1,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: from,
                partition_max_bytes: 64 << 10,
                current_leader_epoch: -1,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let answer = link.ask(12, &request)?;
    let Some(data) = answer.responses.first().map(|topic| &topic.partitions[0]) else {
        return Ok((Vec::new(), from, -1));
    };
    if data.error_code.is_error() {
        std::thread::sleep(PAUSE);
        return Ok((Vec::new(), from, -1));
    }
    let mut aborts = data.aborted_transactions.clone().unwrap_or_default();
    aborts.sort_by_key(|aborted| aborted.first_offset);
    let (mut aborting, mut records, mut next) = (BTreeSet::new(), Vec::new(), from);
    for batch in Batches::new(data.records.clone().unwrap_or_default()) {
        let batch = batch.expect("a whole batch");
        let header = &batch.header;
        next = header.base_offset + i64::from(header.last_offset_delta) + 1;
        aborts.retain(|aborted| {
            let begins = aborted.first_offset < next;
            if begins {
                aborting.insert(aborted.producer_id);
            }
            !begins
        });
        for record in batch.records(1 << 20).expect("records") {
            let record = record.expect("a record");
            if header.attributes.is_control() {
                if record.key.as_ref().and_then(|key| ControlType::parse(key)) == Some(ControlType::Abort) {
                    aborting.remove(&header.producer_id);
                }
            } else if record.offset >= from
                && !(header.attributes.is_transactional() && aborting.contains(&header.producer_id))
            {
                let value = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap();
                records.push((record.offset, value));
            }
        }
    }
    Ok((records, next, data.high_watermark))
}

/// A consumer: it goes on where it was over broken connections, and now and then dies and begins anew.
fn consumer(world: &Arc<World>, me: u32) {
    for life in 0.. {
        let (mut link, mut at) = (Link::new(world), [0; PARTITIONS as usize]);
        for _ in 0..400 {
            for (partition, at) in (0..).zip(&mut at) {
                if world.is_over() {
                    return;
                }
                let Ok((records, next, _)) = fetch(&mut link, partition, *at, 20) else { continue };
                *at = next;
                if !records.is_empty() {
                    let poll = Poll { consumer: (me, life), partition, records, transaction: None };
                    world.history.lock().unwrap().polls.push(poll);
                }
            }
        }
    }
}

/// All that is committed when nothing is open any more.
fn last(world: &Arc<World>) -> BTreeMap<i32, Vec<(i64, u64)>> {
    let mut link = Link::new(world);
    let read = |partition| {
        let (mut all, mut at) = (Vec::new(), 0);
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(
                Instant::now() < until,
                "partition {partition} is not read to its end: a transaction hangs at {at}"
            );
            let Ok((records, next, end)) = fetch(&mut link, partition, at, 100) else { continue };
            all.extend(records);
            at = next;
            if end >= 0 && at >= end {
                return (partition, all);
            }
        }
    };
    (0..PARTITIONS).map(read).collect()
}

#[test]
fn what_clients_see_while_all_die_is_what_a_log_promises() {
    let seconds = std::env::var("ESKER_HISTORY_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let start = || {
        let esker = Esker::start(dir.path());
        *world.address.lock().unwrap() = Some(esker.kafka);
        esker
    };
    let mut esker = start();
    let bootstrap = esker.kafka.to_string();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let client = Client::connect(ClientConfig::new(&bootstrap)).await.unwrap();
        let topic = NewTopic { partitions: PARTITIONS, ..NewTopic::new(TOPIC) };
        Admin::new(&client).create_topics(&[topic], false).await.unwrap().remove(0).unwrap();
    });
    let role = |run: fn(&Arc<World>, u32), me: u32| {
        let world = Arc::clone(&world);
        std::thread::spawn(move || run(&world, me))
    };
    let threads = [
        role(plain, 1),
        role(plain, 2),
        role(transactional, 3),
        role(transactional, 4),
        role(transactional, 5),
        role(consumer, 6),
        role(consumer, 7),
    ];
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut kills, mut seen) = (0, 0);
    while Instant::now() < until {
        // Each life of the broker sees new transactions and records, however slow the machine is.
        let life = Instant::now();
        loop {
            let now = world.next.load(Ordering::Relaxed);
            if now > seen + 200 && life.elapsed() > Duration::from_millis(1500) {
                seen = now;
                break;
            }
            assert!(life.elapsed() < PATIENCE * 2, "nobody gets on");
            std::thread::sleep(PAUSE);
        }
        *world.address.lock().unwrap() = None;
        esker.kill();
        esker = start();
        kills += 1;
    }
    world.stop.store(true, Ordering::Release);
    for thread in threads {
        thread.join().expect("a client's end");
    }
    let last = last(&world);
    let mut history = std::mem::take(&mut *world.history.lock().unwrap());
    history.last = last;
    let count = |fate| history.transactions.values().filter(|is| **is == fate).count();
    let late = world.late.load(Ordering::Relaxed);
    let read: usize = history.last.values().map(Vec::len).sum();
    println!(
        "{kills} kills, {} sends, transactions: {} committed, {} not, {} unknown, {late} ended late; {} polls, {read} records at last",
        history.sends.len(),
        count(Fate::Done),
        count(Fate::Failed),
        count(Fate::Unknown),
        history.polls.len()
    );
    assert!(late > 0);
    assert!(kills >= 1 && count(Fate::Done) > 0 && count(Fate::Failed) > 0 && !history.polls.is_empty());
    let guilt = history.guilt();
    assert!(guilt.is_empty(), "{} crimes, the first: {:?}", guilt.len(), &guilt[..guilt.len().min(20)]);
}
