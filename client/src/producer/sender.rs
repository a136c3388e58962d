//! The sending task: drains batches by broker, keeps order, repeats what failed.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::accumulator::{Accumulator, Queue};
use super::answers::{Answer, Settlement, Shipment};
use super::batch::{Identity, PendingBatch, sequence_after};
use super::config::Acks;
use super::error::ProduceError;
use crate::client::{Client, Target};
use crate::error::{ConnectionError, Error};
use crate::metadata::{Cluster, TopicPartition};
use crate::pool::Purpose;

/// Requests in flight to one broker, and batches of one partition: what brokers remember of a producer (KIP-98).
pub(super) const IDEMPOTENT_IN_FLIGHT: usize = 5;
/// The last version that names topics instead of giving their ids.
const PRODUCE: i16 = 12;

enum Event {
    Connected(i32, Result<(), Error>),
    Refreshed,
    Identified(Result<Identity, Error>),
    Answered(Answer),
}

type EventFuture = Pin<Box<dyn Future<Output = Event> + Send>>;

#[derive(Debug, Default)]
struct Node {
    in_flight: usize,
    connecting: bool,
    pause: Option<Instant>,
}

struct Sender {
    client: Client,
    purpose: Purpose,
    accumulator: Arc<Accumulator>,
    nodes: HashMap<i32, Node>,
    events: FuturesUnordered<EventFuture>,
    identity: Option<Identity>,
    /// The identity's sequence numbers have a hole: take a new one when nothing is in flight.
    renew: bool,
    /// A producer id has been requested.
    identifying: bool,
    /// No producer id is requested before: the last request for one failed.
    identity_pause: Option<Instant>,
    identity_failures: u32,
    /// Leaders are not where they were thought to be.
    stale: bool,
    refreshing: bool,
}

/// What one look over the queues found.
#[derive(Debug, Default)]
struct Drained {
    by_node: HashMap<i32, Vec<Shipment>>,
    sizes: HashMap<i32, usize>,
    connect: HashSet<i32>,
    next: Option<Instant>,
    leaderless: bool,
    idle: bool,
}

impl Drained {
    fn look_at(&mut self, when: Instant) {
        self.next = Some(self.next.map_or(when, |next| next.min(when)));
    }
}

pub(super) async fn run(client: Client, accumulator: Arc<Accumulator>) {
    let mut sender = Sender {
        client,
        purpose: Purpose::own(),
        accumulator,
        nodes: HashMap::new(),
        events: FuturesUnordered::new(),
        identity: None,
        renew: false,
        identifying: false,
        identity_pause: None,
        identity_failures: 0,
        stale: false,
        refreshing: false,
    };
    loop {
        let drained = sender.send_ready();
        if drained.idle && sender.accumulator.state.lock().closed {
            sender.client.forget(sender.purpose);
            return;
        }
        let accumulator = Arc::clone(&sender.accumulator);
        let next = drained.next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = accumulator.wake.notified() => {}
            () = sleep_until(next) => {}
            Some(event) = sender.events.next() => sender.handle(event),
        }
    }
}

impl Sender {
    /// Sends all that can go now.
    fn send_ready(&mut self) -> Drained {
        let mut drained = self.drain();
        if self.accumulator.config.idempotent && (self.identity.is_none() || self.renew) {
            self.take_identity(&mut drained);
        }
        for (node, shipments) in std::mem::take(&mut drained.by_node) {
            self.ship(node, shipments);
        }
        for node in std::mem::take(&mut drained.connect) {
            self.connect(node);
        }
        if (drained.leaderless || self.stale) && !self.refreshing {
            self.refresh(drained.leaderless && !self.stale);
        }
        drained
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(id, result) => {
                let pause = Instant::now() + self.client.config().retry_backoff;
                let node = self.nodes.entry(id).or_default();
                node.connecting = false;
                node.pause = None;
                if let Err(error) = result {
                    node.pause = Some(pause);
                    self.stale = true;
                    self.note_failure(id, &error.to_string());
                }
            }
            Event::Refreshed => self.refreshing = false,
            Event::Identified(result) => self.handle_identity(result),
            Event::Answered(answer) => {
                if let Some(node) = self.nodes.get_mut(&answer.node) {
                    node.in_flight = node.in_flight.saturating_sub(1);
                }
                self.handle_answer(answer);
            }
        }
    }

    /// Remembers why batches for a broker do not go, for the day they expire.
    fn note_failure(&self, node: i32, reason: &str) {
        let cluster = self.client.cluster();
        let mut state = self.accumulator.state.lock();
        for (tp, queue) in &mut state.queues {
            if cluster.leader(&tp.topic, tp.partition) == Some(node)
                && let Some(batch) = queue.ready.front_mut()
            {
                batch.last_failure = reason.to_owned();
            }
        }
    }

    /// Looks over all queues once.
    fn drain(&mut self) -> Drained {
        let cluster = self.client.cluster();
        let accumulator = Arc::clone(&self.accumulator);
        let now = Instant::now();
        let mut drained = Drained { idle: true, ..Drained::default() };
        let mut state = accumulator.state.lock();
        let flush_up_to = if state.closed { u64::MAX } else { state.flush_up_to };
        for (tp, queue) in &mut state.queues {
            self.expire(tp, queue, now);
            close_open(queue, flush_up_to, accumulator.config.linger, now, &mut drained);
            if !queue.in_flight.is_empty() || !queue.ready.is_empty() || queue.open.is_some() {
                drained.idle = false;
            }
            if let Some(first) = queue.ready.front() {
                drained.look_at(first.created + accumulator.config.delivery_timeout);
            }
            if self.identity.is_none() && accumulator.config.idempotent || self.renew {
                continue;
            }
            self.take_batch(tp, queue, &cluster, now, &mut drained);
        }
        drained
    }

    /// Takes a partition's next batch if its broker can have it now.
    fn take_batch(
        &mut self,
        tp: &TopicPartition,
        queue: &mut Queue,
        cluster: &Cluster,
        now: Instant,
        drained: &mut Drained,
    ) {
        let config = &self.accumulator.config;
        let Some(first) = queue.ready.front() else { return };
        let one_by_one = queue.retrying || config.idempotent && !queue.known;
        if queue.in_flight.len() >= config.max_in_flight || one_by_one && !queue.in_flight.is_empty() {
            return;
        }
        if let Some(pause) = queue.pause.filter(|pause| *pause > now) {
            drained.look_at(pause);
            return;
        }
        let Some(leader) = cluster.leader(&tp.topic, tp.partition) else {
            drained.leaderless = true;
            drained.look_at(now + self.client.config().retry_backoff);
            return;
        };
        let node = self.nodes.entry(leader).or_default();
        if node.in_flight >= config.max_in_flight || node.connecting {
            return;
        }
        if let Some(pause) = node.pause.filter(|pause| *pause > now) {
            drained.look_at(pause);
            return;
        }
        if self.client.existing_connection(leader, self.purpose).is_none() {
            drained.connect.insert(leader);
            return;
        }
        let size = drained.sizes.entry(leader).or_default();
        if *size > 0 && *size + first.reserved > config.request_bytes {
            drained.look_at(now);
            return;
        }
        *size += first.reserved;
        let Some(mut batch) = queue.ready.pop_front() else { return };
        if self.identity.is_some() && batch.sequence.is_none() {
            batch.sequence = Some(queue.next_sequence);
            queue.next_sequence = sequence_after(queue.next_sequence, batch.records());
        }
        match batch.bytes(self.identity) {
            Ok(bytes) => {
                drained.by_node.entry(leader).or_default().push((tp.clone(), batch.id, bytes));
                queue.in_flight.push_back(batch);
                if !queue.ready.is_empty() {
                    drained.look_at(now);
                }
            }
            Err(error) => {
                self.renew |= batch.sequence.is_some();
                self.accumulator.complete_batch(batch, Err(error.into()));
            }
        }
    }

    /// Fails batches that waited too long. A hole in the sequence numbers requires a new producer id.
    fn expire(&mut self, tp: &TopicPartition, queue: &mut Queue, now: Instant) {
        let after = self.accumulator.config.delivery_timeout;
        while let Some(batch) = queue.ready.pop_front_if(|batch| batch.created + after <= now) {
            self.renew |= batch.sequence.is_some();
            let error = ProduceError::Expired {
                topic: tp.topic.to_string(),
                partition: tp.partition,
                after,
                reason: batch.last_failure.clone(),
            };
            self.accumulator.complete_batch(batch, Err(error));
        }
    }

    /// Puts one request on its way.
    fn ship(&mut self, id: i32, shipments: Vec<Shipment>) {
        let config = &self.accumulator.config;
        let mut topics: HashMap<Str, Vec<PartitionProduceData>> = HashMap::new();
        for (tp, _, bytes) in &shipments {
            let data = PartitionProduceData { index: tp.partition, records: Some(bytes.clone()) };
            topics.entry(tp.topic.clone()).or_default().push(data);
        }
        let topic_data = topics.into_iter().map(|(name, partition_data)| TopicProduceData {
            name,
            partition_data,
            ..TopicProduceData::default()
        });
        let request = ProduceRequest {
            acks: config.acks.number(),
            timeout_ms: i32::try_from(self.client.request_timeout().as_millis()).unwrap_or(i32::MAX),
            topic_data: topic_data.collect(),
            ..ProduceRequest::default()
        };
        let connection = self.client.existing_connection(id, self.purpose);
        let lost = || ConnectionError::Lost { address: format!("broker {id}"), reason: "it was closed".to_owned() };
        let connection = connection.ok_or_else(lost);
        let version = connection.and_then(|c| c.version::<ProduceRequest>(PRODUCE).map(|version| (c, version)));
        if config.acks == Acks::None {
            let sent = version.and_then(|(connection, version)| connection.send(version, &request));
            let result = sent.map(|()| None).map_err(Error::from);
            self.handle_answer(Answer { node: id, shipments, result });
            // Nothing else wakes the task: there is no answer to wait for.
            self.accumulator.wake.notify_one();
            return;
        }
        // The broker may take the request's time-out; the network time is added to it.
        let patience = self.client.request_timeout() + Duration::from_secs(5);
        let started = version.and_then(|(connection, version)| connection.start(version, &request, Some(patience)));
        self.nodes.entry(id).or_default().in_flight += 1;
        self.events.push(Box::pin(async move {
            let result = match started {
                Ok(pending) => pending.wait().await,
                Err(error) => Err(error),
            };
            Event::Answered(Answer { node: id, shipments, result: result.map(Some).map_err(Error::from) })
        }));
    }

    fn connect(&mut self, id: i32) {
        self.nodes.entry(id).or_default().connecting = true;
        let (client, purpose) = (self.client.clone(), self.purpose);
        self.events.push(Box::pin(async move {
            let result = client.connection(&Target::Node(id), purpose).await;
            Event::Connected(id, result.map(drop))
        }));
    }

    /// Refreshes the topics' leaders, after a pause where only time can help.
    fn refresh(&mut self, pause: bool) {
        self.stale = false;
        self.refreshing = true;
        let topics: HashSet<Str> = self.accumulator.state.lock().queues.keys().map(|tp| tp.topic.clone()).collect();
        let client = self.client.clone();
        self.events.push(Box::pin(async move {
            if pause {
                tokio::time::sleep(client.config().retry_backoff).await;
            }
            let topics: Vec<_> = topics.into_iter().collect();
            if let Err(error) = client.refresh(&topics).await {
                tracing::debug!(%error, "metadata cannot be refreshed");
                tokio::time::sleep(client.config().retry_backoff).await;
            }
            Event::Refreshed
        }));
    }

    fn handle_answer(&mut self, answer: Answer) {
        let mut settlement = Settlement::new(&self.accumulator, self.client.backoff());
        settlement.apply_answer(answer);
        self.renew |= settlement.renew;
        self.stale |= settlement.stale;
    }

    /// Requests a producer id, once there is something to send and nothing is in flight under the old one. Batches keep
    /// expiring while the answer is on its way.
    fn take_identity(&mut self, drained: &mut Drained) {
        let needed = {
            let state = self.accumulator.state.lock();
            let in_flight = state.queues.values().any(|queue| !queue.in_flight.is_empty());
            let waiting = state.queues.values().any(|queue| !queue.ready.is_empty() || queue.open.is_some());
            waiting && !in_flight
        };
        if !needed || self.identifying {
            return;
        }
        if let Some(pause) = self.identity_pause.filter(|pause| *pause > Instant::now()) {
            drained.look_at(pause);
            return;
        }
        self.identifying = true;
        let client = self.client.clone();
        self.events.push(Box::pin(async move {
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            let answer = client.request_up_to(Target::Any, 5, |_| request.clone()).await;
            Event::Identified(answer.and_then(|answer| {
                Error::check(|| "a producer id".to_owned(), answer.error_code, None)?;
                Ok(Identity { producer_id: answer.producer_id, epoch: answer.producer_epoch })
            }))
        }));
    }

    fn handle_identity(&mut self, result: Result<Identity, Error>) {
        self.identifying = false;
        match result {
            Ok(identity) => {
                self.identity = Some(identity);
                self.renew = false;
                (self.identity_pause, self.identity_failures) = (None, 0);
                for queue in self.accumulator.state.lock().queues.values_mut() {
                    queue.next_sequence = 0;
                    queue.known = false;
                    queue.ready.iter_mut().for_each(|batch| batch.sequence = None);
                }
            }
            Err(error) if error.is_retriable() => {
                self.identity_pause = Some(Instant::now() + self.client.backoff().pause(self.identity_failures));
                self.identity_failures = self.identity_failures.saturating_add(1);
                self.stale = true;
                let reason = error.to_string();
                for queue in self.accumulator.state.lock().queues.values_mut() {
                    if let Some(batch) = queue.ready.front_mut() {
                        batch.last_failure.clone_from(&reason);
                    }
                }
            }
            Err(error) => self.accumulator.fail_unsent(&ProduceError::Client(error)),
        }
    }
}

/// Moves the open batch to the ready ones when it is due; returns when it is due.
fn close_open(queue: &mut Queue, flush_up_to: u64, linger: Duration, now: Instant, drained: &mut Drained) {
    let due = |batch: &PendingBatch| batch.id <= flush_up_to || batch.created + linger <= now;
    if let Some(batch) = queue.open.take_if(|open| !open.is_empty() && due(open)) {
        queue.ready.push_back(batch);
    } else if let Some(open) = &queue.open {
        drained.look_at(open.created + linger);
    }
}
