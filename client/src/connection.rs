//! One connection: a task that writes requests in order and delivers responses as they arrive.
//!
//! Kafka answers in the order of the requests, so the waiting ones are a queue; a correlation id that does not match ends the
//! connection. Reading and writing go on at the same time within the task: a broker that stops reading because its own
//! answers are not taken can never block both sides.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use async_recursion::async_recursion as boxed;
use bytes::Bytes;
use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use esker_protocol::primitives::{Reader, Str};
use esker_protocol::{Message, Request, decode_response, encode_request};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::ClientConfig;
use crate::error::ConnectionError;
use crate::wire::{Outgoing, read_frame};

/// Requests written with one system call at most.
const WRITE_TOGETHER: usize = 16;
/// The version of the first ApiVersions request: it names the cluster and the node that are meant (KIP-1242).
const API_VERSIONS: i16 = 5;

/// What is to be reached at an address: another broker may listen there by now (KIP-1242). `None`: any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meant {
    /// The cluster's id.
    pub(crate) cluster: Option<Str>,
    /// The broker's node id.
    pub(crate) node: Option<i32>,
}

type Reply = oneshot::Sender<Result<Bytes, ConnectionError>>;

struct Call {
    correlation: i32,
    parts: Vec<Bytes>,
    /// `None`: the broker sends no answer (produce with acks 0).
    reply: Option<Reply>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    closed: AtomicBool,
    /// No handle is left: end when the last answer is there.
    draining: AtomicBool,
    reason: Mutex<Option<String>>,
    stop: Notify,
    ended: Notify,
    waiting: Mutex<VecDeque<(i32, Reply)>>,
}

impl Shared {
    fn lost_error(&self) -> ConnectionError {
        let reason = self.reason.lock().clone().unwrap_or_else(|| "it was closed".to_owned());
        ConnectionError::Lost { address: self.address.clone(), reason }
    }

    fn fail(&self, reason: String) {
        self.reason.lock().get_or_insert(reason);
        self.closed.store(true, Ordering::Release);
        self.stop.notify_one();
        self.ended.notify_waiters();
    }
}

/// A handle on a connection. The connection ends when the last handle is gone and the last answer has come.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    calls: mpsc::Sender<Call>,
    correlation: AtomicI32,
    permits: Arc<Semaphore>,
    client_id: Str,
    request_timeout: Duration,
    versions: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects to what is meant, and requests the versions that the broker serves.
    pub(crate) async fn open(address: &str, config: &ClientConfig, meant: &Meant) -> Result<Self, ConnectionError> {
        let connect = |reason: String| ConnectionError::Connect { address: address.to_owned(), reason };
        let opened = timeout(config.connect_timeout, async {
            let stream = TcpStream::connect(address).await.map_err(|error| connect(error.to_string()))?;
            stream.set_nodelay(true).map_err(|error| connect(error.to_string()))?;
            let (reader, writer) = stream.into_split();
            let mut connection = Self::over(reader, writer, address, config);
            connection.versions = connection.request_versions(meant).await?;
            Ok(connection)
        });
        opened.await.map_err(|_| connect(format!("no answer within {:?}", config.connect_timeout)))?
    }

    /// A connection over a byte stream that stands already. No version is negotiated: the caller knows what the other side serves.
    /// `address` is for messages. Needs a runtime.
    pub fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        address: &str,
        config: &ClientConfig,
    ) -> Self {
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            closed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reason: Mutex::new(None),
            stop: Notify::new(),
            ended: Notify::new(),
            waiting: Mutex::new(VecDeque::new()),
        });
        let (calls, queue) = mpsc::channel(config.max_in_flight.max(1));
        tokio::spawn(run((reader, writer), queue, Arc::clone(&shared), config.max_response_bytes));
        Self {
            shared,
            calls,
            correlation: AtomicI32::new(0),
            permits: Arc::new(Semaphore::new(config.max_in_flight.max(1))),
            client_id: Str::copy(&config.client_id),
            request_timeout: config.request_timeout,
            versions: HashMap::new(),
        }
    }

    async fn request_versions(&self, meant: &Meant) -> Result<HashMap<i16, (i16, i16)>, ConnectionError> {
        let mut version = API_VERSIONS;
        loop {
            let request = ApiVersionsRequest {
                client_software_name: "esker".into(),
                client_software_version: env!("CARGO_PKG_VERSION").into(),
                cluster_id: meant.cluster.clone(),
                node_id: meant.node.unwrap_or(-1),
            };
            let answer = self.push(&|correlation| self.encode(version, correlation, &request))?;
            let frame = answer.await.map_err(|_| self.shared.lost_error())??;
            let response = self.read_versions(version, frame)?;
            let ranges: HashMap<_, _> =
                response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
            if response.error_code == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
                // An older broker names its own range in the answer; a very old one names nothing.
                version = ranges.get(&ApiKey::API_VERSIONS.0).map_or(0, |range| range.1.clamp(0, version - 1));
                continue;
            }
            if response.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
                return Err(ConnectionError::Misrouted { address: self.shared.address.clone() });
            }
            if response.error_code.is_error() {
                let reason = format!("it answered the version check with {}", response.error_code);
                return Err(ConnectionError::Connect { address: self.shared.address.clone(), reason });
            }
            return Ok(ranges);
        }
    }

    /// A broker that lacks the requested version answers in version 0 (KIP-511).
    fn read_versions(&self, version: i16, frame: Bytes) -> Result<ApiVersionsResponse, ConnectionError> {
        let mut peek = Reader::new(frame.clone());
        let unsupported = peek.i32().is_ok() && peek.i16() == Ok(ErrorCode::UNSUPPORTED_VERSION.0);
        let version = if unsupported { 0 } else { version };
        let decoded = decode_response::<ApiVersionsRequest>(version, frame);
        decoded.map(|(_, response)| response).map_err(|source| self.decode_error::<ApiVersionsRequest>(source))
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire)
    }

    /// Waits until it has ended, and returns why.
    pub async fn closed(&self) -> ConnectionError {
        let ended = self.shared.ended.notified();
        let mut ended = std::pin::pin!(ended);
        // Registered before the look: an end in between is not missed.
        ended.as_mut().enable();
        if self.is_open() {
            ended.await;
        }
        self.shared.lost_error()
    }

    /// The ranges of versions that the broker serves, by API key.
    pub(crate) fn versions(&self) -> &HashMap<i16, (i16, i16)> {
        &self.versions
    }

    /// The newest version of `R` that both sides know, `most` at most.
    pub(crate) fn version<R: Request>(&self, most: i16) -> Result<i16, ConnectionError> {
        let unsupported = || ConnectionError::Unsupported { address: self.shared.address.clone(), api: R::KEY.name() };
        let (first, last) = *self.versions.get(&R::KEY.0).ok_or_else(unsupported)?;
        let version = last.min(*R::VERSIONS.end()).min(most);
        if version >= first && version >= *R::VERSIONS.start() { Ok(version) } else { Err(unsupported()) }
    }

    /// Sends a request and waits for its answer. Waits first while too many are in flight.
    pub async fn request<R: Request>(
        &self,
        version: i16,
        request: &R,
        patience: Option<Duration>,
    ) -> Result<R::Response, ConnectionError> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.acquire().await?,
        };
        let mut pending = self.start(version, request, patience)?;
        pending.frame.permit = Some(permit);
        pending.wait().await
    }

    // What does not depend on the request has functions of its own, and is boxed where it waits: it is compiled once, not once for each
    // API and in each crate that sends it.
    #[boxed]
    async fn acquire(&self) -> Result<OwnedSemaphorePermit, ConnectionError> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| self.shared.lost_error())
    }

    /// Puts a request on its way at once, so that calls made one after the other arrive in that order.
    pub fn start<R: Request>(
        &self,
        version: i16,
        request: &R,
        patience: Option<Duration>,
    ) -> Result<Pending<R>, ConnectionError> {
        let answer = self.push(&|correlation| self.encode(version, correlation, request))?;
        let frame = self.expect_answer(answer, R::KEY.name(), patience);
        Ok(Pending { frame, version, api: PhantomData })
    }

    fn expect_answer(
        &self,
        answer: oneshot::Receiver<Result<Bytes, ConnectionError>>,
        api: &'static str,
        patience: Option<Duration>,
    ) -> PendingFrame {
        let after = patience.unwrap_or(self.request_timeout);
        let deadline = Instant::now() + after;
        PendingFrame { shared: Arc::clone(&self.shared), answer, api, after, deadline, permit: None }
    }

    /// Sends a request that gets no answer (produce with acks 0).
    pub(crate) fn send<R: Request>(&self, version: i16, request: &R) -> Result<(), ConnectionError> {
        let correlation = self.next_correlation();
        self.queue(Call { correlation, parts: self.encode(version, correlation, request)?, reply: None })
    }

    fn next_correlation(&self) -> i32 {
        self.correlation.fetch_add(1, Ordering::Relaxed)
    }

    fn encode<R: Request>(&self, version: i16, correlation: i32, request: &R) -> Result<Vec<Bytes>, ConnectionError> {
        let chunks = encode_request(version, correlation, Some(self.client_id.clone()), request).map_err(|source| {
            ConnectionError::Encode { address: self.shared.address.clone(), api: R::KEY.name(), source }
        })?;
        Ok(chunks.into_parts())
    }

    fn push(
        &self,
        encode: &dyn Fn(i32) -> Result<Vec<Bytes>, ConnectionError>,
    ) -> Result<oneshot::Receiver<Result<Bytes, ConnectionError>>, ConnectionError> {
        let (reply, answer) = oneshot::channel();
        let correlation = self.next_correlation();
        self.queue(Call { correlation, parts: encode(correlation)?, reply: Some(reply) })?;
        Ok(answer)
    }

    fn queue(&self, call: Call) -> Result<(), ConnectionError> {
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ConnectionError::Busy { address: self.shared.address.clone() },
            mpsc::error::TrySendError::Closed(_) => self.shared.lost_error(),
        })
    }

    fn decode_error<R: Request>(&self, source: esker_protocol::primitives::DecodeError) -> ConnectionError {
        ConnectionError::Decode { address: self.shared.address.clone(), api: R::KEY.name(), source }
    }
}

/// A request whose answer is on its way.
pub struct Pending<R> {
    frame: PendingFrame,
    version: i16,
    api: PhantomData<fn() -> R>,
}

/// A frame that is on its way.
struct PendingFrame {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Result<Bytes, ConnectionError>>,
    api: &'static str,
    after: Duration,
    deadline: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

impl PendingFrame {
    #[boxed]
    async fn wait(self) -> Result<Bytes, ConnectionError> {
        let Self { shared, answer, api, after, deadline, permit: _permit } = self;
        match timeout_at(deadline, answer).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => Err(shared.lost_error()),
            Err(_) => {
                shared.fail(format!("{api} was not answered within {after:?}"));
                Err(ConnectionError::Timeout { address: shared.address.clone(), api, after })
            }
        }
    }
}

impl<R: Request> Pending<R> {
    /// Waits for the answer. Past the deadline the whole connection is closed: all answers behind this one are stuck too.
    pub async fn wait(self) -> Result<R::Response, ConnectionError> {
        let shared = Arc::clone(&self.frame.shared);
        let decoded = decode_response::<R>(self.version, self.frame.wait().await?);
        decoded.map(|(_, response)| response).map_err(|source| ConnectionError::Decode {
            address: shared.address.clone(),
            api: <R as Message>::SCHEMA.name,
            source,
        })
    }
}

async fn run(
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut queue: mpsc::Receiver<Call>,
    shared: Arc<Shared>,
    limit: usize,
) {
    let reason = tokio::select! {
        biased;
        reason = write_all(writer, &mut queue, &shared) => reason,
        reason = read_all(reader, &shared, limit) => reason,
        () = shared.stop.notified() => "it was closed".to_owned(),
    };
    tracing::debug!(address = shared.address, reason, "connection ended");
    shared.fail(reason);
    queue.close();
    while let Ok(call) = queue.try_recv() {
        if let Some(reply) = call.reply {
            let _ = reply.send(Err(shared.lost_error()));
        }
    }
    let waiting = std::mem::take(&mut *shared.waiting.lock());
    for (_, reply) in waiting {
        let _ = reply.send(Err(shared.lost_error()));
    }
}

async fn write_all(mut writer: impl AsyncWrite + Unpin, queue: &mut mpsc::Receiver<Call>, shared: &Shared) -> String {
    let mut calls = Vec::with_capacity(WRITE_TOGETHER);
    let mut out = Outgoing::default();
    while queue.recv_many(&mut calls, WRITE_TOGETHER).await > 0 {
        {
            let mut waiting = shared.waiting.lock();
            for call in calls.drain(..) {
                if let Some(reply) = call.reply {
                    waiting.push_back((call.correlation, reply));
                }
                out.push(call.parts);
            }
        }
        if let Err(error) = writer.write_all_buf(&mut out).await {
            return error.to_string();
        }
    }
    shared.draining.store(true, Ordering::Release);
    if shared.waiting.lock().is_empty() {
        return "no longer used".to_owned();
    }
    std::future::pending().await
}

async fn read_all(reader: impl AsyncRead + Unpin, shared: &Shared, limit: usize) -> String {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    loop {
        let frame = match read_frame(&mut reader, limit).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the broker closed it".to_owned(),
            Err(error) => return error.to_string(),
        };
        let Ok(correlation) = Reader::new(frame.clone()).i32() else {
            return "an answer without a correlation id".to_owned();
        };
        let Some((expected, reply)) = shared.waiting.lock().pop_front() else {
            return "an answer that nobody asked for".to_owned();
        };
        if correlation != expected {
            let _ = reply.send(Err(shared.lost_error()));
            return format!("an answer out of order: {correlation} instead of {expected}");
        }
        let _ = reply.send(Ok(frame));
        if shared.draining.load(Ordering::Acquire) && shared.waiting.lock().is_empty() {
            return "no longer used".to_owned();
        }
    }
}
