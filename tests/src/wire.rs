//! Requests over a plain socket to a broker that may be dead, paused or restarted: every failure is an error that the caller can retry on.
//!
//! Must never: wait without a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use esker_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use esker_protocol::records::Batches;
use esker_protocol::{Request, decode_response, encode_request};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

/// A connection to one broker, opened with the first request and again after a failure.
#[derive(Debug)]
pub struct Wire {
    /// The broker's listener.
    pub address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
}

impl Wire {
    /// A connection to `address` on which an answer may take `patience`.
    pub fn new(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, stream: None }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not answer in time. The next request opens a new connection.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Sends a request; its answer is left to [`Wire::receive`].
    ///
    /// # Errors
    /// As of [`Wire::ask`].
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, CONNECT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                stream
            }
        };
        let bytes = encode_request(version, 1, Some("test".into()), request).map_err(io::Error::other)?.into_bytes();
        (&stream).write_all(&bytes)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Receives the answer of the oldest request that has none yet.
    ///
    /// # Errors
    /// As of [`Wire::ask`].
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?];
        stream.read_exact(&mut frame)?;
        self.stream = Some(stream);
        Ok(decode_response::<R>(version, frame.into()).map_err(io::Error::other)?.1)
    }

    /// Describes one topic and all brokers.
    ///
    /// # Errors
    /// As of [`Wire::ask`].
    pub fn metadata(&mut self, topic: &str) -> io::Result<MetadataResponse> {
        let topic = MetadataRequestTopic { name: Some(topic.to_owned().into()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.ask(12, &request)
    }
}

/// A request that produces one batch.
pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(batch) };
    let topic =
        TopicProduceData { name: topic.to_owned().into(), partition_data: vec![data], ..TopicProduceData::default() };
    ProduceRequest { acks, timeout_ms: 20_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// The version that [`produce_request`] is sent in.
pub const PRODUCE: i16 = 9;

/// The only partition of the answer to [`produce_request`].
pub fn produced(answer: &<ProduceRequest as Request>::Response) -> PartitionProduceResponse {
    answer.responses[0].partition_responses[0].clone()
}

/// A request that reads one partition from `offset`; the answer comes at once.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: topic.to_owned().into(), partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..FetchRequest::default() }
}

/// The version that [`fetch_request`] is sent in.
pub const FETCH: i16 = 12;

/// Offsets and values of the records of a fetch; every value is a number in decimal digits.
pub fn fetched(data: &PartitionData) -> Vec<(i64, u64)> {
    let mut records = Vec::new();
    for batch in Batches::new(data.records.clone().unwrap_or_default()) {
        // The last batch of an answer may be cut off.
        let Ok(batch) = batch else { break };
        for record in batch.records(1 << 20).expect("the batch can be read") {
            let record = record.expect("the record can be read");
            let value = record.value.expect("every record has a value");
            let value = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
            records.push((record.offset, value.expect("every value is a number")));
        }
    }
    records
}
