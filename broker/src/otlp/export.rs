//! The exports: spans that ended, and metrics that clients pushed, in batches to the endpoint.
//!
//! Both queues are bounded. What finds its queue full, or is not taken by the endpoint, is dropped and counted. Must never: make a request
//! wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::client::{ExportError, OtlpClient};
use super::spans::{ClockAnchor, SpanSource, encode_spans};
use crate::node::Node;
use crate::task::spawn_until;
use crate::telemetry::RepeatLimiter;
use crate::trace::{FinishedSpan, Tracer};

/// Spans of one request.
const MAX_BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// Pushes of clients that wait: each has at most `telemetry.max.bytes`.
const QUEUED_PUSHES: usize = 16;

/// Pushes since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardCounts {
    /// Pushes that the endpoint took.
    pub forwarded: u64,
    /// Pushes that found the queue full, or that the endpoint did not take.
    pub dropped: u64,
}

/// Hands metrics that clients pushed to the exporter.
#[derive(Debug)]
pub struct Forwarder {
    queue: mpsc::Sender<Bytes>,
    /// The other end of the queue, until an exporter takes it.
    queued: Mutex<Option<mpsc::Receiver<Bytes>>>,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

impl Default for Forwarder {
    fn default() -> Self {
        let (queue, queued) = mpsc::channel(QUEUED_PUSHES);
        Self { queue, queued: Mutex::new(Some(queued)), forwarded: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }
}

impl Forwarder {
    /// Queues the metrics of a push, or drops them.
    pub fn forward(&self, metrics: Bytes) {
        if self.queue.try_send(metrics).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> ForwardCounts {
        ForwardCounts {
            forwarded: self.forwarded.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// Starts the export of spans, where there is an endpoint and requests are traced.
pub fn start_exports(node: &Node, source: SpanSource, stop: &CancellationToken) {
    let Some(endpoint) = node.config().otlp_endpoint.clone() else { return };
    let Some(tracer) = node.tracer().cloned() else { return };
    let Some(ended) = tracer.take_ended() else { return };
    let client = OtlpClient::new(node, endpoint);
    let export = export_spans(node.clone(), source, tracer, ended, client);
    spawn_until(stop.clone(), export);
}

/// Starts the export of metrics that clients pushed, where there is an endpoint.
pub fn forward_metrics(node: &Node, forwarder: &Arc<Forwarder>, stop: &CancellationToken) {
    let Some(endpoint) = node.config().otlp_endpoint.clone() else { return };
    let Some(mut queued) = forwarder.queued.lock().take() else { return };
    let (mut client, forwarder) = (OtlpClient::new(node, endpoint), Arc::clone(forwarder));
    let forward = async move {
        let failures = Failures::default();
        while let Some(metrics) = queued.recv().await {
            let taken = client.export("/v1/metrics", metrics).await;
            failures.report("metrics of clients", &taken);
            let count = if taken.is_ok() { &forwarder.forwarded } else { &forwarder.dropped };
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    spawn_until(stop.clone(), forward);
}

async fn export_spans(
    node: Node,
    source: SpanSource,
    tracer: Arc<Tracer>,
    mut ended: mpsc::Receiver<FinishedSpan>,
    mut client: OtlpClient,
) {
    let failures = Failures::default();
    while let Some(first) = ended.recv().await {
        let mut spans = vec![first];
        let until = Instant::now() + GATHER;
        while spans.len() < MAX_BATCH
            && let Ok(Some(span)) = timeout_at(until, ended.recv()).await
        {
            spans.push(span);
        }
        let count = spans.len() as u64;
        let anchor = ClockAnchor { instant: Instant::now(), wall_ms: node.now_ms() };
        let taken = client.export("/v1/traces", encode_spans(&source, anchor, spans).into()).await;
        failures.report("spans", &taken);
        tracer.record_export(count, taken.is_ok());
    }
}

/// Log lines of an endpoint that does not take exports: one for each cause and minute.
#[derive(Debug, Default)]
struct Failures(RepeatLimiter);

impl Failures {
    fn report(&self, what: &str, taken: &Result<(), ExportError>) {
        let Err(error) = taken else { return };
        let why = error.to_string();
        if let Some(left_out) = self.0.admit(&why, Instant::now()) {
            let left_out = left_out.field();
            tracing::warn!(
                what,
                why,
                left_out,
                "the OTLP endpoint does not take an export, which is dropped: check otlp.endpoint"
            );
        }
    }
}
