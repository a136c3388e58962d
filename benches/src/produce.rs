//! Produce requests that are encoded once and sent over and over, with several in flight on a connection.

use std::time::SystemTime;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::{decode_response, encode_request};

use crate::client::Connection;
use crate::{Result, sample_batch};

/// Partitions that one request carries, at most.
const PARTITIONS_A_REQUEST: usize = 10;
const VERSION: i16 = 9;

/// What a worker has sent or received.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    /// Bytes of record batches.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

/// Requests for one connection's partitions in turn, a batch for each partition.
pub struct ProduceFrames {
    frames: Vec<Bytes>,
    total: Total,
}

impl ProduceFrames {
    /// Batches of about `batch_bytes` whose records have values of `value_bytes`.
    ///
    /// # Errors
    /// The batch is over 2 GiB.
    pub fn new(topic: &str, partitions: &[i32], value_bytes: usize, batch_bytes: usize, acks: i16) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
        let (batch, records) = sample_batch(Compression::None, value_bytes, batch_bytes, now)?;
        let mut all = Self { frames: Vec::new(), total: Total::default() };
        for chunk in partitions.chunks(PARTITIONS_A_REQUEST) {
            let data = chunk.iter().map(|&index| PartitionProduceData { index, records: Some(batch.clone()) });
            let request = ProduceRequest {
                acks,
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: Str::copy(topic),
                    partition_data: data.collect(),
                    ..TopicProduceData::default()
                }],
                ..ProduceRequest::default()
            };
            let frame = encode_request(VERSION, 0, Some("head-to-head".into()), &request)?;
            all.frames.push(frame.into_bytes());
            all.total.bytes += (batch.len() * chunk.len()) as u64;
            all.total.records += (records * chunk.len()) as u64;
        }
        Ok(all)
    }

    /// Sends rounds of all requests until `share` bytes are sent and acknowledged.
    ///
    /// # Errors
    /// A batch is refused, or the connection ends.
    pub fn send(&self, mut connection: Connection, in_flight: usize, share: u64) -> Result<Total> {
        let rounds = share.div_ceil(self.total.bytes.max(1));
        let mut waiting = 0;
        for _ in 0..rounds {
            for frame in &self.frames {
                if waiting == in_flight.max(1) {
                    receive_acknowledgement(&mut connection)?;
                    waiting -= 1;
                }
                connection.send(frame)?;
                waiting += 1;
            }
        }
        for _ in 0..waiting {
            receive_acknowledgement(&mut connection)?;
        }
        Ok(Total { bytes: rounds * self.total.bytes, records: rounds * self.total.records })
    }

    /// Sends all requests once, each after the acknowledgement of the one before.
    ///
    /// # Errors
    /// A batch is refused, or the connection ends.
    pub fn send_each(&self, connection: &mut Connection) -> Result<Total> {
        for frame in &self.frames {
            connection.send(frame)?;
            receive_acknowledgement(connection)?;
        }
        Ok(self.total)
    }
}

fn receive_acknowledgement(connection: &mut Connection) -> Result<()> {
    connection.receive(|frame| {
        let (_, answer) = decode_response::<ProduceRequest>(VERSION, frame)?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if partition.error_code != ErrorCode::NONE {
                return Err(format!("a batch was refused: {:?}", partition.error_code).into());
            }
        }
        Ok(())
    })
}

/// Runs each worker on a thread of its own, and returns the sum of what they did.
///
/// # Errors
/// A worker fails.
pub fn run_workers(workers: Vec<impl FnOnce() -> Result<Total> + Send>) -> Result<Total> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(worker)).collect();
        let mut sum = Total::default();
        for thread in threads {
            let Total { bytes, records } = thread.join().map_err(|_| "a load thread panicked")??;
            sum = Total { bytes: sum.bytes + bytes, records: sum.records + records };
        }
        Ok(sum)
    })
}
