//! Paced producers, tail consumers, and the one who reads what is cold.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use esker_benches::{process, sample_batch};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::Batches;
use esker_protocol::{decode_response, encode_request};

use crate::{Options, Result};
use esker_benches::client::Connection;

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
/// As a Java consumer asks by default.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
/// Bytes of a batch of the cold topic, and requests in flight while it is written.
const FILL_BATCH: usize = 256 * 1024;
const IN_FLIGHT: usize = 8;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latencies {
    /// Half are below.
    pub p50: f64,
    /// All but one in a hundred are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Latencies {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |part: f64| {
            let index = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
            all.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }

    /// Of each figure the median.
    pub fn median<'a>(of: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self {
            p50: median(of.clone().map(|l| l.p50).collect()),
            p99: median(of.clone().map(|l| l.p99).collect()),
            max: median(of.map(|l| l.max).collect()),
        }
    }
}

/// The middle one, or the mean of both.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    if values.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 }
}

/// What a phase came to.
pub struct Outcome {
    pub produce: Latencies,
    pub tail: Latencies,
    pub cold_bytes: u64,
    pub cold_seconds: f64,
    pub by_second: Vec<Second>,
}

/// One second of a phase.
pub struct Second {
    pub produce: Latencies,
    /// Bytes that the cold reader got.
    pub read: u64,
    /// CPU seconds that the host took.
    pub stolen: f64,
}

/// Makes a topic.
pub fn create_topic(address: SocketAddr, name: &str, partitions: i32, durability: &str) -> Result<()> {
    let configs = vec![CreatableTopicConfig { name: Str::copy("durability"), value: Some(Str::copy(durability)) }];
    let topic = CreatableTopic {
        name: Str::copy(name),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    for topic in Connection::open(address)?.call(5, &request)?.topics {
        if topic.error_code != ErrorCode::NONE {
            return Err(format!("cannot create topic {name}: {:?} {:?}", topic.error_code, topic.error_message).into());
        }
    }
    Ok(())
}

fn produce_frame(topic: &str, partition: i32, acks: i16, batch_bytes: usize) -> Result<(Bytes, u64)> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let (batch, _) = sample_batch(Compression::None, 1024, batch_bytes, now)?;
    let size = batch.len() as u64;
    let data = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData { name: Str::copy(topic), partition_data: vec![data], ..TopicProduceData::default() };
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() };
    Ok((encode_request(PRODUCE_VERSION, 0, Some("cold-reads".into()), &request)?.into_bytes(), size))
}

fn acknowledged(connection: &mut Connection) -> Result<()> {
    connection.receive(|frame| {
        let (_, answer) = decode_response::<ProduceRequest>(PRODUCE_VERSION, frame)?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if partition.error_code != ErrorCode::NONE {
                return Err(format!("a batch was refused: {:?}", partition.error_code).into());
            }
        }
        Ok(())
    })
}

/// Writes `bytes` to partition 0.
pub fn fill(address: SocketAddr, topic: &str, bytes: u64) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let (frame, size) = produce_frame(topic, 0, 1, FILL_BATCH)?;
    let mut waiting = 0;
    for _ in 0..bytes.div_ceil(size) {
        if waiting == IN_FLIGHT {
            acknowledged(&mut connection)?;
            waiting -= 1;
        }
        connection.send(&frame)?;
        waiting += 1;
    }
    (0..waiting).try_for_each(|_| acknowledged(&mut connection))
}

/// What one fetch of a partition brought.
struct Fetched {
    bytes: u64,
    batches: usize,
    next: i64,
    high_watermark: i64,
}

fn fetch(connection: &mut Connection, topic: &str, partition: i32, offset: i64) -> Result<Fetched> {
    let wanted = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: PARTITION_MAX_BYTES,
        ..FetchPartition::default()
    };
    let topics = vec![FetchTopic { topic: Str::copy(topic), partitions: vec![wanted], ..FetchTopic::default() }];
    let request =
        FetchRequest { max_wait_ms: 200, min_bytes: 1, max_bytes: 50 << 20, topics, ..FetchRequest::default() };
    connection.send(&encode_request(FETCH_VERSION, 0, Some("cold-reads".into()), &request)?.into_bytes())?;
    connection.receive(|frame| {
        let (_, answer) = decode_response::<FetchRequest>(FETCH_VERSION, frame)?;
        let mut found = Fetched { bytes: 0, batches: 0, next: offset, high_watermark: 0 };
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            if partition.error_code != ErrorCode::NONE {
                return Err(format!("a fetch was refused: {:?}", partition.error_code).into());
            }
            found.high_watermark = partition.high_watermark;
            for batch in Batches::new(partition.records.unwrap_or_default()) {
                let batch = batch?;
                found.bytes += batch.bytes.len() as u64;
                found.batches += 1;
                found.next = batch.header.next_offset();
            }
        }
        Ok(found)
    })
}

fn take<T>(all: &Mutex<Vec<T>>) -> Vec<T> {
    all.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default()
}

/// Produces and consumes for at least so long, and with `cold` for as long as reading the cold topic takes.
pub fn run(options: &Options, address: SocketAddr, topic: &str, cold: bool, least: Duration) -> Result<Outcome> {
    let stop = AtomicBool::new(false);
    let (produced, tailed, read) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let stolen = Mutex::new(Vec::new());
    let began = Instant::now();
    let sent: Vec<Mutex<Vec<Instant>>> = (0..options.producers).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (partition, sent) in (0..).zip(&sent) {
            let mut tail = Connection::open(address)?;
            let mut at = fetch(&mut tail, topic, partition, 0)?.high_watermark;
            let (stop, produced, tailed) = (&stop, &produced, &tailed);
            threads.push(scope.spawn(move || {
                let latencies = produce(options, address, topic, partition, stop, sent)?;
                produced.lock().map_err(|_| "poisoned")?.extend(latencies);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }));
            threads.push(scope.spawn(move || {
                let (mut seen, mut latencies) = (0, Vec::new());
                while !stop.load(Ordering::Acquire) {
                    let found = fetch(&mut tail, topic, partition, at)?;
                    let now = Instant::now();
                    let sent = sent.lock().map_err(|_| "poisoned")?;
                    latencies.extend(
                        sent.iter().skip(seen).take(found.batches).map(|sent| now.saturating_duration_since(*sent)),
                    );
                    (seen, at) = (seen + found.batches, found.next);
                }
                tailed.lock().map_err(|_| "poisoned")?.extend(latencies);
                Ok(())
            }));
        }
        threads.push(scope.spawn(|| {
            let mut before = process::stolen_seconds()?;
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(100));
                let now = process::stolen_seconds()?;
                stolen.lock().map_err(|_| "poisoned")?.push((Instant::now(), now - before));
                before = now;
            }
            Ok(())
        }));
        let read_back = || {
            // Elsewhere it has a machine of its own: here it must not take the processor from those whose latency is measured.
            let _ = rustix::process::nice(10);
            read_all(address, "cold", &read)
        };
        let cold_bytes = match cold {
            true => scope.spawn(read_back).join().unwrap_or_else(|_| Err("the cold reader panicked".into())),
            false => Ok(0),
        };
        let cold_seconds = began.elapsed().as_secs_f64();
        if !cold {
            std::thread::sleep(least.saturating_sub(began.elapsed()));
        }
        stop.store(true, Ordering::Release);
        for thread in threads {
            thread.join().map_err(|_| "a load thread panicked")??;
        }
        let produced: Vec<(Instant, Duration)> = take(&produced);
        let read: Vec<(Instant, u64)> = take(&read);
        let stolen: Vec<(Instant, f64)> = take(&stolen);
        let second = |at: &Instant| at.saturating_duration_since(began).as_secs();
        let seconds = produced.iter().map(|(at, _)| second(at) + 1).max().unwrap_or_default();
        let of_second = |wanted: u64| {
            let latencies = produced.iter().filter(|(at, _)| second(at) == wanted).map(|(_, took)| *took).collect();
            let read = read.iter().filter(|(at, _)| second(at) == wanted).map(|(_, bytes)| bytes).sum();
            let stolen = stolen.iter().filter(|(at, _)| second(at) == wanted).map(|(_, took)| took).sum();
            Second { produce: Latencies::of(latencies), read, stolen }
        };
        Ok(Outcome {
            by_second: (0..seconds).map(of_second).collect(),
            produce: Latencies::of(produced.into_iter().map(|(_, took)| took).collect()),
            tail: Latencies::of(take(&tailed)),
            cold_bytes: cold_bytes?,
            cold_seconds,
        })
    })
}

/// One batch each `pace` ms, from when it is due to when it is acknowledged.
fn produce(
    options: &Options,
    address: SocketAddr,
    topic: &str,
    partition: i32,
    stop: &AtomicBool,
    sent: &Mutex<Vec<Instant>>,
) -> Result<Vec<(Instant, Duration)>> {
    let mut connection = Connection::open(address)?;
    let (frame, _) = produce_frame(topic, partition, -1, options.batch)?;
    let mut due = Instant::now();
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Acquire) {
        due += Duration::from_millis(options.pace);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.lock().map_err(|_| "poisoned")?.push(due);
        connection.send(&frame)?;
        acknowledged(&mut connection)?;
        latencies.push((due, due.elapsed()));
    }
    Ok(latencies)
}

fn read_all(address: SocketAddr, topic: &str, read: &Mutex<Vec<(Instant, u64)>>) -> Result<u64> {
    let mut connection = Connection::open(address)?;
    let (mut at, mut bytes) = (0, 0);
    loop {
        let found = fetch(&mut connection, topic, 0, at)?;
        (at, bytes) = (found.next, bytes + found.bytes);
        read.lock().map_err(|_| "poisoned")?.push((Instant::now(), found.bytes));
        if at >= found.high_watermark {
            return Ok(bytes);
        }
    }
}
