//! One connection, one task: frames in, answers out in request order.
//!
//! Stage one of a request runs here, in order. An answer that is ready goes straight to the outbox; one that waits keeps
//! its place in a queue, and reading goes on meanwhile, up to a bound of requests and bytes in flight (then the socket
//! fills and the client slows down). Answers that are ready together leave in one vectored write; record sets in them are
//! shared slices of mapped segments and are not copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use esker_protocol::RequestHeader;
use esker_protocol::api::ApiKey;
use esker_protocol::primitives::{Chunks, Reader};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ConnectionInfo;
use super::close::CloseReason;
use super::frames::FrameReader;
use crate::broker::Broker;
use crate::handlers::{self, Outcome, RequestContext};

/// Requests of one connection that may wait for their answer at once.
const MAX_IN_FLIGHT: usize = 64;
/// Bytes of answers that may wait to be written before reading pauses.
const MAX_OUTBOX: usize = 64 << 20;
/// Slices in one vectored write.
const MAX_SLICES: usize = 64;

/// What the answer to one request became.
pub enum Reply {
    /// To be written.
    Frame(Chunks),
    /// The client expects none.
    Nothing,
    /// The connection ends.
    Close(CloseReason),
}

/// Serves one connection until either side ends it.
pub async fn serve<R, W>(
    broker: Arc<Broker>,
    info: Arc<ConnectionInfo>,
    reader: R,
    writer: W,
    stop: CancellationToken,
) -> CloseReason
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let max_idle = broker.config.connections_max_idle;
    let mut connection = Connection {
        frames: FrameReader::new(broker.config.socket_request_max_bytes),
        broker,
        info,
        waiting: FuturesOrdered::new(),
        outbox: Outbox::default(),
        closing: None,
    };
    connection.run(reader, writer, max_idle, stop).await
}

struct Connection {
    broker: Arc<Broker>,
    info: Arc<ConnectionInfo>,
    frames: FrameReader,
    waiting: FuturesOrdered<BoxFuture<'static, Reply>>,
    outbox: Outbox,
    /// No more requests are taken; what is owed is still written.
    closing: Option<CloseReason>,
}

impl Connection {
    async fn run<R, W>(
        &mut self,
        mut reader: R,
        mut writer: W,
        max_idle: Option<Duration>,
        stop: CancellationToken,
    ) -> CloseReason
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut active = Instant::now();
        let idle = sleep_until(active + max_idle.unwrap_or(NEVER));
        let stopping = stop.cancelled();
        tokio::pin!(idle, stopping);
        loop {
            self.dispatch_buffered();
            if let Some(reason) = self.closing.take_if(|_| self.waiting.is_empty() && self.outbox.is_empty()) {
                return reason;
            }
            let reads = self.closing.is_none() && !self.is_full();
            tokio::select! {
                biased;
                written = self.outbox.write(&mut writer), if !self.outbox.is_empty() => match written {
                    Ok(bytes) => {
                        active = Instant::now();
                        self.broker.metrics.network.sent(bytes);
                    }
                    Err(error) => return CloseReason::Io(error.kind()),
                },
                Some(reply) = self.waiting.next(), if !self.waiting.is_empty() => self.take(reply),
                read = self.frames.fill(&mut reader), if reads => match read {
                    Ok(0) if self.frames.partial() > 0 => return CloseReason::HalfRequest,
                    Ok(0) => return CloseReason::ByClient,
                    Ok(bytes) => {
                        active = Instant::now();
                        self.broker.metrics.network.received(bytes);
                    }
                    Err(error) => return CloseReason::Io(error.kind()),
                },
                () = idle.as_mut() => {
                    if let Some(reason) = self.idle_for(&mut active, max_idle, idle.as_mut()) {
                        return reason;
                    }
                }
                () = stopping.as_mut() => return CloseReason::Stopping,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_IN_FLIGHT || self.outbox.len > MAX_OUTBOX
    }

    /// The idle timer went off: really idle, or only set long ago?
    fn idle_for(
        &self,
        active: &mut Instant,
        max_idle: Option<Duration>,
        timer: Pin<&mut Sleep>,
    ) -> Option<CloseReason> {
        let now = Instant::now();
        let limit = max_idle.unwrap_or(NEVER);
        if !self.waiting.is_empty() {
            *active = now;
        }
        if now.duration_since(*active) >= limit {
            return Some(CloseReason::Idle);
        }
        timer.reset(*active + limit);
        None
    }

    /// Stage one of every request that has been read, in order.
    fn dispatch_buffered(&mut self) {
        while self.closing.is_none() && !self.is_full() {
            match self.frames.next_buffered() {
                Ok(Some(frame)) => self.dispatch(frame),
                Ok(None) => return,
                Err(error) => self.closing = Some(CloseReason::Frame(error)),
            }
        }
    }

    fn dispatch(&mut self, frame: Bytes) {
        let received = std::time::Instant::now();
        let mut reader = Reader::new(frame);
        let header = match RequestHeader::decode(&mut reader) {
            Ok(header) => header,
            Err(error) => return self.closing = Some(CloseReason::Malformed(None, error)),
        };
        let api: ApiKey = header.api_key;
        let ctx = RequestContext {
            broker: Arc::clone(&self.broker),
            connection: Arc::clone(&self.info),
            client_id: header.client_id.clone(),
            api_version: header.api_version,
            received,
        };
        match handlers::dispatch(ctx, &header, &mut reader) {
            Outcome::Ready(reply) if self.waiting.is_empty() => self.take(reply),
            Outcome::Ready(reply) => self.waiting.push_back(std::future::ready(reply).boxed()),
            Outcome::Later(reply) => self.waiting.push_back(reply),
            Outcome::Refused(reason) => {
                tracing::debug!(%api, peer = %self.info.peer, %reason, "request refused");
                self.closing = Some(reason);
            }
        }
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Frame(chunks) => self.outbox.push(chunks),
            Reply::Nothing => {}
            Reply::Close(reason) => self.closing = Some(reason),
        }
    }
}

/// Stands for "no idle limit".
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Answers on their way out.
#[derive(Default)]
struct Outbox {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn push(&mut self, chunks: Chunks) {
        self.len += chunks.len();
        self.parts.extend(chunks.into_parts());
    }

    /// One vectored write of as much as the socket takes. Nothing is lost if the future is dropped.
    async fn write<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.parts.len().min(MAX_SLICES);
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        let written = writer.write_vectored(slices.get(..count).unwrap_or_default()).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.len = self.len.saturating_sub(written);
        let mut left = written;
        while left > 0 {
            let Some(front) = self.parts.front_mut() else { break };
            if front.len() > left {
                front.advance(left);
                break;
            }
            left -= front.len();
            self.parts.pop_front();
        }
        while self.parts.front().is_some_and(Bytes::is_empty) {
            self.parts.pop_front();
        }
        Ok(written)
    }
}
