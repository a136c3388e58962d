//! The producer: records are gathered into batches by partition, and one task sends them.
//!
//! `send` picks the partition, encodes the record into that partition's open batch and returns; it waits only while the buffer is
//! full. The sending task closes batches (full, or older than `linger`), gives them sequence numbers and keeps up to five
//! requests in flight to each broker. A batch that has to go again goes before all later ones of its partition, with the
//! sequence number it had, so that nothing is lost, doubled or out of order (KIP-98).

mod accumulator;
mod answers;
mod batch;
mod partitioner;
mod record;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::records::BatchError;
use thiserror::Error;
use tokio::task::JoinHandle;

pub use batch::{Delivered, Delivery};
pub use partitioner::{murmur2, partition_for_key};
pub use record::ProducerRecord;

use crate::client::Client;
use crate::error::{Error, refusal};
use accumulator::Accumulator;

/// Whom a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nobody: records may be lost without notice, and offsets are not known.
    None,
    /// The leader.
    Leader,
    /// All replicas in sync.
    #[default]
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Settings of a producer.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Whom to wait for.
    pub acks: Acks,
    /// No record twice and none out of order, also when requests are repeated. Needs `Acks::All`; switched off with others.
    pub idempotent: bool,
    /// Codec of the batches.
    pub compression: Compression,
    /// Its level, in the codec's own scale.
    pub compression_level: Option<i32>,
    /// How long a batch that is not full waits for more records.
    pub linger: Duration,
    /// Bytes of a batch before compression. Must leave room below the topics' max.message.bytes (1 MiB by default).
    pub batch_bytes: usize,
    /// Bytes of a request.
    pub request_bytes: usize,
    /// Bytes of all records that are not acknowledged yet; `send` waits when it is reached.
    pub buffer_bytes: usize,
    /// How long `send` waits for room in the buffer, at most.
    pub max_block: Duration,
    /// A record that is not acknowledged in this time fails.
    pub delivery_timeout: Duration,
    /// Requests in flight to one broker; 5 at most when idempotent.
    pub max_in_flight: usize,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            compression_level: None,
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            request_bytes: 4 << 20,
            buffer_bytes: 32 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            max_in_flight: 5,
        }
    }
}

/// Why a record was not produced.
#[derive(Debug, Clone, Error)]
pub enum ProduceError {
    /// It is larger than the whole buffer.
    #[error("a record of {size} bytes does not fit into the producer's buffer of {limit} bytes: raise buffer_bytes")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The buffer's.
        limit: usize,
    },
    /// No room came free in time: brokers take records more slowly than they are sent.
    #[error("the producer's buffer stayed full for {after:?}: send more slowly, or raise buffer_bytes or max_block")]
    BufferFull {
        /// How long was waited.
        after: Duration,
    },
    /// The topic has no such partition.
    #[error("topic '{topic}' has no partition {partition}; it has {count}, counted from 0")]
    NoPartition {
        /// Topic.
        topic: String,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// Not acknowledged in time. It may have been written.
    #[error("{topic} partition {partition} did not acknowledge within {after:?}; the last failure: {reason}")]
    Expired {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The delivery timeout.
        after: Duration,
        /// What failed last.
        reason: String,
    },
    /// The broker refused.
    #[error("{topic} partition {partition}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// The batch could not be built.
    #[error("the batch cannot be built: {0}")]
    Batch(#[from] BatchError),
    /// The topic, or the cluster.
    #[error(transparent)]
    Client(#[from] Error),
    /// The producer was closed.
    #[error("the producer was closed")]
    Closed,
}

impl ProduceError {
    /// Kafka's code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Client(error) => error.code(),
            _ => None,
        }
    }
}

/// Sends records. Share it behind an `Arc`; dropping the last handle without [`Producer::close`] drops what was not sent yet.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    accumulator: Arc<Accumulator>,
    task: JoinHandle<()>,
}

impl Producer {
    /// A producer on a client's connections.
    #[must_use]
    pub fn new(client: &Client, mut config: ProducerConfig) -> Self {
        config.idempotent &= config.acks == Acks::All;
        config.max_in_flight = config.max_in_flight.max(1);
        if config.idempotent {
            config.max_in_flight = config.max_in_flight.min(sender::IDEMPOTENT_IN_FLIGHT);
        }
        let accumulator = Arc::new(Accumulator::new(config));
        let task = tokio::spawn(sender::run(client.clone(), Arc::clone(&accumulator)));
        Self { client: client.clone(), accumulator, task }
    }

    /// Puts a record into its batch. Waits while the buffer is full or the topic's metadata is not known. What it returns becomes the
    /// offset once the broker has acknowledged; it can be dropped where nobody asks.
    ///
    /// # Errors
    /// The topic or partition is not there, the record is too large, or the buffer stays full.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let topic = match self.client.cached_topic(&record.topic) {
            Some(topic) => topic,
            None => self.client.topic(&record.topic, true).await?,
        };
        self.accumulator.append(&topic, record).await
    }

    /// Sends everything at once and waits until all of it is acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure among the records that were under way; each of them also comes through its own [`Delivery`].
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.accumulator.flush().await
    }

    /// Flushes, then ends the sending task.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(mut self) -> Result<(), ProduceError> {
        let flushed = self.flush().await;
        self.accumulator.close();
        let _ = (&mut self.task).await;
        flushed
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.accumulator.close();
    }
}
