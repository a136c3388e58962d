//! Answers in the order of their requests: every request takes a place when it is dispatched, and what is ready at the
//! front goes out in one vectored write. Chunks are handed to the socket as they are; nothing is copied.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use tokio::time::Instant;

use super::close::CloseReason;
use super::transport::Transport;
use crate::telemetry::Answered;
use esker_protocol::primitives::Chunks;

/// Requests of one connection that may be worked on at once.
pub(super) const MAX_REQUESTS: usize = 256;
/// Bytes of requests and answers that one connection may hold; a single larger one is let through when it is alone.
pub(super) const MAX_BYTES: usize = 32 << 20;
/// Record sets of at least so many bytes go from their file to the socket (`sendfile`): no copy on this side, and no page to
/// be mapped. Smaller ones share one vectored write.
const SEND_FILE_FROM: usize = 32 << 10;
/// After so many bytes from files the connection yields to other tasks: the kernel copies until the socket's buffer is full, some
/// hundred microseconds' worth, and no other task of this worker runs meanwhile.
const TURN: usize = 256 << 10;
/// Chunks in one write.
const MAX_SLICES: usize = 128;
/// The kernel could not read the pages of a chunk (EFAULT, EIO): its file was cut by another process, or the disk failed.
const UNREADABLE: [i32; 2] = [14, 5];

/// What the answer to one request became.
pub enum Reply {
    /// To be written; with the times of its request, if that is measured.
    Frame(Chunks, Option<Answered>),
    /// The client expects none.
    Nothing,
    /// The connection ends.
    Close(CloseReason),
}

/// A request's place.
struct Place {
    request_bytes: usize,
    answer: Option<Reply>,
}

type PendingAnswer = Pin<Box<dyn Future<Output = (u64, Reply)> + Send>>;

/// See the module.
#[derive(Default)]
pub(super) struct Answers {
    places: VecDeque<Place>,
    /// The number of the place at the front.
    front: u64,
    later: FuturesUnordered<PendingAnswer>,
    out: VecDeque<Bytes>,
    /// Bytes of requests and answers whose places are taken, and of `out`.
    held: usize,
    out_bytes: usize,
    /// Bytes of requests alone.
    request_bytes: usize,
    /// Answers in `out` whose sending is measured.
    sending: VecDeque<Sending>,
    /// Bytes that have come to `out`, and that have left it.
    queued_up_to: u64,
    sent_up_to: u64,
    /// When the last of the answers so far was ready: then those behind it had their turn.
    turn: Option<Instant>,
}

/// An answer on its way to the kernel.
#[derive(Debug, Clone, Copy)]
struct Sending {
    /// In the bytes of the connection.
    end: u64,
    answered: Answered,
    /// When all answers before it were ready, and it too.
    turn: Instant,
}

impl Answers {
    /// Whether another request may be dispatched.
    pub(super) fn has_room(&self) -> bool {
        self.places.len() < MAX_REQUESTS && (self.held == 0 || self.held < MAX_BYTES)
    }

    /// Whether no request is pending and nothing is left to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.places.is_empty() && self.out.is_empty()
    }

    /// Whether answers are still to come.
    pub(super) fn is_working(&self) -> bool {
        !self.later.is_empty()
    }

    /// Whether bytes wait for the peer to take them.
    pub(super) fn is_sending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes the next place for an answer that is there.
    pub(super) fn push_ready(&mut self, answer: Reply) {
        if let Reply::Frame(chunks, _) = &answer {
            self.held += chunks.len();
        }
        self.places.push_back(Place { request_bytes: 0, answer: Some(answer) });
    }

    /// Takes the next place for an answer that comes later.
    pub(super) fn push_pending(&mut self, request_bytes: usize, answer: BoxFuture<'static, Reply>) {
        let place = self.front + self.places.len() as u64;
        self.held += request_bytes;
        self.request_bytes += request_bytes;
        self.places.push_back(Place { request_bytes, answer: None });
        self.later.push(Box::pin(async move { (place, answer.await) }));
    }

    /// The peer is gone: drops the requests that are still worked on, so that they wait for nothing any more.
    pub(super) fn abandon(&mut self) {
        self.later.clear();
        for place in self.places.iter_mut().filter(|place| place.answer.is_none()) {
            place.answer = Some(Reply::Nothing);
        }
    }

    /// Polls the pending answers, and moves those that are ready at the front to the output queue. An answer that ends the connection
    /// is an error; the answers before it are still sent.
    pub(super) fn poll_collect(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        while !self.later.is_empty() {
            let Poll::Ready(Some((number, answer))) = Pin::new(&mut self.later).poll_next(cx) else { break };
            let at = usize::try_from(number.saturating_sub(self.front)).unwrap_or(usize::MAX);
            if let Some(place) = self.places.get_mut(at) {
                if let Reply::Frame(chunks, _) = &answer {
                    self.held += chunks.len();
                }
                place.answer = Some(answer);
            }
        }
        while self.places.front().is_some_and(|place| place.answer.is_some()) {
            let Some(Place { request_bytes, answer: Some(answer) }) = self.places.pop_front() else { break };
            self.front += 1;
            self.held = self.held.saturating_sub(request_bytes);
            self.request_bytes = self.request_bytes.saturating_sub(request_bytes);
            match answer {
                Reply::Frame(chunks, answered) => {
                    self.out_bytes += chunks.len();
                    self.queued_up_to += chunks.len() as u64;
                    if let Some(answered) = answered {
                        self.begin_sending(answered);
                    }
                    self.out.extend(chunks.into_parts().into_iter().filter(|part| !part.is_empty()));
                }
                Reply::Nothing => {}
                Reply::Close(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    fn begin_sending(&mut self, answered: Answered) {
        let turn = self.turn.map_or(answered.ready, |turn| turn.max(answered.ready));
        self.turn = Some(turn);
        self.sending.push_back(Sending { end: self.queued_up_to, answered, turn });
    }

    /// Reports the answers that the kernel has whole; each with the time of its turn.
    pub(super) fn report_sent(&mut self, mut report: impl FnMut(Answered, Instant)) {
        while let Some(sending) = self.sending.pop_front_if(|sending| sending.end <= self.sent_up_to) {
            report(sending.answered, sending.turn);
        }
    }

    /// Reports the answers that will not be sent any more: the connection ends.
    pub(super) fn report_unsent(&mut self, mut report: impl FnMut(Answered, Instant)) {
        for sending in self.sending.drain(..) {
            report(sending.answered, sending.turn);
        }
        for place in self.places.drain(..) {
            if let Some(Reply::Frame(_, Some(answered))) = place.answer {
                report(answered, answered.ready);
            }
        }
    }

    /// Writes until nothing is left or the client takes no more.
    pub(super) fn poll_send<T: Transport>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<io::Result<()>> {
        let mut left = TURN;
        while !self.out.is_empty() {
            if let Some((file, offset, len)) = self.file_at_front::<T>() {
                if left == 0 {
                    return pin!(tokio::task::yield_now()).poll(cx).map(Ok);
                }
                match ready!(to.poll_send_file(cx, &file, offset, len.min(left))) {
                    Ok(written) if written > 0 => {
                        self.remove_sent(written);
                        left = left.saturating_sub(written);
                    }
                    sent => return Poll::Ready(Err(self.send_error(sent))),
                }
                continue;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.out) {
                if T::SENDS_FILES && count > 0 && chunk.len() >= SEND_FILE_FROM {
                    break;
                }
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            if slices.iter().any(|slice| esker_storage::is_damaged(slice)) {
                // What its map shows now is not what the file had.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            match ready!(Pin::new(&mut *to).poll_write_vectored(cx, slices)) {
                Ok(written) if written > 0 => self.remove_sent(written),
                sent => return Poll::Ready(Err(self.send_error(sent))),
            }
        }
        Pin::new(to).poll_flush(cx)
    }

    /// Why nothing was sent. The connection ends; the next fetch must be refused where a file is at fault, so its pages are touched.
    fn send_error(&self, sent: io::Result<usize>) -> io::Error {
        let error = sent.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
        let unreadable = error.raw_os_error().is_some_and(|code| UNREADABLE.contains(&code));
        if unreadable || error.kind() == io::ErrorKind::WriteZero {
            self.out.iter().take(MAX_SLICES).for_each(|chunk| {
                esker_storage::verify_slice(chunk);
            });
        }
        error
    }

    /// The file and place that the first chunk is mapped from, if it is worth a call of its own.
    fn file_at_front<T: Transport>(&self) -> Option<(Arc<File>, u64, usize)> {
        let chunk = self.out.front().filter(|chunk| T::SENDS_FILES && chunk.len() >= SEND_FILE_FROM)?;
        let (file, offset) = esker_storage::file_of(chunk)?;
        Some((file, offset, chunk.len()))
    }

    fn remove_sent(&mut self, mut written: usize) {
        self.held = self.held.saturating_sub(written);
        self.out_bytes = self.out_bytes.saturating_sub(written);
        self.sent_up_to += written as u64;
        while let Some(chunk) = self.out.front_mut() {
            if written < chunk.len() {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
            self.out.pop_front();
        }
    }

    /// Bytes of requests that are not answered yet.
    pub(super) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Bytes that wait to be sent.
    pub(super) fn out_bytes(&self) -> usize {
        self.out_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use esker_protocol::compression::Compression;
    use esker_protocol::records::{Batch, BatchBuilder};
    use esker_storage::{AppendBatch, LogConfig, LogManager, LogManagerConfig, Origin, Uuid};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// Takes all that it is given.
    struct Socket;

    impl AsyncRead for Socket {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Socket {
        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        const SENDS_FILES: bool = true;
        fn poll_send_file(&self, _: &mut Context<'_>, _: &File, _: u64, len: usize) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(len))
        }
    }

    fn open_logs(dir: &std::path::Path) -> LogManager {
        let config = LogManagerConfig {
            dirs: vec![dir.to_path_buf()],
            node_id: 1,
            cluster_id: None,
            load_threads: 1,
            journal_bytes: 0,
            journal_dirs: Vec::new(),
            default_config: LogConfig::default(),
            progress: Arc::default(),
        };
        LogManager::open(config, 0).unwrap()
    }

    fn append(log: &esker_storage::Log, value: usize) {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(0, 0, None, Some(&vec![7; value]), &[]);
        let (batch, _) = Batch::parse(builder.build().unwrap()).unwrap();
        let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
        log.append(append, Origin::Client { transaction_v2: false }, 0, 0).unwrap();
    }

    /// Sends `records` by `sendfile` or `writev`, as its size says, after the file was cut behind the first page.
    #[tokio::test]
    async fn a_chunk_of_a_file_that_was_cut_ends_the_connection_and_the_next_read_is_refused() {
        for (value, seen_before) in [(20_000, false), (600_000, false), (20_000, true)] {
            let dir = tempfile::tempdir().unwrap();
            let logs = open_logs(dir.path());
            let log = logs.create("t", 0, Uuid([1; 16]), LogConfig::default(), 0).unwrap();
            append(&log, value);
            let records = log.read(0, 1 << 20, i64::MAX, true).unwrap().records;
            let path = log.dir().join("00000000000000000000.log");
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
            if seen_before {
                // Another reader has hit the fault: the map shows zeros from there on.
                assert!(esker_storage::verify_slice(&records));
            }

            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (mut socket, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
            let received = tokio::spawn(async move {
                let mut received = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut accepted.unwrap().0, &mut received).await;
                received
            });
            let mut answers = Answers { out_bytes: records.len(), ..Answers::default() };
            answers.out.push_back(records);
            let socket = socket.as_mut().unwrap();
            assert!(poll_fn(|cx| answers.poll_send(cx, socket)).await.is_err(), "{value} {seen_before}");
            drop((answers, std::mem::replace(socket, tokio::net::TcpStream::connect(address).await.unwrap())));
            let received = received.await.unwrap();
            assert!(received.len() <= 4096, "{} bytes of {value}, {seen_before}", received.len());
            assert!(received.iter().skip(100).all(|byte| *byte == 7), "no zeros");
            let again = log.read(0, 1 << 20, i64::MAX, true);
            assert!(matches!(again, Err(esker_storage::ReadError::Corrupt { .. })), "{value} {seen_before}");
        }
    }

    #[tokio::test]
    async fn others_have_their_turn_while_a_large_answer_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let logs = open_logs(dir.path());
        let log = logs.create("t", 0, Uuid([1; 16]), LogConfig::default(), 0).unwrap();
        append(&log, 600_000);
        let records = log.read(0, 1 << 20, i64::MAX, true).unwrap().records;
        let all = records.len();

        let mut answers = Answers { out_bytes: all, ..Answers::default() };
        answers.out.push_back(records);
        let mut left = Vec::new();
        poll_fn(|cx| {
            let sent = answers.poll_send(cx, &mut Socket);
            left.push(answers.out_bytes());
            sent
        })
        .await
        .unwrap();
        assert_eq!(left, [all - TURN, all - 2 * TURN, 0]);
    }
}
