//! The load: producing pre-built batches with several requests in flight, and consuming them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::primitives::Str;
use esker_protocol::records::Batches;
use esker_protocol::{decode_response, encode_request};

use crate::peers::Broker;
use crate::{Options, Result};
use esker_benches::client::Connection;
use esker_benches::leader::wait_for_leader;
use esker_benches::produce::{ProduceFrames, Total, run_workers};

/// As a Java consumer asks by default.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
const FETCH_MAX_BYTES: i32 = 50 << 20;

const FETCH_VERSION: i16 = 12;

/// Who must have a batch before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// `acks=1`
    Leader,
    /// `acks=all`
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Self::Leader => 1,
            Self::All => -1,
        }
    }
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
    wait_for_leader(address, name, 0..partitions)
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

/// One connection's part.
type Worker = dyn FnOnce() -> Result<Total> + Send;

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
                let batch_bytes = if cell.partitions == 1 { options.batch } else { options.small_batch };
                let frames = ProduceFrames::new(topic, &partitions, cell.value_bytes, batch_bytes, acks.code())?;
                let in_flight = options.in_flight;
                workers.push(Box::new(move || frames.send(connection, in_flight, share)));
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
    let Total { bytes, records } = run_workers(workers)?;
    Ok(Outcome { bytes, records, elapsed: start.elapsed(), cpu_seconds: broker.cpu_seconds()? - cpu })
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
        let partition = [producer % partitions];
        let frames = ProduceFrames::new(topic, &partition, batch_bytes, batch_bytes, Acks::All.code())?;
        Ok((frames, Connection::open(broker.address)?))
    };
    let prepared = (0..producers).map(prepare).collect::<Result<Vec<_>>>()?;
    let cpu = broker.cpu_seconds()?;
    let start = Instant::now();
    let work = |(frames, mut connection): (ProduceFrames, Connection)| {
        move || {
            let mut sum = Total::default();
            while start.elapsed() < time {
                let Total { bytes, records } = frames.send_each(&mut connection)?;
                sum = Total { bytes: sum.bytes + bytes, records: sum.records + records };
            }
            Ok(sum)
        }
    };
    let Total { bytes, records } = run_workers(prepared.into_iter().map(work).collect())?;
    Ok(Outcome { bytes, records, elapsed: start.elapsed(), cpu_seconds: broker.cpu_seconds()? - cpu })
}

/// Reads the partitions from the start, as Java's consumer asks, until `share` bytes are in.
/// A partition that ends is read again.
fn consume(mut connection: Connection, topic: &Str, partitions: &[i32], share: u64) -> Result<Total> {
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
    Ok(Total { bytes, records })
}

fn fetch_partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: PARTITION_MAX_BYTES, ..FetchPartition::default() }
}
