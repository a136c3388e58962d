//! One connection: one task that reads frames, dispatches them in order and sends the answers in the same order.
//!
//! Several requests may be in progress at once. The order of effects is fixed when a request is dispatched; a pending answer keeps its
//! place. A request that must wait before its order can be fixed blocks those behind it. A connection whose peer does not read its
//! answers, or has too many requests pending, is not read from any more: the peer slows down, memory does not grow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::RequestHeader;
use esker_protocol::primitives::Reader;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answers::Answers;
use super::close::CloseReason;
use super::frames::Frames;
use super::memory::{RequestMemory, Reservation};
use super::scope::ServerScope;
use super::service::{ConnectionInfo, Incoming, Outcome, Service};
use super::transport::Transport;
use crate::telemetry::{Arrival, ListenerMetrics, Metrics, OpenConnection};

/// Stands for "no idle limit".
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long requests in flight may take to finish when the broker stops.
const DRAIN: Duration = Duration::from_secs(1);
/// A connection that was quiet for so long drops its read buffer.
const REST_AFTER: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Connection<T, S> {
    transport: T,
    service: Arc<S>,
    metrics: Arc<Metrics>,
    listener: ListenerMetrics,
    /// Counts the connection as open.
    _open: OpenConnection,
    /// Requests that the listener has not counted yet.
    dispatched: u64,
    info: Arc<ConnectionInfo>,
    frames: Frames,
    answers: Answers,
    /// Memory for what is read and worked on.
    reservation: Reservation,
    /// When the request that is there in part had its memory.
    reserved: Option<Instant>,
    /// A request whose order is not fixed yet, and its size: none begins before.
    held: Option<(usize, BoxFuture<'static, Outcome>)>,
    max_idle: Duration,
    /// See [`super::Patience`].
    slow_request: Duration,
    /// When a byte last moved in either direction.
    moved: Instant,
    /// When bytes were last read.
    read: Instant,
    timer: Pin<Box<Sleep>>,
    /// Quiet, and without a buffer.
    resting: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
}

impl<S: Service> ServerScope<S> {
    /// Serves one connection over any transport until there is a reason to close it.
    pub fn serve_connection(
        &self,
        transport: impl Transport,
        info: Arc<ConnectionInfo>,
        stop: CancellationToken,
    ) -> impl Future<Output = CloseReason> + Send + 'static {
        Connection::new(transport, self, Arc::clone(&self.memory), info, stop).run()
    }
}

impl<T, S> Drop for Connection<T, S> {
    fn drop(&mut self) {
        let (requests, now) = (&self.metrics.requests, self.moved);
        self.answers.report_unsent(|answered, turn| requests.sent(answered, turn, now));
        self.listener.record_sent(0, std::mem::take(&mut self.dispatched));
    }
}

impl<T: Transport, S: Service> Connection<T, S> {
    pub(super) fn new(
        transport: T,
        scope: &ServerScope<S>,
        memory: Arc<RequestMemory>,
        info: Arc<ConnectionInfo>,
        stop: CancellationToken,
    ) -> Self {
        let max_idle = scope.limits.max_idle.unwrap_or(NEVER);
        let reservation = Reservation::new(memory);
        let listener = scope.metrics.network.listener(&info.listener);
        let now = Instant::now();
        Self {
            transport,
            service: Arc::clone(&scope.service),
            metrics: Arc::clone(&scope.metrics),
            _open: listener.record_open(),
            listener,
            dispatched: 0,
            info,
            frames: Frames::new(scope.limits),
            answers: Answers::default(),
            reservation,
            reserved: None,
            held: None,
            max_idle,
            slow_request: scope.limits.patience.slow_request,
            moved: now,
            read: now,
            timer: Box::pin(tokio::time::sleep(REST_AFTER.min(max_idle))),
            resting: false,
            stop: Box::pin(stop.cancelled_owned()),
            stopping: false,
        }
    }

    /// The connection begins with these bytes, which were read already.
    pub(super) fn begin_with(mut self, bytes: &[u8]) -> Self {
        self.listener.record_received(bytes.len());
        self.frames.begin_with(bytes);
        self
    }

    /// Serves until there is a reason to close.
    pub(super) async fn run(mut self) -> CloseReason {
        std::future::poll_fn(move |cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if !self.stopping && self.stop.as_mut().poll(cx).is_ready() {
            self.stopping = true;
            self.timer.as_mut().reset(Instant::now() + DRAIN);
        }
        loop {
            let dispatched = self.dispatch_all(cx);
            let collected = self.answers.poll_collect(cx);
            self.reservation.shrink(self.memory());
            if let Err(error) = self.send(cx) {
                return Poll::Ready(CloseReason::Io(error.kind()));
            }
            // Whatever was ready before a mistake has been sent, as far as the client took it.
            if let Err(reason) = collected.and(dispatched) {
                return Poll::Ready(reason);
            }
            if self.stopping {
                let over = self.is_idle() || self.timer.as_mut().poll(cx).is_ready();
                return if over { Poll::Ready(CloseReason::Stopping) } else { Poll::Pending };
            }
            if self.held.is_some() || !self.answers.has_room() {
                // Read on when there is room again: the client's reading, or an answer, wakes this task. A close is
                // behind bytes that are not read yet: the timer looks for it.
                if self.answers.is_working() && self.transport.is_closed_by_peer() {
                    self.answers.abandon();
                    continue;
                }
                self.reserved = None;
                break;
            }
            if self.frames.has_whole() {
                continue;
            }
            match self.frames.poll_ready(cx, &self.transport) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(CloseReason::Io(error.kind())),
                Poll::Pending => break,
            }
            if self.poll_reserve(cx).is_pending() {
                break;
            }
            match self.frames.poll_fill(cx, &mut self.transport) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.frames.at_end()),
                Poll::Ready(Ok(bytes)) => {
                    self.listener.record_received(bytes);
                    self.record_activity();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(CloseReason::Io(error.kind())),
                Poll::Pending => break,
            }
        }
        self.poll_timer(cx)
    }

    /// Bytes of complete requests without an answer.
    fn unanswered_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |(size, _)| *size) + self.answers.request_bytes()
    }

    /// Memory of these, and of the request that is read.
    fn memory(&self) -> usize {
        self.frames.memory().saturating_add(self.unanswered_bytes())
    }

    /// Ready when there is memory for the next read.
    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reservation.is_short() {
            self.frames.release_buffer();
        }
        let unanswered_bytes = self.unanswered_bytes();
        let all = self.frames.memory_to_read().saturating_add(unanswered_bytes);
        let reserved = self.reservation.poll_reserve(cx, unanswered_bytes, all);
        if reserved.is_pending() || !self.frames.has_part() {
            self.reserved = None;
        } else if self.reservation.is_held() {
            self.reserved.get_or_insert_with(Instant::now);
        }
        reserved
    }

    /// Sends as much as the client takes.
    fn send(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        let before = self.answers.out_bytes();
        let sent = self.answers.poll_send(cx, &mut self.transport);
        let bytes = before.saturating_sub(self.answers.out_bytes());
        if bytes > 0 {
            self.moved = Instant::now();
            self.listener.record_sent(bytes, std::mem::take(&mut self.dispatched));
            let (requests, now) = (&self.metrics.requests, self.moved);
            self.answers.report_sent(|answered, turn| requests.sent(answered, turn, now));
        }
        match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    /// Dispatches what is there, as far as there is room.
    fn dispatch_all(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            if let Some((size, held)) = &mut self.held {
                let size = *size;
                let Poll::Ready(outcome) = held.as_mut().poll(cx) else { return Ok(()) };
                self.held = None;
                self.keep_outcome(size, outcome)?;
                continue;
            }
            if self.stopping || !self.answers.has_room() {
                return Ok(());
            }
            let Some(frame) = self.frames.next()? else { return Ok(()) };
            self.dispatch(frame)?;
        }
    }

    fn keep_outcome(&mut self, size: usize, outcome: Outcome) -> Result<(), CloseReason> {
        match outcome {
            Outcome::Ready(reply) => self.answers.push_ready(reply),
            Outcome::Later(reply) => self.answers.push_pending(size, reply),
            Outcome::Parked(bytes, reply) => self.answers.push_pending(bytes.min(size), reply),
            Outcome::Held(rest) => self.held = Some((size, rest)),
            Outcome::Refused(reason) => return Err(reason),
        }
        Ok(())
    }

    /// Whether nothing is worked on and nothing left to be sent.
    fn is_idle(&self) -> bool {
        self.held.is_none() && self.answers.is_idle()
    }

    fn dispatch(&mut self, frame: Bytes) -> Result<(), CloseReason> {
        let size = frame.len();
        let arrival = Arrival { read: self.read, begun: Instant::now(), bytes: size };
        self.dispatched += 1;
        self.reserved = None;
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader).map_err(|error| CloseReason::Malformed(None, error))?;
        let incoming = Incoming { header, connection: Arc::clone(&self.info), arrival };
        let outcome = self.service.dispatch(incoming, &mut reader);
        self.frames.set_proven(self.info.is_proven());
        self.keep_outcome(size, outcome)
    }

    /// Closes what is idle. Requests that are still worked on keep a connection open; a peer that does not take its
    /// answers does not.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let quiet = self.moved.elapsed();
            let waits_for_us = !self.is_idle() && !self.answers.is_sending();
            if quiet >= self.max_idle && !waits_for_us {
                return Poll::Ready(CloseReason::Idle);
            }
            let is_late = self.reserved.is_some_and(|at| at.elapsed() >= self.slow_request);
            if is_late && self.frames.has_part() && self.reservation.is_short() {
                return Poll::Ready(CloseReason::SlowRequest);
            }
            if quiet >= REST_AFTER {
                self.frames.release_buffer();
                self.reservation.release_beyond(self.memory());
                self.resting = true;
            }
            let left = self.max_idle.checked_sub(quiet).filter(|left| !left.is_zero()).unwrap_or(self.max_idle);
            let looks_for_close = self.held.is_some() || !self.answers.has_room();
            let reads_part = self.frames.has_part();
            let next = if self.resting && !looks_for_close && !reads_part { left } else { left.min(REST_AFTER) };
            self.timer.as_mut().reset(Instant::now() + next);
        }
        Poll::Pending
    }

    /// Records that bytes arrived. The timer is only moved if it was set for an idle connection.
    fn record_activity(&mut self) {
        self.moved = Instant::now();
        self.read = self.moved;
        if self.resting {
            self.resting = false;
            self.timer.as_mut().reset(Instant::now() + REST_AFTER.min(self.max_idle));
        }
    }
}
