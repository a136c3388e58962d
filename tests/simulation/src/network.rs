//! A connection in memory. Bytes arrive in order, in chunks of random sizes after random delays of virtual time; the space in
//! flight is bounded, as a socket's is.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use esker_broker::server::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rng::Rng;

/// Bytes that may be in flight in one direction.
const WINDOW: usize = 16 << 10;

#[derive(Debug)]
struct Direction {
    rng: Rng,
    flight: VecDeque<(Instant, VecDeque<u8>)>,
    bytes: usize,
    closed: bool,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn new(rng: Rng) -> Arc<Mutex<Self>> {
        let flight = VecDeque::new();
        Arc::new(Mutex::new(Self { rng, flight, bytes: 0, closed: false, timer: None, reader: None, writer: None }))
    }

    fn close(&mut self) {
        self.closed = true;
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// Ready when bytes have arrived, or the end.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((at, _)) = self.flight.front() else {
            self.reader = Some(cx.waker().clone());
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
    let (there, back) = (Direction::new(Rng::new(rng.next())), Direction::new(Rng::new(rng.next())));
    (End { input: Arc::clone(&back), output: Arc::clone(&there) }, End { input: there, output: back })
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
        if output.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW - output.bytes;
        if room == 0 {
            output.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = 1 + output.rng.below(2048);
        let chunk: VecDeque<u8> = bytes.iter().copied().take(room.min(most)).collect();
        let written = chunk.len();
        let slow = output.rng.chance(5);
        let delay = if slow { output.rng.between(0, 60) } else { output.rng.between(0, 2) };
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
        self.input.lock().unwrap().closed
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.output.lock().unwrap().close();
        self.input.lock().unwrap().close();
    }
}
