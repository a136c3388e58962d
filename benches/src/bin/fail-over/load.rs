//! The load: one writer for each partition, which sends one record after the other with `acks=all`, and the longest time that each had no
//! acknowledgement.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use esker_benches::{Result, sample_batch};
use esker_protocol::compression::Compression;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use parking_lot::Mutex;

use crate::client::Link;
use crate::nodes::{TOPIC, metadata_request, until};

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(5);
/// How long a broker may take to describe the topic.
const DESCRIBE: Duration = Duration::from_millis(100);
/// Bytes of a record's value.
const VALUE: usize = 100;

/// What a writer has seen.
#[derive(Debug)]
struct Seen {
    last: Instant,
    longest: Duration,
    acknowledged: u64,
}

/// Writers that run until it is dropped.
pub struct Load {
    over: Arc<AtomicBool>,
    seen: Vec<Arc<Mutex<Seen>>>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a writer for each partition, and waits until each has an acknowledgement.
    pub fn start(addresses: &[SocketAddr], partitions: i32, answer: Duration) -> Result<Self> {
        let mut load = Self { over: Arc::default(), seen: Vec::new(), writers: Vec::new() };
        // One record.
        let (batch, _) = sample_batch(Compression::None, VALUE, 0, 1)?;
        for partition in 0..partitions {
            let seen = Arc::new(Mutex::new(Seen { last: Instant::now(), longest: Duration::ZERO, acknowledged: 0 }));
            let mut writer = Writer {
                request: produce_request(partition, &batch),
                partition,
                brokers: addresses.iter().map(|address| Link::new(*address, DESCRIBE)).collect(),
                answer,
                leader: None,
            };
            let (over, own) = (Arc::clone(&load.over), Arc::clone(&seen));
            load.seen.push(seen);
            load.writers.push(std::thread::spawn(move || writer.run(&over, &own)));
        }
        load.wait_for(1)?;
        Ok(load)
    }

    /// Begins to measure anew.
    pub fn reset(&self) {
        self.seen.iter().for_each(|seen| seen.lock().longest = Duration::ZERO);
    }

    /// The longest time between two acknowledgements since [`Load::reset`], by partition; one that lasts counts.
    pub fn longest(&self) -> Vec<Duration> {
        let longest = |seen: &Arc<Mutex<Seen>>| {
            let seen = seen.lock();
            seen.longest.max(seen.last.elapsed())
        };
        self.seen.iter().map(longest).collect()
    }

    /// Waits until each partition has acknowledged so many more records.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let counts: Vec<u64> = self.seen.iter().map(|seen| seen.lock().acknowledged + more).collect();
        until("records are acknowledged", || {
            self.seen.iter().zip(&counts).all(|(seen, count)| seen.lock().acknowledged >= *count)
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        for writer in self.writers.drain(..) {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

fn produce_request(partition: i32, batch: &Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(batch.clone()) };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

struct Writer {
    request: ProduceRequest,
    partition: i32,
    /// Those to ask for the leader, the one that answered last first.
    brokers: Vec<Link>,
    answer: Duration,
    leader: Option<Link>,
}

impl Writer {
    fn run(&mut self, over: &AtomicBool, seen: &Mutex<Seen>) {
        while !over.load(Ordering::Acquire) {
            if self.write() {
                let mut seen = seen.lock();
                let now = Instant::now();
                seen.longest = seen.longest.max(now - seen.last);
                seen.last = now;
                seen.acknowledged += 1;
            } else {
                self.leader = None;
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Whether a record was acknowledged.
    fn write(&mut self) -> bool {
        if self.leader.is_none() {
            self.leader = self.find_leader();
        }
        let Some(leader) = self.leader.as_mut() else { return false };
        let Ok(answer) = leader.call(9, &self.request) else { return false };
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        partition.is_some_and(|partition| !partition.error_code.is_error())
    }

    fn find_leader(&mut self) -> Option<Link> {
        let Some(answer) = self.brokers.first_mut().and_then(|broker| broker.call(9, &metadata_request()).ok()) else {
            self.brokers.rotate_left(1);
            return None;
        };
        let partitions = &answer.topics.first()?.partitions;
        let leader = partitions.iter().find(|found| found.partition_index == self.partition)?.leader_id;
        let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
        Some(Link::new(format!("{}:{}", broker.host, broker.port).parse().ok()?, self.answer))
    }
}
