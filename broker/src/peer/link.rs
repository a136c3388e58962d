//! A way to one other node for one purpose: it connects when it is needed, and again when the connection has ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use esker_client::{ClientConfig, Connection, ConnectionError};
use esker_core::trace::TraceContext;
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::identity::{LocalNode, PeerId};
use super::messages::{HelloDataRequest, HelloRequest, HelloResponse, PEER_VERSION};
use super::traced::TracedRequest;
use super::traffic::Counted;
use crate::node::Node;
use crate::telemetry::PeerMetrics;
use crate::trace::{Span, SpanKind, current_context};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Short requests whose delay would look like a dead node: votes, heartbeats. Served beside no client.
    Control,
    /// Records, and all that may take its time.
    Data,
}

/// Why a request to another node has no answer.
#[derive(Debug, Clone, Error)]
pub enum PeerError {
    /// Nothing listens there: the process is gone.
    #[error("{address} refuses connections")]
    NotListening {
        /// Where.
        address: String,
    },
    /// No connection can be made.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// The system's answer.
        reason: String,
    },
    /// The other side is another node than the one that is meant, or does not take this one.
    #[error("{address} refuses this node: {message} ({code})")]
    Refused {
        /// Where.
        address: String,
        /// Its code.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
    /// The connection ended before the answer. The request may have been carried out.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// No answer in time. The request may have been carried out.
    #[error("{address} did not answer {api} in time")]
    TimedOut {
        /// Where.
        address: String,
        /// Which request.
        api: &'static str,
    },
    /// This node is in no cluster yet.
    #[error("this node is in no cluster yet")]
    NoCluster,
}

impl PeerError {
    /// The cause without the address, for a line that names it.
    pub fn reason(&self) -> String {
        match self {
            Self::NotListening { .. } => "connection refused".to_owned(),
            Self::Unreachable { reason, .. } => reason.clone(),
            Self::Refused { code, message, .. } => format!("it refuses this node: {message} ({code})"),
            Self::TimedOut { .. } => "no answer in time".to_owned(),
            Self::Lost(error) => error.to_string(),
            Self::NoCluster => self.to_string(),
        }
    }
}

/// How long a connection and its hello may take.
const CONNECT: Duration = Duration::from_millis(1000);
/// A connection for records whose answer is later than this is closed.
const DATA_PATIENCE: Duration = Duration::from_secs(4);
/// Requests in flight on one connection.
const IN_FLIGHT: usize = 256;
/// The largest answer: a fetch of records, with room for its frame.
const MAX_ANSWER: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub struct PeerLink {
    node: Node,
    local: Arc<LocalNode>,
    /// The node id, and the folder; a zero folder is any.
    target: (i32, Uuid),
    address: String,
    lane: Lane,
    metrics: Arc<PeerMetrics>,
    standing: tokio::sync::Mutex<Option<(Arc<Connection>, PeerId)>>,
}

impl PeerLink {
    /// A link to node `target` (its id, and its metadata folder; zero: any) at `address`. Connects with the first request.
    pub fn new(node: &Node, local: &Arc<LocalNode>, target: (i32, Uuid), address: &str, lane: Lane) -> Self {
        let (node, local, address) = (node.clone(), Arc::clone(local), address.to_owned());
        let metrics = local.peers().of(target.0);
        Self { node, local, target, address, lane, metrics, standing: tokio::sync::Mutex::new(None) }
    }

    /// Where the node is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request and waits for its answer until `deadline`. A connection whose answer is late is closed.
    pub async fn call<R: Request>(&self, request: &R, deadline: Instant) -> Result<R::Response, PeerError> {
        let span = self.begin_span(R::SCHEMA.name, current_context);
        self.call_in(span, request, deadline).await
    }

    /// As [`PeerLink::call`], of a request that tells the receiver which trace it is part of: that of the first of `causes`. It is linked to the
    /// others.
    pub async fn call_traced<R: TracedRequest>(
        &self,
        mut request: R,
        causes: &[TraceContext],
        deadline: Instant,
    ) -> Result<R::Response, PeerError> {
        let span = self.begin_span(R::SCHEMA.name, || causes.first().copied());
        if let Some(span) = &span {
            causes.iter().skip(1).for_each(|cause| span.add_link(*cause));
            *request.traceparent_mut() = Str::from(span.context().to_string());
        }
        self.call_in(span, &request, deadline).await
    }

    /// The span of a request: part of what caused it, else sampled as requests of clients are.
    fn begin_span(&self, name: &'static str, cause: impl FnOnce() -> Option<TraceContext>) -> Option<Span> {
        let (tracer, now) = (self.node.tracer()?, Instant::now());
        match cause() {
            Some(cause) => Some(tracer.begin_span(Some(cause), name, SpanKind::Client, now)),
            None => tracer.sample(name, SpanKind::Client, now),
        }
    }

    async fn call_in<R: Request>(
        &self,
        span: Option<Span>,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, PeerError> {
        let (sent, answer) = self.call_once(request, deadline).await;
        // Requests for data wait for records or for the disk.
        if let Some(sent) = sent.filter(|_| self.lane == Lane::Control && answer.is_ok()) {
            self.metrics.record_round_trip(sent.elapsed());
        }
        if let Some(span) = span {
            span.add_attribute("esker.peer.node.id", self.target.0);
            span.add_attribute("server.address", self.address.as_str());
            if answer.is_err() {
                span.set_failed();
            }
        }
        answer
    }

    /// As [`PeerLink::call`], of a request that the other side answers once there is news: the time is no round trip.
    pub async fn poll<R: Request>(&self, request: &R, deadline: Instant) -> Result<R::Response, PeerError> {
        self.call_once(request, deadline).await.1
    }

    /// The answer, and when the request was sent on a connection that stands.
    async fn call_once<R: Request>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> (Option<Instant>, Result<R::Response, PeerError>) {
        let mut sent = None;
        let answer = self.exchange(request, deadline, &mut sent).await;
        self.metrics.record_request(answer.is_ok());
        (sent, answer)
    }

    async fn exchange<R: Request>(
        &self,
        request: &R,
        deadline: Instant,
        sent_at: &mut Option<Instant>,
    ) -> Result<R::Response, PeerError> {
        let timed_out = || PeerError::TimedOut { address: self.address.clone(), api: R::SCHEMA.name };
        let (connection, _) = timeout_at(deadline, self.connection()).await.map_err(|_| timed_out())??;
        let sent = Instant::now();
        *sent_at = Some(sent);
        let patience = deadline.saturating_duration_since(sent);
        // An impatient caller must not cost all others their connection.
        let patience = if self.lane == Lane::Data { patience.max(DATA_PATIENCE) } else { patience };
        let answer = timeout_at(deadline, connection.request(*R::VERSIONS.end(), request, Some(patience))).await;
        answer.map_err(|_| timed_out())?.map_err(|error| match error {
            ConnectionError::Timeout { .. } => timed_out(),
            error => PeerError::Lost(error),
        })
    }

    /// Who is there: connects if no connection stands.
    pub async fn connect(&self, deadline: Instant) -> Result<(Arc<Connection>, PeerId), PeerError> {
        let timed_out = || PeerError::TimedOut { address: self.address.clone(), api: HelloRequest::SCHEMA_NAME };
        timeout_at(deadline, self.connection()).await.map_err(|_| timed_out())?
    }

    async fn connection(&self) -> Result<(Arc<Connection>, PeerId), PeerError> {
        let mut standing = self.standing.lock().await;
        if let Some((connection, peer)) = standing.as_ref().filter(|(connection, _)| connection.is_open()) {
            return Ok((Arc::clone(connection), *peer));
        }
        *standing = None;
        let opened = async {
            let connection = open(&self.node, &self.address, Some(&self.metrics)).await?;
            let peer = self.greet(&connection).await?;
            Ok::<_, PeerError>((connection, peer))
        };
        let late = |_| PeerError::Unreachable {
            address: self.address.clone(),
            reason: format!("no connection within {CONNECT:?}"),
        };
        let (connection, peer) = tokio::time::timeout(CONNECT, opened).await.map_err(late)??;
        *standing = Some((Arc::clone(&connection), peer));
        Ok((connection, peer))
    }

    async fn greet(&self, connection: &Connection) -> Result<PeerId, PeerError> {
        let membership = self.local.membership().ok_or(PeerError::NoCluster)?;
        let (target_node_id, target_directory) = self.target;
        let hello = HelloRequest {
            min_version: PEER_VERSION,
            max_version: PEER_VERSION,
            cluster_id: membership.cluster_id.clone(),
            node_id: membership.node_id,
            directory: membership.directory,
            incarnation: self.local.incarnation(),
            target_node_id,
            target_directory,
        };
        let answer: HelloResponse = match self.lane {
            Lane::Control => connection.request(0, &hello, None).await?,
            Lane::Data => connection.request(0, &HelloDataRequest { hello }, None).await?,
        };
        if answer.error_code.is_error() {
            let message = answer.error_message.as_ref().map_or_else(String::new, Str::to_string);
            return Err(PeerError::Refused { address: self.address.clone(), code: answer.error_code, message });
        }
        Ok(PeerId { node_id: target_node_id, directory: answer.directory, incarnation: answer.incarnation })
    }
}

impl HelloRequest {
    const SCHEMA_NAME: &'static str = "Hello";
}

/// A connection to `address`; nothing is said on it yet.
async fn open(node: &Node, address: &str, metrics: Option<&Arc<PeerMetrics>>) -> Result<Arc<Connection>, PeerError> {
    let stream = node.connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => PeerError::NotListening { address: address.to_owned() },
        _ => PeerError::Unreachable { address: address.to_owned(), reason: error.to_string() },
    })?;
    let (reader, writer) = tokio::io::split(Counted::new(stream, metrics));
    let config = ClientConfig {
        client_id: "esker-node".to_owned(),
        max_in_flight: IN_FLIGHT,
        max_response_bytes: MAX_ANSWER,
        request_timeout: Duration::from_secs(5),
        ..ClientConfig::new(address)
    };
    Ok(Arc::new(Connection::over(reader, writer, address, &config)))
}

/// Asks whatever listens at `address`, without a hello: only requests of nodes that are in no cluster are answered so.
pub async fn ask<R: Request>(
    node: &Node,
    address: &str,
    request: &R,
    deadline: Instant,
) -> Result<R::Response, PeerError> {
    let asked = async {
        let late = |_| PeerError::Unreachable {
            address: address.to_owned(),
            reason: format!("no connection within {CONNECT:?}"),
        };
        let connection = tokio::time::timeout(CONNECT, open(node, address, None)).await.map_err(late)??;
        Ok(connection.request(*R::VERSIONS.end(), request, None).await?)
    };
    let timed_out = |_| PeerError::TimedOut { address: address.to_owned(), api: R::SCHEMA.name };
    timeout_at(deadline, asked).await.map_err(timed_out)?
}
