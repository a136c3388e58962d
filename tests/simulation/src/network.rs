//! A connection in memory. Bytes arrive in order, in chunks of random sizes after random delays of virtual time; the space in
//! flight is bounded, as a socket's is.
//!
//! A [`Gate`] is the link below all connections from one host to another. While it is shut, bytes wait and arrive later, as TCP's
//! retransmissions do; neither side notices.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use esker_broker::server::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rng::Rng;

/// Bytes that may be in flight in one direction.
const WINDOW: usize = 16 << 10;

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    slow_ms: i64,
    parked: Vec<Waker>,
}

/// A link in one direction. See the module.
#[derive(Debug, Default)]
pub struct Gate(Mutex<GateState>);

impl Gate {
    pub fn shut(&self) {
        self.0.lock().unwrap().shut = true;
    }

    pub fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.shut = false;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.into_iter().for_each(Waker::wake);
    }

    /// What each chunk takes longer.
    pub fn set_delay(&self, slow_ms: i64) {
        self.0.lock().unwrap().slow_ms = slow_ms;
    }

    pub fn is_shut(&self) -> bool {
        self.0.lock().unwrap().shut
    }

    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if !state.shut {
            return Poll::Ready(());
        }
        state.parked.push(cx.waker().clone());
        Poll::Pending
    }

    fn slow_ms(&self) -> i64 {
        self.0.lock().unwrap().slow_ms
    }
}

#[derive(Debug)]
struct Direction {
    gate: Arc<Gate>,
    /// The other host has lost power: nothing arrives any more, and neither side learns of it.
    silent: bool,
    /// What each chunk takes longer than on other connections over this link.
    slow_ms: i64,
    rng: Rng,
    flight: VecDeque<(Instant, VecDeque<u8>)>,
    bytes: usize,
    closed: bool,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn new(gate: Arc<Gate>, rng: Rng) -> Arc<Mutex<Self>> {
        let flight = VecDeque::new();
        let (silent, closed, bytes) = (false, false, 0);
        let (timer, reader, writer) = (None, None, None);
        let new = Self { gate, silent, slow_ms: 0, rng, flight, bytes, closed, timer, reader, writer };
        Arc::new(Mutex::new(new))
    }

    /// Whether the other side has closed the connection, and this side can know it.
    fn is_closed(&self) -> bool {
        self.closed && !self.silent && !self.gate.is_shut()
    }

    fn close(&mut self) {
        self.closed = true;
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// Ready when bytes have arrived, or the end.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader = Some(cx.waker().clone());
        if self.silent || self.gate.poll_open(cx).is_pending() {
            return Poll::Pending;
        }
        let Some((at, _)) = self.flight.front() else {
            return if self.closed { Poll::Ready(()) } else { Poll::Pending };
        };
        if *at <= Instant::now() {
            return Poll::Ready(());
        }
        let mut timer = Box::pin(sleep_until(*at));
        let arrived = timer.as_mut().poll(cx);
        self.timer = Some(timer);
        arrived
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    input: Arc<Mutex<Direction>>,
    output: Arc<Mutex<Direction>>,
}

/// A connection; its two ends.
pub fn connection(rng: &mut Rng) -> (End, End) {
    connection_over(rng, Arc::default(), Arc::default())
}

/// A handle for what happens to a connection from outside.
#[derive(Debug)]
pub struct Cable([Weak<Mutex<Direction>>; 2]);

impl Cable {
    /// Both ends are gone.
    pub fn is_gone(&self) -> bool {
        self.0.iter().all(|direction| direction.strong_count() == 0)
    }

    fn update(&self, update: impl Fn(&mut Direction)) {
        for direction in self.0.iter().filter_map(Weak::upgrade) {
            update(&mut direction.lock().unwrap());
        }
    }

    /// Nothing arrives any more.
    pub fn silence(&self) {
        self.update(|direction| direction.silent = true);
    }

    /// What each chunk takes longer from now on than on other connections over its link.
    pub fn set_delay(&self, slow_ms: i64) {
        self.update(|direction| direction.slow_ms = slow_ms);
    }

    /// Both sides learn that the connection has ended; bytes in flight are lost.
    pub fn reset(&self) {
        self.update(|direction| {
            direction.silent = false;
            direction.flight.clear();
            direction.close();
        });
    }
}

/// A connection over links that may fail; its two ends.
pub fn connection_over(rng: &mut Rng, there: Arc<Gate>, back: Arc<Gate>) -> (End, End) {
    let there = Direction::new(there, Rng::new(rng.next()));
    let back = Direction::new(back, Rng::new(rng.next()));
    (End { input: Arc::clone(&back), output: Arc::clone(&there) }, End { input: there, output: back })
}

impl End {
    pub fn cable(&self) -> Cable {
        Cable([Arc::downgrade(&self.input), Arc::downgrade(&self.output)])
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut input = self.input.lock().unwrap();
        if input.poll_arrived(cx).is_pending() {
            return Poll::Pending;
        }
        let most = 1 + input.rng.below(4096);
        if let Some((_, chunk)) = input.flight.front_mut() {
            let taken: Vec<u8> = chunk.drain(..chunk.len().min(most).min(buf.remaining())).collect();
            if chunk.is_empty() {
                input.flight.pop_front();
            }
            buf.put_slice(&taken);
            input.bytes -= taken.len();
            input.writer.take().into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut output = self.output.lock().unwrap();
        if output.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(output.bytes);
        if room == 0 {
            output.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = 1 + output.rng.below(2048);
        let chunk: VecDeque<u8> = bytes.iter().copied().take(room.min(most)).collect();
        let written = chunk.len();
        let slow = output.rng.chance(5);
        let delay = if slow { output.rng.between(0, 60) } else { output.rng.between(0, 2) };
        let delay = delay + output.gate.slow_ms() + output.slow_ms;
        let arrives = Instant::now() + Duration::from_millis(delay as u64);
        let arrives = output.flight.back().map_or(arrives, |(last, _)| arrives.max(*last));
        output.flight.push_back((arrives, chunk));
        output.bytes += written;
        output.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.lock().unwrap().close();
        Poll::Ready(Ok(()))
    }
}

impl Transport for End {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.lock().unwrap().poll_arrived(cx).map(Ok)
    }

    fn is_closed_by_peer(&self) -> bool {
        self.input.lock().unwrap().is_closed()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.output.lock().unwrap().close();
        self.input.lock().unwrap().close();
    }
}
