//! Chunk lists on their way into a socket, and frames on their way out of one.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Chunks of one or several requests, written with one call where the system takes them all.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Outgoing {
    pub(crate) fn push(&mut self, parts: Vec<Bytes>) {
        for part in parts {
            if !part.is_empty() {
                self.left += part.len();
                self.parts.push_back(part);
            }
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        out.iter_mut().zip(&self.parts).map(|(slot, part)| *slot = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.left -= count;
        while let Some(front) = self.parts.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.parts.pop_front();
        }
    }
}

/// Room that is made at once for a frame; more follows as its bytes arrive.
const ROOM_AHEAD: usize = 1 << 20;

/// Reads one frame without its length. `None` when the peer closed between frames.
pub(crate) async fn read_frame(r: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<Bytes>> {
    let mut size = [0; 4];
    match r.read_exact(&mut size).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let size = i32::from_be_bytes(size);
    let size = usize::try_from(size).ok().filter(|size| *size <= limit).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {size} bytes is over the limit of {limit}"))
    })?;
    let mut frame = BytesMut::with_capacity(size.min(ROOM_AHEAD));
    while frame.len() < size {
        let left = size - frame.len();
        if frame.capacity() == frame.len() {
            frame.reserve(left.min(frame.len().max(ROOM_AHEAD)));
        }
        if r.read_buf(&mut (&mut frame).limit(left)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(frame.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_over_chunks() {
        let mut out = Outgoing::default();
        out.push(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")]);
        assert_eq!(out.remaining(), 5);
        out.advance(3);
        assert_eq!(out.chunk(), b"de");
        out.advance(2);
        assert!(!out.has_remaining() && out.chunk().is_empty());
    }

    #[tokio::test]
    async fn frames() {
        let mut wire: &[u8] = &[0, 0, 0, 2, 7, 8, 0, 0, 0, 0];
        assert_eq!(read_frame(&mut wire, 10).await.unwrap().unwrap(), &[7, 8][..]);
        assert_eq!(read_frame(&mut wire, 10).await.unwrap().unwrap(), &[][..]);
        assert!(read_frame(&mut wire, 10).await.unwrap().is_none());
        for hostile in [&[0x7f_u8, 0xff, 0xff, 0xff][..], &[0xff; 4], &[0, 0, 0, 9, 1]] {
            assert!(read_frame(&mut { hostile }, 10).await.is_err());
        }
    }
}
