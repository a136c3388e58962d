//! Client metrics (KIP-714): the subscriptions of this broker's clients, and the values that they pushed.
//!
//! The rules are `esker_core::client_metrics`'s. A push is decompressed and decoded on a blocking thread, one at a time, so that the
//! memory of decoders is bounded. Must never: hold a lock while a push is decoded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_core::client_metrics::{
    ClientAttributes, ClientInstances, ClientSeries, PushRequest, Refusal, SubscriptionAnswer, Subscriptions,
};
use esker_core::metadata::MetadataImage;
use esker_protocol::compression::{Compression, CompressionError, decompress};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::node::Node;
use crate::otlp::{ClientLabels, Forwarder, OtlpError, add_client, read_samples};

/// How long a push may wait for those before it.
const WAIT: Duration = Duration::from_secs(5);
/// Values of a client that stopped pushing are reported for so long.
const KEEP_SERIES_MS: i64 = 60_000;
/// The same, in push intervals, if that is longer.
const KEEP_INTERVALS: i64 = 3;

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClientTelemetryCounts {
    /// Pushes that were stored.
    pub pushes: u64,
    /// Requests that came before their interval was over, or while too many pushes waited.
    pub throttled: u64,
    /// Pushes for another subscription.
    pub unknown_subscriptions: u64,
    /// Pushes that were too large or could not be decoded.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The offset of the image whose subscriptions hold.
    offset: Option<u64>,
    subscriptions: Arc<Subscriptions>,
    instances: ClientInstances,
    counts: ClientTelemetryCounts,
}

/// See the module.
#[derive(Debug)]
pub struct ClientTelemetry {
    node: Node,
    max_bytes: usize,
    state: Mutex<State>,
    series: Mutex<ClientSeries>,
    decoding: Arc<Semaphore>,
    /// To the OTLP endpoint, if there is one.
    forwarder: Arc<Forwarder>,
}

/// The metrics of a push.
#[derive(Debug)]
pub struct PushedMetrics {
    /// Kafka's number of the compression.
    pub compression: i8,
    /// The client's push interval.
    pub interval_ms: i32,
    /// OTLP, compressed.
    pub metrics: Bytes,
}

impl ClientTelemetry {
    /// No client, no values.
    pub fn new(node: &Node) -> Self {
        Self {
            node: node.clone(),
            max_bytes: node.config().telemetry_max_bytes,
            state: Mutex::default(),
            series: Mutex::default(),
            decoding: Arc::new(Semaphore::new(1)),
            forwarder: Arc::default(),
        }
    }

    /// `telemetry.max.bytes`.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// What hands pushes to the OTLP endpoint.
    pub fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }

    /// What the client is to push.
    ///
    /// # Errors
    /// It asked a moment ago.
    pub fn get_subscription(
        &self,
        image: &MetadataImage,
        client: &ClientAttributes,
    ) -> Result<SubscriptionAnswer, Refusal> {
        let mut state = self.state.lock();
        state.follow(image);
        let answer = state.instances.get_subscription(client, self.node.now_ms());
        state.count(answer.as_ref().err());
        answer
    }

    /// Whether a push is accepted, by all that can be said without its metrics, and the client's push interval in ms.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn accept_push(
        &self,
        image: &MetadataImage,
        client: &ClientAttributes,
        request: PushRequest,
    ) -> Result<i32, Refusal> {
        let mut state = self.state.lock();
        state.follow(image);
        let accepted = state.instances.accept_push(client, request, self.node.now_ms());
        state.count(accepted.as_ref().err());
        accepted
    }

    /// Decodes and stores the metrics of a push that was accepted.
    ///
    /// # Errors
    /// They are too large, cannot be decoded, or too many others wait.
    pub async fn store(self: Arc<Self>, client: ClientAttributes, pushed: PushedMetrics) -> Result<(), Refusal> {
        let id = client.instance_id;
        let stored = Arc::clone(&self).decode(client, pushed).await;
        let mut state = self.state.lock();
        state.count(stored.as_ref().err());
        match stored {
            Ok(()) => state.counts.pushes += 1,
            Err(refusal) => state.instances.record_error(id, refusal),
        }
        stored
    }

    async fn decode(self: Arc<Self>, client: ClientAttributes, pushed: PushedMetrics) -> Result<(), Refusal> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.decoding).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Refusal::TooEarly) };
        let node = self.node.clone();
        let work = move || {
            let stored = self.store_samples(&client, &pushed);
            drop(permit);
            stored
        };
        node.run_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "client metrics were not decoded");
            Err(Refusal::Undecodable)
        })
    }

    fn store_samples(&self, client: &ClientAttributes, pushed: &PushedMetrics) -> Result<(), Refusal> {
        let payload = decompress_push(pushed, self.max_bytes)?;
        let labels = ClientLabels {
            client_id: client.client_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            instance_id: client.instance_id.to_string(),
            software_name: client.software_name.to_string(),
        };
        let undecodable = |error: OtlpError| {
            tracing::debug!(%error, client = %client.instance_id, "a client's metrics are dropped");
            Refusal::Undecodable
        };
        let read = read_samples(payload.clone(), &labels).map_err(undecodable)?;
        if self.node.config().otlp_endpoint.is_some() {
            self.forwarder.forward(add_client(payload, &labels).map_err(undecodable)?);
        }
        let now_ms = self.node.now_ms();
        let keep_ms = KEEP_SERIES_MS.max(KEEP_INTERVALS.saturating_mul(i64::from(pushed.interval_ms)));
        let mut series = self.series.lock();
        series.expire(now_ms);
        series.store(client.instance_id, now_ms.saturating_add(keep_ms), read.samples, read.unsupported);
        Ok(())
    }

    /// Reads the values and the counts at a scrape.
    pub fn with_series<T>(&self, read: impl FnOnce(&ClientSeries, usize, ClientTelemetryCounts) -> T) -> T {
        let now_ms = self.node.now_ms();
        let (instances, counts) = {
            let mut state = self.state.lock();
            state.instances.expire(now_ms);
            (state.instances.count(), state.counts)
        };
        let mut series = self.series.lock();
        series.expire(now_ms);
        read(&series, instances, counts)
    }
}

impl State {
    /// The subscriptions of `image` hold from now on.
    fn follow(&mut self, image: &MetadataImage) {
        if self.offset == Some(image.offset()) {
            return;
        }
        self.offset = Some(image.offset());
        if let Some(subscriptions) = self.subscriptions.update(image) {
            self.subscriptions = Arc::new(subscriptions);
            self.instances.set_subscriptions(Arc::clone(&self.subscriptions));
        }
    }

    fn count(&mut self, refusal: Option<&Refusal>) {
        match refusal {
            Some(Refusal::TooEarly) => self.counts.throttled += 1,
            Some(Refusal::UnknownSubscription) => self.counts.unknown_subscriptions += 1,
            Some(Refusal::TooLarge | Refusal::Undecodable) => self.counts.failed += 1,
            Some(Refusal::InvalidInstance | Refusal::Terminated | Refusal::UnknownCompression) | None => {}
        }
    }
}

fn decompress_push(pushed: &PushedMetrics, max_bytes: usize) -> Result<Bytes, Refusal> {
    let codec = u8::try_from(pushed.compression).map_err(|_| Refusal::UnknownCompression)?;
    let codec = Compression::from_id(codec).map_err(|_| Refusal::UnknownCompression)?;
    decompress(codec, &pushed.metrics, max_bytes).map_err(|error| match error {
        CompressionError::TooLarge { .. } => Refusal::TooLarge,
        _ => Refusal::Undecodable,
    })
}
