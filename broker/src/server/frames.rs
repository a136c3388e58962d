//! Frames from a byte stream: `size i32, body`. A frame becomes a slice of the buffer that the socket was read into.
//!
//! The buffer is as large as the last frame was, so that in steady flow a frame is read with one call into its own place
//! and nothing is moved; when its frames are dropped, the buffer is used again. A size prefix alone never allocates: past
//! [`STEP`] a frame's buffer has its whole size only when as many bytes have arrived (its memory is reserved by then). A quiet connection holds no buffer, and the buffer of a frame larger
//! than [`STEP`] goes with the frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use esker_protocol::api::ApiKey;
use tokio_util::io::poll_read_buf;

use super::close::CloseReason;
use super::frame_error::FrameError;
use super::scope::ConnectionLimits;
use super::transport::Transport;

/// Bytes of the size prefix.
const PREFIX: usize = 4;
/// What a connection reads with before it has seen how large its frames are.
const SMALL: usize = 4 << 10;
/// The largest buffer that is kept for the next frame, and the most that is reserved for bytes that are not there yet.
const STEP: usize = 1 << 20;

/// Memory that a request takes for each of its bytes while it is decoded and answered. A Produce request keeps its bytes as they
/// are; an array of any other request becomes structures of many times its size (a factor of 23 was measured, in Metadata).
const DECODED: usize = 16;

/// Bytes of memory that a request of `size` bytes may take.
fn weight(key: ApiKey, size: usize) -> usize {
    if key == ApiKey::PRODUCE { size } else { size.saturating_mul(DECODED) }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: BytesMut,
    /// The expected size of the next read.
    expected: usize,
    limits: ConnectionLimits,
    /// The sender is a node that has proved who it is.
    proven: bool,
    first: bool,
}

impl Frames {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { buffer: BytesMut::new(), expected: SMALL, limits, proven: false, first: true }
    }

    /// The stream begins with these bytes, which were read already.
    pub(super) fn begin_with(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the sender has proved to be a node: the limits of the next frames follow from it.
    pub(super) fn set_proven(&mut self, proven: bool) {
        self.proven = proven;
    }

    /// The next whole frame, without its prefix.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self.size()? else { return Ok(None) };
        let total = PREFIX + size;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(total).freeze();
        let _prefix = frame.split_to(PREFIX);
        if total > STEP + PREFIX {
            self.buffer = BytesMut::from(&*self.buffer);
        }
        self.first = false;
        // Grows at once, shrinks slowly: a small request between large ones must not cost the large buffer.
        self.expected = total.max(self.expected - self.expected / 8).clamp(SMALL, STEP + PREFIX);
        Ok(Some(frame))
    }

    /// Whether [`Self::next`] returns a frame or an error.
    pub(super) fn has_whole(&self) -> bool {
        self.size().map_or(true, |size| size.is_some_and(|size| self.buffer.len() >= PREFIX + size))
    }

    /// The size in the prefix at the front, if the prefix is complete. One that is fine for one API and too large for another is not known
    /// before the API is.
    fn size(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let size = i32::from_be_bytes(*prefix);
        let Ok(size) = usize::try_from(size) else { return Err(FrameError::Negative(size)) };
        let (limits, peers) = (&self.limits, &self.limits.peers);
        let Some([.., high, low]) = self.buffer.first_chunk::<{ PREFIX + 2 }>() else {
            return match size {
                size if size <= limits.request_bytes.min(peers.unproven) || size < 2 => Ok(Some(size)),
                size if self.proven || size <= peers.unproven => Ok(None),
                size if size <= limits.request_bytes => Ok(Some(size)),
                size => Err(self.too_large(prefix, size)),
            };
        };
        let key = i16::from_be_bytes([*high, *low]);
        if key < peers.first_key || size < 2 {
            return if size <= limits.request_bytes { Ok(Some(size)) } else { Err(self.too_large(prefix, size)) };
        }
        let limit = if self.proven { (peers.proven)(ApiKey(key)) } else { peers.unproven };
        if size <= limit { Ok(Some(size)) } else { Err(FrameError::PeerTooLarge { key, size, limit }) }
    }

    fn too_large(&self, prefix: &[u8; PREFIX], size: usize) -> FrameError {
        match prefix {
            [0x16, 0x03, ..] if self.first => FrameError::Tls,
            b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" if self.first => {
                FrameError::Http
            }
            _ => FrameError::TooLarge { size, limit: self.limits.request_bytes },
        }
    }

    /// How a stream that ended here ended.
    pub(super) fn at_end(&self) -> CloseReason {
        if self.buffer.is_empty() {
            return CloseReason::ByClient;
        }
        CloseReason::HalfRequest
    }

    /// Memory that is held while nothing is read.
    pub(super) fn is_holding(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Whether a request is there in part.
    pub(super) fn has_part(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Memory for the request at the front, if its size and API are known, else of the buffer. It stays the same while a request
    /// is read.
    pub(super) fn memory(&self) -> usize {
        match self.buffer.first_chunk::<{ PREFIX + 2 }>() {
            Some([a, b, c, d, key @ ..]) => {
                let size = usize::try_from(i32::from_be_bytes([*a, *b, *c, *d])).unwrap_or_default();
                weight(ApiKey(i16::from_be_bytes(*key)), size).max(self.buffer.len())
            }
            None => self.buffer.capacity(),
        }
    }

    /// The same, with the next read.
    pub(super) fn memory_to_read(&self) -> usize {
        if self.buffer.len() < PREFIX + 2 { self.memory().max(self.expected) } else { self.memory() }
    }

    /// Waits until there is something to read, as long as there is no buffer for it.
    pub(super) fn poll_ready<T: Transport>(&self, cx: &mut Context<'_>, from: &T) -> Poll<io::Result<()>> {
        if self.is_holding() { Poll::Ready(Ok(())) } else { from.poll_readable(cx) }
    }

    /// Drops an empty buffer.
    pub(super) fn release_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.expected = SMALL;
        }
    }

    /// Reads once. `Ok(0)` is the end of the stream. Call after [`Self::next`] has found no whole frame, [`Self::poll_ready`] is
    /// ready, and the memory is reserved.
    pub(super) fn poll_fill<T: Transport>(&mut self, cx: &mut Context<'_>, from: &mut T) -> Poll<io::Result<usize>> {
        let have = self.buffer.len();
        let want = match self.size().ok().flatten() {
            // Nothing is reserved for it while its API is not known.
            Some(_) if have > 0 && have < PREFIX + 2 => SMALL,
            // A large frame is read to its end and no further: what follows has its own place.
            // Growing step by step would copy it several times, and leave as much behind in the allocator.
            Some(size) if have >= STEP => (PREFIX + size).saturating_sub(have),
            Some(size) => (PREFIX + size).saturating_sub(have).min(STEP),
            None => self.expected.saturating_sub(have),
        };
        let want = want.max(PREFIX);
        self.buffer.reserve(want);
        let most = if want > SMALL { want } else { self.buffer.capacity() - have };
        poll_read_buf(Pin::new(from), cx, &mut (&mut self.buffer).limit(most))
    }
}

#[cfg(test)]
mod tests;
