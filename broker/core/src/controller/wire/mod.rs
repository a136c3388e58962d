//! Requests to the active controller and their answers as bytes, for a node that is not the active controller.
//!
//! A request or an answer is `kind i16, version i16, body`; an answer has the kind of its request. A body is a struct of [`bodies`], and
//! behind it the Kafka messages that the request holds, each in the version that [`kafka`] pins. A body that gains a field, or a message that
//! moves to a newer version, gains a version of its kind: old versions stay readable while nodes of two versions of Esker run together.
//!
//! Must never: send a password ([`bodies::StaticsBody`]), skip bytes that it does not understand, or allocate more than the bytes pay for.

mod bodies;
mod body;
mod kafka;
mod kinds;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use esker_protocol::primitives::{EncodeError, Reader, Writer};

pub use body::WireError;

use super::request::{Reply, Request};

/// A request as bytes.
pub fn encode_request(request: &Request) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    kinds::put_request(request, &mut w)?;
    Ok(w.finish().into_bytes())
}

/// A request from bytes. Its strings share them.
pub fn decode_request(bytes: Bytes) -> Result<Request, WireError> {
    let mut r = Reader::new(bytes);
    let (kind, version) = (r.i16()?, r.i16()?);
    kinds::get_request(r, kind, version)
}

/// An answer as bytes.
pub fn encode_reply(reply: &Reply) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    kinds::put_reply(reply, &mut w)?;
    Ok(w.finish().into_bytes())
}

/// An answer from bytes. Its strings share them.
pub fn decode_reply(bytes: Bytes) -> Result<Reply, WireError> {
    let mut r = Reader::new(bytes);
    let (kind, version) = (r.i16()?, r.i16()?);
    kinds::get_reply(r, kind, version)
}
