//! Settings of a producer.

use std::time::Duration;

use esker_protocol::compression::Compression;

/// Whom a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// No broker: records may be lost without notice, and offsets are not known.
    None,
    /// The leader.
    Leader,
    /// All replicas in sync.
    #[default]
    All,
}

impl Acks {
    pub(super) fn number(self) -> i16 {
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
