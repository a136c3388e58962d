//! The load: producing pre-built batches with several requests in flight, and consuming them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use esker_benches::sample_batch;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::Batches;
use esker_protocol::{decode_response, encode_request};

use crate::peers::Broker;
use crate::{Options, Result};
use esker_benches::client::Connection;

/// Partitions that one produce request carries, at most.
const PARTITIONS_A_REQUEST: i32 = 10;
/// As a Java consumer asks by default.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
const FETCH_MAX_BYTES: i32 = 50 << 20;

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;

/// Who must have a batch before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// `acks=1`
    Leader,
    /// `acks=all`
    All,
}

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Writes.
    Produce(Acks),
    /// Reads from the start.
    Consume,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Of the topic.
    pub partitions: i32,
    /// Of a record.
    pub value_bytes: usize,
    /// What is done.
    pub direction: Direction,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.direction {
            Direction::Produce(Acks::Leader) => "produce acks=1",
            Direction::Produce(Acks::All) => "produce acks=all",
            Direction::Consume => "consume",
        };
        f.pad(&format!("{what}, {} B x {}", self.value_bytes, self.partitions))
    }
}

/// What a row came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Bytes of record batches.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// The broker's.
    pub cpu_seconds: f64,
}

impl Outcome {
    /// 10^6 bytes a second.
    pub fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds of the broker for 10^9 bytes of record batches.
    pub fn cpu_per_gb(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / 1e9)
    }

    /// CPU seconds of the broker for 10^6 records.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds / (self.records as f64 / 1e6)
    }
}

/// Makes a topic and waits until all its partitions can be read.
pub fn create_topic(address: SocketAddr, name: &str, partitions: i32) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let topic = CreatableTopic {
        name: Str::copy(name),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    for topic in connection.call(5, &request)?.topics {
        if topic.error_code != ErrorCode::NONE {
            return Err(format!("cannot create topic {name}: {:?} {:?}", topic.error_code, topic.error_message).into());
        }
    }
    wait_for_leaders(address, name, partitions)
}

/// Waits until all partitions of a topic can be read.
pub fn wait_for_leaders(address: SocketAddr, name: &str, partitions: i32) -> Result<()> {
    let mut connection = Connection::open(address)?;
    // Asked where it counts: metadata may name a leader before that knows of it.
    let wanted = (0..partitions).map(|partition| fetch_partition(partition, 0)).collect();
    let topics = vec![FetchTopic { topic: Str::copy(name), partitions: wanted, ..FetchTopic::default() }];
    let request = FetchRequest { topics, max_bytes: 1, ..FetchRequest::default() };
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = connection.call(FETCH_VERSION, &request)?;
        let answers = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let ready = answers.filter(|partition| partition.error_code == ErrorCode::NONE).count();
        if ready == partitions as usize {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("topic {name} has {ready} of {partitions} leaders after 120 s").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Deletes a topic.
pub fn delete_topic(address: SocketAddr, name: &str) -> Result<()> {
    let request = DeleteTopicsRequest {
        topic_names: vec![Str::copy(name)],
        timeout_ms: 30_000,
        ..DeleteTopicsRequest::default()
    };
    for topic in Connection::open(address)?.call(4, &request)?.responses {
        if topic.error_code != ErrorCode::NONE {
            return Err(format!("cannot delete topic {name}: {:?}", topic.error_code).into());
        }
    }
    Ok(())
}

/// One connection's part; returns bytes and records.
type Worker = dyn FnOnce() -> Result<(u64, u64)> + Send;

/// Runs one row over `bytes` of record batches: its share of the partitions for each connection.
pub fn run(options: &Options, broker: &Broker, topic: &str, cell: Cell, bytes: u64) -> Result<Outcome> {
    let connections = options.connections.max(1);
    let share = bytes / connections as u64;
    let mut workers: Vec<Box<Worker>> = Vec::new();
    for index in 0..connections {
        let partitions: Vec<i32> = match cell.partitions {
            1 => vec![0],
            count => (0..count).filter(|p| *p as usize % connections == index).collect(),
        };
        let connection = Connection::open(broker.address)?;
        match cell.direction {
            Direction::Produce(acks) => {
                let frames = Frames::new(options, topic, &partitions, cell, acks)?;
                let in_flight = options.in_flight;
                workers.push(Box::new(move || frames.produce(connection, in_flight, share)));
            }
            // All of one partition's records come to each of its readers.
            Direction::Consume => {
                let topic = Str::copy(topic);
                workers.push(Box::new(move || consume(connection, &topic, &partitions, share)));
            }
        }
    }
    let cpu = broker.cpu_seconds()?;
    let start = Instant::now();
    let totals = std::thread::scope(|scope| {
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a load thread panicked")?)
            .collect::<Result<Vec<_>>>()
    })?;
    let elapsed = start.elapsed();
    Ok(Outcome {
        bytes: totals.iter().map(|(bytes, _)| bytes).sum(),
        records: totals.iter().map(|(_, records)| records).sum(),
        elapsed,
        cpu_seconds: broker.cpu_seconds()? - cpu,
    })
}

/// Many producers with one batch of `batch_bytes` in flight each, on the partitions in turn and with acks=all, for `time`.
pub fn wait_each(
    broker: &Broker,
    topic: &str,
    (partitions, producers): (i32, i32),
    batch_bytes: usize,
    time: Duration,
) -> Result<Outcome> {
    let prepare = |producer: i32| {
        let frames = Frames::of(topic, &[producer % partitions], batch_bytes, batch_bytes, Acks::All)?;
        Ok((frames, Connection::open(broker.address)?))
    };
    let prepared = (0..producers).map(prepare).collect::<Result<Vec<_>>>()?;
    let cpu = broker.cpu_seconds()?;
    let start = Instant::now();
    let totals = std::thread::scope(|scope| {
        let work = |(frames, mut connection): (Frames, Connection)| -> Result<(u64, u64)> {
            let (mut bytes, mut records) = (0, 0);
            while start.elapsed() < time {
                for frame in &frames.frames {
                    connection.send(frame)?;
                    acknowledged(&mut connection)?;
                }
                (bytes, records) = (bytes + frames.bytes, records + frames.records);
            }
            Ok((bytes, records))
        };
        let threads: Vec<_> = prepared.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a load thread panicked")?)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Outcome {
        bytes: totals.iter().map(|(bytes, _)| bytes).sum(),
        records: totals.iter().map(|(_, records)| records).sum(),
        elapsed: start.elapsed(),
        cpu_seconds: broker.cpu_seconds()? - cpu,
    })
}

/// Produce requests, encoded once, for one connection's partitions in turn.
struct Frames {
    frames: Vec<Bytes>,
    bytes: u64,
    records: u64,
}

impl Frames {
    fn new(options: &Options, topic: &str, partitions: &[i32], cell: Cell, acks: Acks) -> Result<Self> {
        let batch_bytes = if cell.partitions == 1 { options.batch } else { options.small_batch };
        Self::of(topic, partitions, cell.value_bytes, batch_bytes, acks)
    }

    fn of(topic: &str, partitions: &[i32], value_bytes: usize, batch_bytes: usize, acks: Acks) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
        let (batch, records) = sample_batch(Compression::None, value_bytes, batch_bytes, now)?;
        let mut all = Self { frames: Vec::new(), bytes: 0, records: 0 };
        for chunk in partitions.chunks(PARTITIONS_A_REQUEST as usize) {
            let data = chunk.iter().map(|&index| PartitionProduceData { index, records: Some(batch.clone()) });
            let request = ProduceRequest {
                acks: if acks == Acks::All { -1 } else { 1 },
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: Str::copy(topic),
                    partition_data: data.collect(),
                    ..TopicProduceData::default()
                }],
                ..ProduceRequest::default()
            };
            let frame = encode_request(PRODUCE_VERSION, 0, Some("head-to-head".into()), &request)?;
            all.frames.push(frame.into_bytes());
            all.bytes += (batch.len() * chunk.len()) as u64;
            all.records += (records * chunk.len()) as u64;
        }
        Ok(all)
    }

    /// Sends rounds of all frames until `share` bytes are sent; returns bytes and records acknowledged.
    fn produce(&self, mut connection: Connection, in_flight: usize, share: u64) -> Result<(u64, u64)> {
        let rounds = share.div_ceil(self.bytes.max(1));
        let mut waiting = 0;
        for _ in 0..rounds {
            for frame in &self.frames {
                if waiting == in_flight.max(1) {
                    acknowledged(&mut connection)?;
                    waiting -= 1;
                }
                connection.send(frame)?;
                waiting += 1;
            }
        }
        for _ in 0..waiting {
            acknowledged(&mut connection)?;
        }
        Ok((rounds * self.bytes, rounds * self.records))
    }
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

/// Reads the partitions from the start, as Java's consumer asks, until `share` bytes are in; returns bytes and records.
/// A partition that ends is read again.
fn consume(mut connection: Connection, topic: &Str, partitions: &[i32], share: u64) -> Result<(u64, u64)> {
    let mut offsets: BTreeMap<i32, i64> = partitions.iter().map(|p| (*p, 0)).collect();
    let (mut bytes, mut records) = (0, 0);
    let mut first = 0;
    while bytes < share {
        // As in Kafka's clients, the partition asked for first changes, so that none starves.
        let mut wanted: Vec<_> =
            offsets.iter().map(|(partition, offset)| fetch_partition(*partition, *offset)).collect();
        let count = wanted.len();
        wanted.rotate_left(first % count.max(1));
        first += 1;
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: FETCH_MAX_BYTES,
            topics: vec![FetchTopic { topic: topic.clone(), partitions: wanted, ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        let frame = encode_request(FETCH_VERSION, 0, Some("head-to-head".into()), &request)?.into_bytes();
        connection.send(&frame)?;
        let before = bytes;
        connection.receive(|frame| {
            let (_, answer) = decode_response::<FetchRequest>(FETCH_VERSION, frame)?;
            for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                if partition.error_code != ErrorCode::NONE {
                    return Err(format!("a fetch was refused: {:?}", partition.error_code).into());
                }
                for batch in Batches::new(partition.records.unwrap_or_default()) {
                    let batch = batch?;
                    bytes += batch.bytes.len() as u64;
                    records += u64::try_from(batch.header.records_count)?;
                    // At the end it begins again.
                    let next = batch.header.next_offset();
                    let next = if next < partition.high_watermark { next } else { 0 };
                    offsets.insert(partition.partition_index, next);
                }
            }
            Ok(())
        })?;
        if bytes == before {
            return Err(format!("the log ends after {bytes} of {share} bytes").into());
        }
    }
    Ok((bytes, records))
}

fn fetch_partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: PARTITION_MAX_BYTES, ..FetchPartition::default() }
}
