//! What a connection reads from and writes to: the one seam for TLS, or another kind of I/O, to fit in.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream in both directions. Writes are vectored where the stream can.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether a read would find something (or the end), so that a quiet connection needs no buffer to wait with.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}
