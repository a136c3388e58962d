//! Client instances: what each client was last told to push, and whether a request of it is accepted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use thiserror::Error;

use super::matching::{ClientAttributes, Matched, Subscriptions};

/// Client instances that a broker remembers, as many as Kafka does. The one that was silent for longest makes room.
const MAX_INSTANCES: usize = 16_384;
/// An instance is forgotten after so long without a request, or after three push intervals if that is longer.
const MIN_EXPIRY_MS: i64 = 60_000;
/// Push intervals without a request after which an instance is forgotten.
const EXPIRY_INTERVALS: i64 = 3;
/// The highest number of a compression: zstd.
const MAX_COMPRESSION: i8 = 4;
/// The id of the metadata topic, which no client has.
const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// Why a request of a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The client instance id is none.
    #[error("the client instance id is not valid")]
    InvalidInstance,
    /// The client said that its last push was the last.
    #[error("the client instance has ended")]
    Terminated,
    /// The push interval is not over.
    #[error("the request came before the next push interval")]
    TooEarly,
    /// The client was told to push something else meanwhile.
    #[error("the subscription id is not that of the client")]
    UnknownSubscription,
    /// The compression is none of Kafka's.
    #[error("the compression type is unknown")]
    UnknownCompression,
    /// More than `telemetry.max.bytes`, before or after it is decompressed.
    #[error("the metrics are larger than telemetry.max.bytes")]
    TooLarge,
    /// The metrics cannot be decoded.
    #[error("the metrics are no OTLP metrics")]
    Undecodable,
}

impl Refusal {
    /// Kafka's error code.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::InvalidInstance | Self::Terminated => ErrorCode::INVALID_REQUEST,
            Self::TooEarly => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
            Self::UnknownSubscription => ErrorCode::UNKNOWN_SUBSCRIPTION_ID,
            Self::UnknownCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::TooLarge => ErrorCode::TELEMETRY_TOO_LARGE,
            Self::Undecodable => ErrorCode::INVALID_RECORD,
        }
    }
}

/// What a client is to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionAnswer {
    /// The id that a push has to name.
    pub subscription_id: i32,
    /// The interval between pushes.
    pub push_interval_ms: i32,
    /// Prefixes of the names of metrics; `*` is all.
    pub metrics: Vec<Str>,
}

/// A push, without its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushRequest {
    /// What the client believes that it is to push.
    pub subscription_id: i32,
    /// Whether the client ends.
    pub terminating: bool,
    /// Kafka's number of the compression.
    pub compression: i8,
    /// The size of the metrics, compressed.
    pub bytes: usize,
    /// `telemetry.max.bytes`.
    pub max_bytes: usize,
}

#[derive(Debug)]
struct Instance {
    version: u64,
    matched: Matched,
    last_get_ms: Option<i64>,
    last_push_ms: Option<i64>,
    terminating: bool,
    last_error: Option<Refusal>,
    expires_ms: i64,
}

impl Instance {
    fn new(matched: Matched, version: u64) -> Self {
        Self {
            version,
            matched,
            last_get_ms: None,
            last_push_ms: None,
            terminating: false,
            last_error: None,
            expires_ms: 0,
        }
    }

    fn is_interval_over(&self, last_ms: Option<i64>, now_ms: i64) -> bool {
        last_ms.is_none_or(|last| now_ms.saturating_sub(last) >= i64::from(self.matched.interval_ms))
    }

    /// A request for the subscription comes once an interval, except after an error that a new subscription mends.
    fn accept_get(&mut self, now_ms: i64) -> Result<(), Refusal> {
        if self.is_interval_over(self.last_get_ms.max(self.last_push_ms), now_ms) {
            self.last_get_ms = Some(now_ms);
            return Ok(());
        }
        match self.last_error {
            Some(Refusal::UnknownSubscription | Refusal::UnknownCompression) => Ok(()),
            _ => Err(Refusal::TooEarly),
        }
    }

    /// The first push after a request for the subscription may come at once: clients spread their first push over half to one and a
    /// half of the interval.
    fn accept_push_time(&mut self, now_ms: i64) -> bool {
        let accepted = self.last_get_ms > self.last_push_ms || self.is_interval_over(self.last_push_ms, now_ms);
        if accepted {
            self.last_push_ms = Some(now_ms);
        }
        accepted
    }

    fn accept_push(&mut self, request: PushRequest, now_ms: i64) -> Result<(), Refusal> {
        if self.terminating {
            return Err(Refusal::Terminated);
        }
        if !self.accept_push_time(now_ms) && !request.terminating {
            return Err(Refusal::TooEarly);
        }
        if request.subscription_id != self.matched.subscription_id {
            return Err(Refusal::UnknownSubscription);
        }
        if !(0..=MAX_COMPRESSION).contains(&request.compression) {
            return Err(Refusal::UnknownCompression);
        }
        if request.bytes > request.max_bytes {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct ClientInstances {
    subscriptions: Arc<Subscriptions>,
    /// Rises with each change of the subscriptions.
    version: u64,
    instances: HashMap<Uuid, Instance>,
    /// By when they are forgotten.
    expiry: BTreeSet<(i64, Uuid)>,
}

impl ClientInstances {
    /// Other subscriptions hold from now on: what each client is to push is found again with its next request.
    pub fn set_subscriptions(&mut self, subscriptions: Arc<Subscriptions>) {
        self.subscriptions = subscriptions;
        self.version += 1;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.instances.len()
    }

    /// What the client is to push.
    ///
    /// # Errors
    /// It asked a moment ago.
    pub fn get_subscription(&mut self, client: &ClientAttributes, now_ms: i64) -> Result<SubscriptionAnswer, Refusal> {
        let instance = self.find_instance(client, now_ms)?;
        instance.accept_get(now_ms)?;
        instance.last_error = None;
        Ok(SubscriptionAnswer {
            subscription_id: instance.matched.subscription_id,
            push_interval_ms: instance.matched.interval_ms,
            metrics: instance.matched.metrics.clone(),
        })
    }

    /// Whether a push is accepted, and the client's push interval in ms.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn accept_push(
        &mut self,
        client: &ClientAttributes,
        request: PushRequest,
        now_ms: i64,
    ) -> Result<i32, Refusal> {
        let instance = self.find_instance(client, now_ms)?;
        let accepted = instance.accept_push(request, now_ms);
        instance.terminating = request.terminating;
        instance.last_error = accepted.err();
        accepted.map(|()| instance.matched.interval_ms)
    }

    /// A push that was accepted could not be read.
    pub fn record_error(&mut self, instance_id: Uuid, error: Refusal) {
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.last_error = Some(error);
        }
    }

    /// Forgets clients that were silent for too long.
    pub fn expire(&mut self, now_ms: i64) {
        while let Some((expires_ms, id)) = self.expiry.first().copied()
            && expires_ms <= now_ms
        {
            self.expiry.remove(&(expires_ms, id));
            self.instances.remove(&id);
        }
    }

    /// The instance of a client, new if there is none, or if the subscriptions have changed.
    fn find_instance(&mut self, client: &ClientAttributes, now_ms: i64) -> Result<&mut Instance, Refusal> {
        let id = client.instance_id;
        if id.is_zero() || id == METADATA_TOPIC {
            return Err(Refusal::InvalidInstance);
        }
        self.expire(now_ms);
        if self.instances.len() >= MAX_INSTANCES
            && !self.instances.contains_key(&id)
            && let Some((_, oldest)) = self.expiry.pop_first()
        {
            self.instances.remove(&oldest);
        }
        let (version, subscriptions) = (self.version, &self.subscriptions);
        let create = || Instance::new(subscriptions.of_client(client), version);
        let instance = self.instances.entry(id).or_insert_with(create);
        self.expiry.remove(&(instance.expires_ms, id));
        if instance.version != version {
            *instance = create();
        }
        let expiry = MIN_EXPIRY_MS.max(EXPIRY_INTERVALS * i64::from(instance.matched.interval_ms));
        instance.expires_ms = now_ms.saturating_add(expiry);
        self.expiry.insert((instance.expires_ms, id));
        Ok(instance)
    }
}
