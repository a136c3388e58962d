//! Cuts a byte stream into Kafka's frames: an `i32` length, then so many bytes.
//!
//! A frame is a slice of the buffer it was read into; nothing is copied but what little of the next frame came along. The
//! buffer follows the size of recent frames, so that a big one is read in one piece. A length is only believed as far as
//! bytes arrive: a client that claims much and sends little costs little.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a stream is no stream of Kafka requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("the request's length is negative ({0})")]
    Negative(i32),
    /// The length is over `socket.request.max.bytes`.
    #[error("the request has {size} bytes, socket.request.max.bytes is {limit}")]
    TooLarge {
        /// What the client says.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It begins as a TLS handshake does.
    #[error(
        "this is a TLS handshake, but the listener speaks plaintext: set security.protocol=PLAINTEXT in the client"
    )]
    Tls,
    /// It begins as an HTTP request does.
    #[error("this is an HTTP request, but the port speaks Kafka's protocol: metrics are on the HTTP port")]
    Http,
}

/// The smallest buffer that is read into.
const BUFFER_MIN: usize = 4 << 10;
/// The largest buffer that is made before its bytes have come.
const BUFFER_AHEAD: usize = 4 << 20;

/// Cuts frames; see the module.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
    /// About the size of recent frames.
    usual: usize,
    first: bool,
}

impl FrameReader {
    /// A reader that takes frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, usual: BUFFER_MIN, first: true }
    }

    /// The next frame, if all of it was read already.
    pub fn next_buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self.size()? else { return Ok(None) };
        if self.buffer.len() < size + 4 {
            return Ok(None);
        }
        self.first = false;
        self.buffer.advance(4);
        self.usual = size.max(self.usual - self.usual / 8);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// The length of the frame at the front.
    fn size(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let claimed = i32::from_be_bytes(*prefix);
        if self.first {
            match prefix {
                [0x16, 0x03, 0..=4, _] => return Err(FrameError::Tls),
                b"GET " | b"POST" | b"PUT " | b"HEAD" | b"PRI " | b"OPTI" | b"DELE" => return Err(FrameError::Http),
                _ => {}
            }
        }
        let size = usize::try_from(claimed).map_err(|_| FrameError::Negative(claimed))?;
        if size > self.limit {
            return Err(FrameError::TooLarge { size, limit: self.limit });
        }
        Ok(Some(size))
    }

    /// Reads once; how many bytes came, 0 at the end of the stream. Nothing is lost if the future is dropped.
    pub async fn fill<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> std::io::Result<usize> {
        let needed = match self.size() {
            Ok(Some(size)) => (size + 4).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        // What was believed so far doubles as it comes true.
        let believed = needed.min(self.buffer.len().max(BUFFER_AHEAD));
        let room = believed.max(self.usual.saturating_add(self.usual / 4).min(BUFFER_AHEAD)).max(BUFFER_MIN);
        if self.buffer.capacity() - self.buffer.len() < believed.max(BUFFER_MIN / 4) {
            self.buffer.reserve(room);
        }
        stream.read_buf(&mut self.buffer).await
    }

    /// Bytes of a frame that is not whole yet.
    pub fn partial(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(limit: usize, mut stream: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut reader = FrameReader::new(limit);
        let mut found = Vec::new();
        loop {
            while let Some(frame) = reader.next_buffered()? {
                found.push(frame);
            }
            if reader.fill(&mut stream).await.unwrap() == 0 {
                return Ok(found);
            }
        }
    }

    #[tokio::test]
    async fn cuts_frames() {
        let big = vec![7u8; 300_000];
        let mut stream = b"\0\0\0\x02ab\0\0\0\0".to_vec();
        stream.extend((big.len() as i32).to_be_bytes());
        stream.extend(&big);
        stream.extend(b"\0\0\0\x05par");
        assert_eq!(frames(1 << 20, &stream).await.unwrap(), vec![Bytes::from("ab"), Bytes::new(), Bytes::from(big)]);
    }

    #[tokio::test]
    async fn refuses_what_is_no_request() {
        for (bytes, expected) in [
            (&b"\xff\xff\xff\xff"[..], FrameError::Negative(-1)),
            (b"\0\0\x04\x01", FrameError::TooLarge { size: 1025, limit: 1024 }),
            (b"\x16\x03\x01\x02\0", FrameError::Tls),
            (b"GET / HTTP/1.1", FrameError::Http),
        ] {
            assert_eq!(frames(1024, bytes).await.unwrap_err(), expected);
        }
    }

    #[tokio::test]
    async fn a_claim_alone_allocates_little() {
        let mut reader = FrameReader::new(100 << 20);
        let mut stream: &[u8] = &(100i32 << 20).to_be_bytes();
        reader.fill(&mut stream).await.unwrap();
        reader.fill(&mut stream).await.unwrap();
        assert!(reader.buffer.capacity() <= 2 * BUFFER_AHEAD);
    }
}
