//! Kafka's wire format: messages, primitives, record batches, compression. No I/O, no async.
//!
//! A message is a plain struct; `#[derive(Message)]` writes its codec for all versions. Decoding borrows from the frame
//! and allocates nothing that the frame's own bytes do not pay for; encoding yields a list of chunks.
//!
//! A request as a client sends it, and a batch of records that it carries:
//!
//! ```
//! use esker_protocol::compression::Compression;
//! use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
//! use esker_protocol::primitives::Reader;
//! use esker_protocol::records::{BatchBuilder, Batches};
//! use esker_protocol::{Message, RequestHeader, encode_request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut batch = BatchBuilder::new(Compression::Zstd);
//! batch.append(0, 1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
//! let data = PartitionProduceData { index: 0, records: Some(batch.build()?) };
//! let topic = TopicProduceData { name: "greetings".into(), partition_data: vec![data], ..Default::default() };
//! let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
//! let frame = encode_request(9, 1, Some("me".into()), &request)?.into_bytes();
//!
//! // The broker's side: behind the length lie a header and the body.
//! let mut reader = Reader::new(frame.slice(4..));
//! let header = RequestHeader::decode(&mut reader)?;
//! let received = ProduceRequest::decode(&mut reader, header.api_version)?;
//! assert_eq!(received, request);
//! let records = received.topic_data[0].partition_data[0].records.clone().unwrap_or_default();
//! for batch in Batches::new(records) {
//!     let record = batch?.records(1 << 20)?.next().ok_or("a batch has records")??;
//!     assert_eq!(record.value.as_deref(), Some(&b"value"[..]));
//! }
//! # Ok(())
//! # }
//! ```

pub mod api;
pub mod compression;
pub mod error;
mod header;
pub mod messages;
pub mod primitives;
pub mod records;
pub mod schema;
#[doc(hidden)]
pub mod wire;

use std::ops::RangeInclusive;

pub use esker_protocol_derive::Message;
pub use header::{RequestHeader, decode_response, encode_request, encode_response};

use primitives::{DecodeError, EncodeError, Reader, Writer};
use schema::Schema;
use wire::{Codec, Value};

/// A message of its own: a request, a response, or the body of a record.
pub trait Message: Value + Default + Clone + std::fmt::Debug + PartialEq + Send + 'static {
    /// What it looks like.
    const SCHEMA: &'static Schema;

    /// Reads one in `version`. Bytes behind it are left unread.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        match codec(Self::SCHEMA, version) {
            Some(codec) => Self::read(r, codec),
            None => Err(DecodeError::UnsupportedVersion { message: Self::SCHEMA.name, version }),
        }
    }

    /// Writes it in `version`.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        match codec(Self::SCHEMA, version) {
            Some(codec) => self.write(w, codec),
            None => Err(EncodeError::UnsupportedVersion { message: Self::SCHEMA.name, version }),
        }
    }
}

fn codec(schema: &Schema, version: i16) -> Option<Codec> {
    schema.versions.contains(version).then(|| Codec { version, flexible: schema.flexible.contains(version) })
}

/// A request.
pub trait Request: Message {
    /// Its API.
    const KEY: api::ApiKey;
    /// Versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// Its answer.
    type Response: Message;
}
