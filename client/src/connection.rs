//! One connection: requests go out as they come, answers are matched by correlation id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::primitives::Str;
use esker_protocol::{Request, decode_response, encode_request};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::ClientError;

/// Requests that may wait to be written.
const QUEUE: usize = 64;
/// The largest answer that is taken.
const MAX_ANSWER: usize = 512 << 20;

type Waiting = Arc<Mutex<Option<HashMap<i32, oneshot::Sender<Bytes>>>>>;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    address: String,
    client_id: Str,
    timeout: Duration,
    next_id: AtomicI32,
    outbox: mpsc::Sender<Bytes>,
    waiting: Waiting,
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects and agrees on versions.
    pub async fn open(address: &str, client_id: Str, timeout: Duration) -> Result<Self, ClientError> {
        let failed = |reason: String| ClientError::Connect { address: address.to_owned(), reason };
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
            .await
            .map_err(|_| failed("timed out".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (outbox, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(write(writer, inbox));
        tokio::spawn(read(reader, Arc::clone(&waiting)));
        let mut connection = Self {
            address: address.to_owned(),
            client_id,
            timeout,
            next_id: AtomicI32::new(0),
            outbox,
            waiting,
            versions: BTreeMap::new(),
        };
        connection.versions = connection.agree().await?;
        Ok(connection)
    }

    async fn agree(&self) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "esker-client".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..ApiVersionsRequest::default()
        };
        let mut response = self.exchange(3, &request, self.timeout).await;
        // A broker that is too old for version 3 answers in version 0.
        if !matches!(&response, Ok(r) if r.error_code == ErrorCode::NONE) {
            response = self.exchange(0, &ApiVersionsRequest::default(), self.timeout).await;
        }
        let response = response?;
        ClientError::check("ApiVersions", response.error_code, None)?;
        Ok(response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect())
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        self.waiting.lock().is_some()
    }

    /// The newest version of an API that both sides know.
    pub fn version(&self, key: ApiKey, ours: std::ops::RangeInclusive<i16>) -> Option<i16> {
        let (min, max) = self.versions.get(&key.0).copied()?;
        let version = max.min(*ours.end());
        (version >= min.max(*ours.start())).then_some(version)
    }

    /// Sends a request in the newest common version, at most `limit`.
    pub async fn request<R: Request>(
        &self,
        request: &R,
        limit: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let ours = *R::VERSIONS.start()..=limit.min(*R::VERSIONS.end());
        let version = self.version(R::KEY, ours).ok_or(ClientError::Unsupported(R::KEY.name()))?;
        self.exchange(version, request, self.timeout + wait).await
    }

    async fn exchange<R: Request>(
        &self,
        version: i16,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode_request(version, id, Some(self.client_id.clone()), request)?.into_bytes();
        let lost = || ClientError::Disconnected { address: self.address.clone() };
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().as_mut().ok_or_else(lost)?.insert(id, sender);
        self.outbox.send(frame).await.map_err(|_| lost())?;
        let answered = tokio::time::timeout(timeout, answer).await;
        let frame = match answered {
            Ok(frame) => frame.map_err(|_| lost())?,
            Err(_) => {
                if let Some(waiting) = self.waiting.lock().as_mut() {
                    waiting.remove(&id);
                }
                let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(ClientError::TimedOut { address: self.address.clone(), ms });
            }
        };
        Ok(decode_response::<R>(version, frame)?.1)
    }
}

async fn write(mut writer: OwnedWriteHalf, mut inbox: mpsc::Receiver<Bytes>) {
    while let Some(frame) = inbox.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read(mut reader: OwnedReadHalf, waiting: Waiting) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    'connection: loop {
        loop {
            let frame = match next_frame(&mut buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(()) => break 'connection,
            };
            let id = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id));
            let sender = id.and_then(|id| waiting.lock().as_mut().and_then(|w| w.remove(&id)));
            if let Some(sender) = sender {
                // Whoever asked may have given up.
                let _ = sender.send(frame);
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    // Everybody who still waits learns that the connection is gone.
    waiting.lock().take();
}

fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, ()> {
    let Some(size) = buffer.first_chunk::<4>() else { return Ok(None) };
    let size = usize::try_from(i32::from_be_bytes(*size)).ok().filter(|size| *size <= MAX_ANSWER).ok_or(())?;
    if buffer.len() < size + 4 {
        let missing = size + 4 - buffer.len();
        buffer.reserve(missing.min(4 << 20));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(size).freeze()))
}
