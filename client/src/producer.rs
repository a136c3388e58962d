//! The producer: records are gathered by partition, leave in batches, and are retried without being doubled or reordered.
//!
//! One task owns all batches. A partition has at most one batch on its way, so order holds whatever is retried; the bytes of
//! a batch (and its sequence) stay the same over retries, so an idempotent producer's broker knows a duplicate. What may
//! wait is bounded: past it, [`Producer::send`] waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::{BatchBuilder, RecordHeader};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::partitioner::partition_for_key;
use crate::{Client, ClientError};

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// -1 (all in-sync replicas) or 1 (the leader). 0 is taken as 1: a producer that hears nothing cannot keep order.
    pub acks: i16,
    /// Codec of batches.
    pub compression: Compression,
    /// How long a batch may wait for more records.
    pub linger: Duration,
    /// A batch leaves when it is this large.
    pub batch_bytes: usize,
    /// Records that may wait.
    pub queue: usize,
    /// No duplicates by retries (needs `acks` -1).
    pub idempotent: bool,
    /// How long a record may be on its way, retries and all.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: -1,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 64 << 10,
            queue: 10_000,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition; chosen by key, else in turns.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Time in ms since 1970; now if none.
    pub timestamp: Option<i64>,
}

impl Record {
    /// An empty record for a topic.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// With a key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With a value.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    fn size(&self) -> usize {
        let bytes = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        bytes(&self.key) + bytes(&self.value) + self.headers.iter().map(|(n, v)| n.len() + bytes(v)).sum::<usize>() + 20
    }
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A record on its way.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<Delivered, ClientError>>);

impl Delivery {
    /// Waits until the record is acknowledged, or given up.
    pub async fn wait(self) -> Result<Delivered, ClientError> {
        self.0.await.unwrap_or(Err(ClientError::Closed))
    }
}

enum Order {
    Record(Record, i32, oneshot::Sender<Result<Delivered, ClientError>>),
    Flush(oneshot::Sender<()>),
}

/// A producer; it stops when it is dropped (flush first).
#[derive(Debug)]
pub struct Producer {
    client: Client,
    orders: mpsc::Sender<Order>,
    turn: std::sync::atomic::AtomicU32,
}

impl Producer {
    /// A producer over a client's connections.
    pub async fn new(client: Client, config: ProducerConfig) -> Result<Self, ClientError> {
        let identity = if config.idempotent && config.acks == -1 { identity(&client).await? } else { (-1, -1) };
        let (orders, inbox) = mpsc::channel(config.queue.max(1));
        let task = Task { client: client.clone(), config, identity, partitions: HashMap::new() };
        tokio::spawn(task.run(inbox));
        Ok(Self { client, orders, turn: Default::default() })
    }

    /// Takes a record; waits while too many are waiting.
    pub async fn send(&self, record: Record) -> Result<Delivery, ClientError> {
        let partition = self.choose(&record).await?;
        let (sender, receiver) = oneshot::channel();
        self.orders.send(Order::Record(record, partition, sender)).await.map_err(|_| ClientError::Closed)?;
        Ok(Delivery(receiver))
    }

    async fn choose(&self, record: &Record) -> Result<i32, ClientError> {
        if let Some(partition) = record.partition {
            return Ok(partition);
        }
        let count = match self.client.view().topics.get(&record.topic) {
            Some(topic) => topic.partitions.len(),
            None => self.client.retry(|| self.client.topic(&record.topic)).await?.partitions.len(),
        };
        let count = i32::try_from(count).unwrap_or(1);
        Ok(match &record.key {
            Some(key) => partition_for_key(key, count),
            // Records without a key stay together for a while, so that batches fill.
            None => {
                let turn = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) / STICK;
                i32::try_from(turn % count.max(1).cast_unsigned()).unwrap_or(0)
            }
        })
    }

    /// Waits until everything taken so far is delivered or given up.
    pub async fn flush(&self) {
        let (sender, done) = oneshot::channel();
        if self.orders.send(Order::Flush(sender)).await.is_ok() {
            // The task ends only with the producer.
            let _ = done.await;
        }
    }
}

/// Records without a key that go to one partition in a row.
const STICK: u32 = 500;

async fn identity(client: &Client) -> Result<(i64, i16), ClientError> {
    let request =
        InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 60_000, ..Default::default() };
    client
        .retry(|| async {
            let response = client.request(None, &request).await?;
            ClientError::check("InitProducerId", response.error_code, None)?;
            Ok((response.producer_id, response.producer_epoch))
        })
        .await
}

type Key = (String, i32);
type Waiters = Vec<oneshot::Sender<Result<Delivered, ClientError>>>;

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    waiters: Waiters,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Lane {
    open: Vec<(Record, oneshot::Sender<Result<Delivered, ClientError>>)>,
    open_bytes: usize,
    opened: Option<Instant>,
    sealed: VecDeque<Batch>,
    busy: bool,
    sequence: i32,
}

struct Task {
    client: Client,
    config: ProducerConfig,
    identity: (i64, i16),
    partitions: HashMap<Key, Lane>,
}

type Outcome = (Key, Batch, Result<i64, ClientError>);

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut sending = FuturesUnordered::new();
        let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
        let mut closed = false;
        loop {
            self.seal(!flushes.is_empty() || closed);
            for (node, batches) in self.ready() {
                sending.push(send(self.client.clone(), self.config.clone(), node, batches));
            }
            let idle = sending.is_empty() && self.partitions.values().all(|l| l.open.is_empty() && l.sealed.is_empty());
            if idle {
                flushes.drain(..).for_each(|flush| {
                    // Whoever flushed may have gone.
                    let _ = flush.send(());
                });
                if closed {
                    return;
                }
            }
            let wake = self.partitions.values().filter_map(|l| l.opened).min().map(|at| at + self.config.linger);
            tokio::select! {
                order = inbox.recv(), if !closed => match order {
                    Some(Order::Record(record, partition, waiter)) => {
                        self.take(record, partition, waiter);
                        while let Ok(order) = inbox.try_recv() {
                            match order {
                                Order::Record(record, partition, waiter) => self.take(record, partition, waiter),
                                Order::Flush(flush) => flushes.push(flush),
                            }
                        }
                    }
                    Some(Order::Flush(flush)) => flushes.push(flush),
                    None => closed = true,
                },
                Some(outcomes) = sending.next(), if !sending.is_empty() => self.settle(outcomes).await,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    fn take(&mut self, record: Record, partition: i32, waiter: oneshot::Sender<Result<Delivered, ClientError>>) {
        let lane = self.partitions.entry((record.topic.clone(), partition)).or_default();
        if lane.open_bytes + record.size() > self.config.batch_bytes && !lane.open.is_empty() {
            seal_lane(lane, &self.config, self.identity);
        }
        lane.open_bytes += record.size();
        lane.opened.get_or_insert_with(Instant::now);
        lane.open.push((record, waiter));
    }

    fn seal(&mut self, all: bool) {
        let now = Instant::now();
        for lane in self.partitions.values_mut() {
            let due = lane.opened.is_some_and(|at| at + self.config.linger <= now);
            if !lane.open.is_empty() && (all || due || lane.open_bytes >= self.config.batch_bytes) {
                seal_lane(lane, &self.config, self.identity);
            }
        }
    }

    /// Batches whose turn it is, by leader.
    fn ready(&mut self) -> Vec<(Option<i32>, Vec<(Key, Batch)>)> {
        let view = self.client.view();
        let mut by_node: BTreeMap<Option<i32>, Vec<(Key, Batch)>> = BTreeMap::new();
        for (key, lane) in self.partitions.iter_mut().filter(|(_, lane)| !lane.busy) {
            let Some(batch) = lane.sealed.pop_front() else { continue };
            lane.busy = true;
            let leader = view
                .topics
                .get(&key.0)
                .and_then(|t| t.partitions.iter().find(|p| p.partition == key.1))
                .map(|p| p.leader)
                .filter(|leader| *leader >= 0);
            by_node.entry(leader).or_default().push((key.clone(), batch));
        }
        by_node.into_iter().collect()
    }

    async fn settle(&mut self, outcomes: Vec<Outcome>) {
        let mut look_again = Vec::new();
        for (key, batch, outcome) in outcomes {
            let Some(lane) = self.partitions.get_mut(&key) else { continue };
            lane.busy = false;
            match outcome {
                Ok(base) => {
                    for (offset, waiter) in (base..).zip(batch.waiters) {
                        // The sender may not care.
                        let _ = waiter.send(Ok(Delivered { partition: key.1, offset }));
                    }
                }
                Err(error) if error.is_retriable() && Instant::now() < batch.deadline => {
                    tracing::debug!(%error, topic = key.0, partition = key.1, "producing again");
                    lane.sealed.push_front(batch);
                    look_again.push(key.0);
                }
                Err(error) => {
                    for waiter in batch.waiters {
                        // The sender may not care.
                        let _ = waiter.send(Err(error.clone()));
                    }
                }
            }
        }
        if !look_again.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let names: Vec<&str> = look_again.iter().map(String::as_str).collect();
            if let Err(error) = self.client.refresh(Some(&names)).await {
                tracing::debug!(%error, "the cluster cannot be looked at");
            }
        }
    }
}

fn seal_lane(lane: &mut Lane, config: &ProducerConfig, identity: (i64, i16)) {
    let records = std::mem::take(&mut lane.open);
    (lane.open_bytes, lane.opened) = (0, None);
    let mut builder = BatchBuilder::new(config.compression);
    let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
    if identity.0 >= 0 {
        builder = builder.producer(identity.0, identity.1, lane.sequence);
        // Sequences go round at 2^31.
        lane.sequence = lane.sequence.wrapping_add(count) & i32::MAX;
    }
    let now = now_ms();
    let mut waiters = Vec::with_capacity(records.len());
    for (at, (record, waiter)) in (0i32..).zip(records) {
        let headers: Vec<RecordHeader<'_>> =
            record.headers.iter().map(|(name, value)| RecordHeader::new(name, value.as_deref())).collect();
        let timestamp = record.timestamp.unwrap_or(now);
        builder.append(at, timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        waiters.push(waiter);
    }
    match builder.build() {
        Ok(bytes) => {
            lane.sealed.push_back(Batch { bytes, waiters, deadline: Instant::now() + config.delivery_timeout });
        }
        Err(error) => {
            let error =
                ClientError::Records { topic: String::new(), partition: -1, offset: -1, reason: error.to_string() };
            for waiter in waiters {
                // The sender may not care.
                let _ = waiter.send(Err(error.clone()));
            }
        }
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn send(client: Client, config: ProducerConfig, node: Option<i32>, batches: Vec<(Key, Batch)>) -> Vec<Outcome> {
    let mut topics: BTreeMap<&str, Vec<PartitionProduceData>> = BTreeMap::new();
    for ((topic, partition), batch) in &batches {
        let data = PartitionProduceData { index: *partition, records: Some(batch.bytes.clone()) };
        topics.entry(topic).or_default().push(data);
    }
    let request = ProduceRequest {
        transactional_id: None,
        acks: if config.acks == 0 { 1 } else { config.acks },
        timeout_ms: 30_000,
        topic_data: topics
            .into_iter()
            .map(|(name, partition_data)| TopicProduceData {
                name: Str::copy(name),
                partition_data,
                ..Default::default()
            })
            .collect(),
    };
    let unknown = || ClientError::broker("leader", ErrorCode::LEADER_NOT_AVAILABLE);
    // Version 12 is the last that names topics; ids come with topics that were looked up.
    let response = match node {
        None => Err(unknown()),
        Some(node) => client.request_limited(Some(node), &request, 12, Duration::ZERO).await,
    };
    let mut codes: HashMap<Key, Result<i64, ClientError>> = HashMap::new();
    if let Ok(response) = &response {
        for topic in &response.responses {
            for p in &topic.partition_responses {
                let what = format!("produce to {}-{}", topic.name, p.index);
                let outcome =
                    ClientError::check(&what, p.error_code, p.error_message.as_deref()).map(|()| p.base_offset);
                codes.insert((topic.name.to_string(), p.index), outcome);
            }
        }
    }
    batches
        .into_iter()
        .map(|(key, batch)| {
            let outcome = match (&response, codes.remove(&key)) {
                (_, Some(outcome)) => outcome,
                (Err(error), None) => Err(error.clone()),
                (Ok(_), None) => Err(unknown()),
            };
            (key, batch, outcome)
        })
        .collect()
}
