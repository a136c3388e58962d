//! A record to produce.

use bytes::Bytes;
use esker_protocol::primitives::Str;

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    pub(crate) topic: Str,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Str, Option<Bytes>)>,
    pub(crate) timestamp: Option<i64>,
}

impl ProducerRecord {
    /// An empty record (no key, null value) for a topic.
    #[must_use]
    pub fn new(topic: impl Into<Str>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// Sets the key; records with the same key go to the same partition, the one Java's producer would choose.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value. Without one the record is a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header; a null value is allowed.
    #[must_use]
    pub fn header(mut self, name: impl Into<Str>, value: Option<Bytes>) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// Chooses the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time, in milliseconds since 1970; without it, the time of `send`.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Bytes that it takes in a batch, at most.
    pub(crate) fn size(&self) -> usize {
        /// Lengths, deltas and attributes.
        const OVERHEAD: usize = 32;
        let field = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + field(value) + 10).sum();
        OVERHEAD + field(&self.key) + field(&self.value) + headers
    }
}
