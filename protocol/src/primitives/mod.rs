//! The primitives of Kafka's wire format: strings, uuids, the reader over a frame and the writer of a chunk list.
//!
//! Reading borrows: strings, bytes and record sets are slices of the frame. A length or count that a peer sent is held
//! against the bytes that are left before anything is allocated for it. Writing collects chunks: small fields go into one
//! buffer, big byte strings are shared as they are.

mod chunks;
mod reader;
mod string;
mod uuid;
mod writer;

pub use chunks::Chunks;
pub use reader::{DecodeError, MAX_ARRAY_LENGTH, MAX_TAGGED_FIELDS, Reader};
pub use string::Str;
pub use uuid::{InvalidUuid, Uuid};
pub(crate) use writer::Width;
pub use writer::{EncodeError, Writer};
