//! What is gathered and under way, by partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use esker_protocol::primitives::Str;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use super::batch::{Delivery, Outcome, PendingBatch, wait_for_outcome};
use super::config::ProducerConfig;
use super::error::ProduceError;
use super::partitioner::{Sticky, partition_for_key};
use super::record::ProducerRecord;
use crate::metadata::{Topic, TopicPartition};
use crate::retry::now_ms;

/// One partition's batches.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Takes records.
    pub(super) open: Option<PendingBatch>,
    /// Closed, oldest first.
    pub(super) ready: VecDeque<PendingBatch>,
    /// Sent, oldest first.
    pub(super) in_flight: VecDeque<PendingBatch>,
    /// Sequence number of the next new batch.
    pub(super) next_sequence: i32,
    /// The broker knows the producer in this partition. Until it has appended a first batch it accepts any sequence number, so that
    /// a second batch in flight could overtake a first that must be sent again.
    pub(super) known: bool,
    /// A batch failed and is sent again: one batch at a time until it is acknowledged.
    pub(super) retrying: bool,
    /// No batch is sent before.
    pub(super) pause: Option<Instant>,
}

impl Queue {
    fn batches(&self) -> impl Iterator<Item = &PendingBatch> {
        self.in_flight.iter().chain(&self.ready).chain(&self.open)
    }

    /// Puts a batch back where it was in the order.
    pub(super) fn put_back(&mut self, batch: PendingBatch) {
        let at = self.ready.iter().position(|other| other.id > batch.id).unwrap_or(self.ready.len());
        self.ready.insert(at, batch);
        self.retrying = true;
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queues: HashMap<TopicPartition, Queue>,
    sticky: HashMap<Str, Sticky>,
    next_id: u64,
    /// Batches up to this id go without lingering.
    pub(super) flush_up_to: u64,
    pub(super) closed: bool,
}

/// What `send` and the sending task share.
#[derive(Debug)]
pub(super) struct Accumulator {
    pub(super) config: ProducerConfig,
    pub(super) state: Mutex<State>,
    /// Wakes the sending task.
    pub(super) wake: Notify,
    room: Semaphore,
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig) -> Self {
        let room = Semaphore::new(config.buffer_bytes.min(Semaphore::MAX_PERMITS));
        Self { config, state: Mutex::default(), wake: Notify::new(), room }
    }

    pub(super) async fn append(&self, topic: &Arc<Topic>, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let config = &self.config;
        let size = record.size();
        let too_large = ProduceError::TooLarge { size, limit: config.buffer_bytes };
        if size > config.buffer_bytes {
            return Err(too_large);
        }
        let bytes = u32::try_from(size).map_err(|_| too_large)?;
        let permit = match self.room.try_acquire_many(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                // Full: let batches go that would linger, then wait for room.
                self.push_out();
                match timeout(config.max_block, self.room.acquire_many(bytes)).await {
                    Ok(permit) => permit.map_err(|_| ProduceError::Closed)?,
                    Err(_) => return Err(ProduceError::BufferFull { after: config.max_block }),
                }
            }
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.closed {
            return Err(ProduceError::Closed);
        }
        let partition = place(state, topic, &record, size, config.batch_bytes)?;
        permit.forget();
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let queue = state.queues.entry(TopicPartition { topic: topic.name.clone(), partition }).or_default();
        let mut wake = false;
        if let Some(full) = queue.open.take_if(|open| !open.fits(size, config.batch_bytes)) {
            queue.ready.push_back(full);
            wake = true;
        }
        let next_id = &mut state.next_id;
        let open = queue.open.get_or_insert_with(|| {
            *next_id += 1;
            wake = true;
            PendingBatch::new(*next_id, config.compression, config.compression_level)
        });
        let (index, outcome) = open.append(&record, timestamp, size);
        if wake {
            self.wake.notify_one();
        }
        Ok(Delivery { outcome, partition, index, timestamp })
    }

    /// Lets all batches that are there now go without lingering.
    fn push_out(&self) {
        let mut state = self.state.lock();
        state.flush_up_to = state.next_id;
        self.wake.notify_one();
    }

    pub(super) async fn flush(&self) -> Result<(), ProduceError> {
        self.push_out();
        let watchers: Vec<_> = {
            let state = self.state.lock();
            state.queues.values().flat_map(Queue::batches).map(PendingBatch::watch).collect()
        };
        let mut result = Ok(());
        for mut watcher in watchers {
            if let Err(error) = wait_for_outcome(&mut watcher).await {
                result = result.and(Err(error));
            }
        }
        result
    }

    /// No more records; the sending task ends when it sees this.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Completes a batch's deliveries with its outcome and releases its bytes.
    pub(super) fn complete_batch(&self, batch: PendingBatch, outcome: Outcome) {
        self.room.add_permits(batch.reserved);
        batch.complete_batch(outcome);
    }

    /// Fails every batch that is not in flight.
    pub(super) fn fail_unsent(&self, error: &ProduceError) {
        let mut state = self.state.lock();
        for queue in state.queues.values_mut() {
            for batch in queue.ready.drain(..).chain(queue.open.take()) {
                self.complete_batch(batch, Err(error.clone()));
            }
        }
    }
}

fn place(
    state: &mut State,
    topic: &Topic,
    record: &ProducerRecord,
    size: usize,
    batch_bytes: usize,
) -> Result<i32, ProduceError> {
    let count = topic.partitions.len();
    let chosen = match (record.partition, &record.key) {
        (Some(partition), _) => partition,
        (None, Some(key)) => partition_for_key(key, count),
        (None, None) => match state.sticky.get_mut(&topic.name) {
            Some(sticky) => sticky.next(topic, size, batch_bytes),
            None => state.sticky.entry(topic.name.clone()).or_default().next(topic, size, batch_bytes),
        },
    };
    if usize::try_from(chosen).is_ok_and(|chosen| chosen < count) {
        Ok(chosen)
    } else {
        Err(ProduceError::NoPartition { topic: topic.name.to_string(), partition: chosen, count })
    }
}
