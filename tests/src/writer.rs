//! An idempotent producer of one partition that sees every answer: it writes one record after the other, with `acks=all`, and sends each
//! again until it is acknowledged.
//!
//! Must never: send a record again that was refused for good.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::records::BatchBuilder;

use crate::PATIENCE;
use crate::history::{Fate, Send};
use crate::wire::{PRODUCE, Wire, produce_request, produced};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long one answer may take: a paused broker gives none.
const ANSWER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct PartitionWriter {
    topic: String,
    partition: i32,
    brokers: Vec<Wire>,
    leader: Option<Wire>,
    producer: (i64, i16),
    sequence: i32,
    /// The errors that were answered.
    pub errors: BTreeSet<ErrorCode>,
    /// What was acknowledged.
    pub sends: Vec<Send>,
}

impl PartitionWriter {
    /// A producer that finds the leader of its partition through any of these brokers.
    pub fn new(topic: &str, partition: i32, brokers: &[SocketAddr]) -> Self {
        let brokers = brokers.iter().map(|address| Wire::new(*address, ANSWER)).collect();
        let mut writer = Self {
            topic: topic.to_owned(),
            partition,
            brokers,
            leader: None,
            producer: (-1, -1),
            sequence: 0,
            errors: BTreeSet::new(),
            sends: Vec::new(),
        };
        writer.producer = writer.insist(Self::request_producer_id);
        writer
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Writes one record; returns its offset once it is acknowledged.
    pub fn write(&mut self, value: u64) -> i64 {
        let mut batch = BatchBuilder::new(Compression::None).producer(self.producer.0, self.producer.1, self.sequence);
        batch.append(0, 1, None, Some(value.to_string().as_bytes()), &[]);
        let batch = batch.build().expect("a batch of one record");
        let offset = self.insist(|writer| {
            let request = produce_request(&writer.topic, writer.partition, -1, batch.clone());
            let answer = writer.leader()?.ask(PRODUCE, &request);
            let Ok(answer) = answer else {
                writer.leader = None;
                return None;
            };
            let answer = produced(&answer);
            if !answer.error_code.is_error() {
                return Some(answer.base_offset);
            }
            writer.errors.insert(answer.error_code);
            assert!(answer.error_code.is_retriable(), "a producer must not be told {:?}", answer.error_code);
            writer.leader = None;
            None
        });
        self.sequence += 1;
        let producer = u32::try_from(self.partition).expect("a partition");
        self.sends.push(Send {
            producer,
            partition: self.partition,
            value,
            transaction: None,
            fate: Fate::Done,
            offset: Some(offset),
        });
        offset
    }

    fn insist<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(done) = attempt(self) {
                return done;
            }
            assert!(Instant::now() < until, "{}-{} takes nothing: {:?}", self.topic, self.partition, self.errors);
            std::thread::sleep(PAUSE);
        }
    }

    fn request_producer_id(&mut self) -> Option<(i64, i16)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = self.brokers.iter_mut().find_map(|broker| broker.ask(4, &request).ok())?;
        if answer.error_code.is_error() {
            self.errors.insert(answer.error_code);
        }
        (answer.error_code == ErrorCode::NONE).then_some((answer.producer_id, answer.producer_epoch))
    }

    /// The connection to the leader, looked for where there is none.
    fn leader(&mut self) -> Option<&mut Wire> {
        if self.leader.is_none() {
            let (topic, partition) = (self.topic.clone(), self.partition);
            // Another one each time: the first may be behind.
            self.brokers.rotate_left(1);
            let answer = self.brokers.iter_mut().find_map(|broker| broker.metadata(&topic).ok())?;
            let partitions = &answer.topics.first()?.partitions;
            let leader = partitions.iter().find(|found| found.partition_index == partition)?.leader_id;
            let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
            let address = format!("{}:{}", broker.host, broker.port).parse().ok()?;
            self.leader = Some(Wire::new(address, ANSWER));
        }
        self.leader.as_mut()
    }
}
