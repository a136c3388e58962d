//! What a connection reads from and writes to: the one seam for TLS, or another kind of I/O, to fit in.

use std::fs::File;
use std::io;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// A byte stream in both directions. Writes are vectored where the stream can.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether a read would find something (or the end), so that a quiet connection needs no buffer to wait with.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the peer has closed its side, as far as the system has seen. Bytes that it sent before may still be there to
    /// be read.
    fn is_closed_by_peer(&self) -> bool {
        false
    }

    /// Whether [`Transport::poll_send_file`] works: bytes are sent as they are in the file.
    const SENDS_FILES: bool = false;

    /// Sends up to `len` bytes of `file` from `offset`; returns how many.
    fn poll_send_file(&self, _: &mut Context<'_>, _: &File, _: u64, _: usize) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn is_closed_by_peer(&self) -> bool {
        self.ready(Interest::READABLE).now_or_never().is_some_and(|state| state.map_or(true, |s| s.is_read_closed()))
    }

    const SENDS_FILES: bool = cfg!(target_os = "linux");

    #[cfg(target_os = "linux")]
    fn poll_send_file(&self, cx: &mut Context<'_>, file: &File, offset: u64, len: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            let sent = self.try_io(Interest::WRITABLE, || {
                let mut at = offset;
                loop {
                    match rustix::fs::sendfile(self, file, Some(&mut at), len) {
                        Err(Errno::INTR) => {}
                        sent => return sent.map_err(io::Error::from),
                    }
                }
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}
