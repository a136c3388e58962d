//! One connection to the endpoint of OTLP over HTTP.
//!
//! HTTP/1.1 without TLS: the endpoint is a collector beside the broker, which has TLS, authentication and retries.

use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::timeout;

use crate::config::OtlpEndpoint;
use crate::node::Node;
use crate::task::spawn;

/// How long an export may take, with its connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer, which are not used.
const MAX_ANSWER: usize = 64 << 10;

/// Why the endpoint did not take an export.
#[derive(Debug, Error)]
pub enum ExportError {
    /// It cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    /// It answered something else than success.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It did not answer in time.
    #[error("no answer in {PATIENCE:?}")]
    TimedOut,
    /// The request cannot be formed.
    #[error("no request can be made: {0}")]
    Request(#[from] axum::http::Error),
}

/// The way to the endpoint. It connects when it is needed, and again after a failure.
#[derive(Debug)]
pub struct OtlpClient {
    node: Node,
    endpoint: OtlpEndpoint,
    connection: Option<SendRequest<Body>>,
}

impl OtlpClient {
    /// A way to `endpoint` that is not connected.
    pub fn new(node: &Node, endpoint: OtlpEndpoint) -> Self {
        Self { node: node.clone(), endpoint, connection: None }
    }

    /// Sends the body of an export request.
    ///
    /// # Errors
    /// The endpoint did not take it.
    pub async fn export(&mut self, path: &str, body: Bytes) -> Result<(), ExportError> {
        let sent = timeout(PATIENCE, self.send(path, body)).await.unwrap_or(Err(ExportError::TimedOut));
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    async fn send(&mut self, path: &str, body: Bytes) -> Result<(), ExportError> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let request = Request::post(format!("{}{path}", self.endpoint.path()))
            .header(header::HOST, self.endpoint.authority())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(Body::from(body))?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        // An answer that is too long costs the connection alone.
        if to_bytes(Body::new(body), MAX_ANSWER).await.is_ok() {
            self.connection = Some(connection);
        }
        if head.status.is_success() { Ok(()) } else { Err(ExportError::Status(head.status)) }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, ExportError> {
        let stream = self.node.connect(self.endpoint.authority()).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender, and an error of it is one of the request, too.
        spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
