//! A connection that costs little: frames out as they are, answers in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::{Request, decode_response, encode_request};

use crate::Result;

/// A connection to a broker.
pub struct Connection {
    stream: TcpStream,
    /// Kept from answer to answer: a large fetch should not cost new pages each time.
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a whole frame, length included.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frame)?)
    }

    /// Receives one answer and hands it to `read`, without the length.
    pub fn receive<T>(&mut self, read: impl FnOnce(Bytes) -> Result<T>) -> Result<T> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let room = self.buffer.get_mut(..length).unwrap_or_default();
        self.stream.read_exact(room)?;
        let whole = Bytes::from(std::mem::take(&mut self.buffer));
        let result = read(whole.slice(..length));
        // `read` has let go of its slices by now, so the buffer comes back.
        if let Ok(buffer) = whole.try_into_mut() {
            self.buffer = buffer.into();
        }
        result
    }

    /// Asks, and waits for the answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let frame = encode_request(version, 0, Some("head-to-head".into()), request)?.into_bytes();
        self.send(&frame)?;
        self.receive(|frame| Ok(decode_response::<R>(version, frame)?.1))
    }
}
