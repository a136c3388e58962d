//! A connection to another node that counts its bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::node::Stream;
use crate::telemetry::PeerMetrics;

/// See the module.
pub(super) struct Counted {
    stream: Box<dyn Stream>,
    metrics: Option<Arc<PeerMetrics>>,
}

impl Counted {
    /// Counts where there are metrics: whose address it is may not be known yet.
    pub(super) fn new(stream: Box<dyn Stream>, metrics: Option<&Arc<PeerMetrics>>) -> Self {
        Self { stream, metrics: metrics.map(Arc::clone) }
    }

    fn record_sent(&self, sent: &Poll<io::Result<usize>>) {
        if let (Some(metrics), Poll::Ready(Ok(bytes))) = (&self.metrics, sent) {
            metrics.record_sent(*bytes);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(metrics) = &self.metrics {
            metrics.record_received(buffer.filled().len().saturating_sub(before));
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record_sent(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.record_sent(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
