//! A raw client that gives up on a silent broker soon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use esker_benches::Result;
use esker_protocol::{Request, decode_response, encode_request};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(100);

/// A connection to one broker, opened with the first request and again after a failure.
pub struct Link {
    address: SocketAddr,
    answer: Duration,
    stream: Option<TcpStream>,
}

impl Link {
    /// To a broker whose answers may take `answer`.
    pub fn new(address: SocketAddr, answer: Duration) -> Self {
        Self { address, answer, stream: None }
    }

    /// Sends a request and waits for its answer. After a failure the next request opens a new connection.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, CONNECT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.answer))?;
                stream.set_write_timeout(Some(self.answer))?;
                stream
            }
        };
        stream.write_all(&encode_request(version, 0, Some("fail-over".into()), request)?.into_bytes())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        stream.read_exact(&mut frame)?;
        self.stream = Some(stream);
        Ok(decode_response::<R>(version, frame.into())?.1)
    }
}
