//! Subscriptions: which metrics of which clients are wanted, and how often.

use std::collections::BTreeSet;

use esker_protocol::primitives::{Str, Uuid};
use esker_protocol::records::crc32c;
use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::config::list_items;
use crate::metadata::{ConfigResource, MetadataImage, ResourceKind};

/// The push interval where no subscription names one: five minutes, as in Kafka.
const DEFAULT_INTERVAL_MS: i32 = 300_000;
/// A subscription to all metrics.
const ALL_METRICS: &str = "*";
/// Memory of one compiled pattern.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// What a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatchBy {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl MatchBy {
    const ALL: [(Self, &'static str); 6] = [
        (Self::InstanceId, "client_instance_id"),
        (Self::ClientId, "client_id"),
        (Self::SoftwareName, "client_software_name"),
        (Self::SoftwareVersion, "client_software_version"),
        (Self::SourceAddress, "client_source_address"),
        (Self::SourcePort, "client_source_port"),
    ];
}

/// Why a `match` config is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is no `name=regex`.
    #[error("Illegal client matching pattern: {0}; name=regex is needed")]
    Form(String),
    /// The name is none of those that can be matched.
    #[error(
        "Illegal client matching pattern: {0}; the name must be one of client_instance_id, client_id, client_software_name, client_software_version, client_source_address, client_source_port"
    )]
    Name(String),
    /// The regular expression is not valid, or too large.
    #[error("Illegal client matching pattern: {0}: {1}")]
    Regex(String, String),
}

/// One condition of a subscription.
#[derive(Debug, Clone)]
pub struct MatchPattern {
    by: MatchBy,
    regex: Regex,
}

/// What is known of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAttributes {
    /// The id that the broker gave it.
    pub instance_id: Uuid,
    /// `client.id`.
    pub client_id: Option<Str>,
    /// The name of its library (KIP-511).
    pub software_name: Str,
    /// The version of its library.
    pub software_version: Str,
    /// Its address.
    pub source_address: String,
    /// Its port.
    pub source_port: u16,
}

impl MatchPattern {
    fn matches(&self, client: &ClientAttributes) -> bool {
        match self.by {
            MatchBy::InstanceId => self.regex.is_match(&client.instance_id.to_string()),
            MatchBy::ClientId => client.client_id.as_ref().is_some_and(|id| self.regex.is_match(id)),
            MatchBy::SoftwareName => self.regex.is_match(&client.software_name),
            MatchBy::SoftwareVersion => self.regex.is_match(&client.software_version),
            MatchBy::SourceAddress => self.regex.is_match(&client.source_address),
            MatchBy::SourcePort => self.regex.is_match(&client.source_port.to_string()),
        }
    }
}

/// Parses a `match` config: `name=regex` items, all of which must match the whole value. Of items with one name the last holds, as in Kafka.
///
/// # Errors
/// The first item that is not valid.
pub fn parse_patterns(value: &str) -> Result<Vec<MatchPattern>, PatternError> {
    let mut patterns: Vec<MatchPattern> = Vec::new();
    for item in list_items(value) {
        let (name, pattern) = item.split_once('=').ok_or_else(|| PatternError::Form(item.to_owned()))?;
        let (name, pattern) = (name.trim(), pattern.trim());
        if pattern.is_empty() || pattern.contains('=') {
            return Err(PatternError::Form(item.to_owned()));
        }
        let known = MatchBy::ALL.iter().find(|(_, known)| *known == name);
        let (by, _) = *known.ok_or_else(|| PatternError::Name(item.to_owned()))?;
        let whole = format!(r"\A(?:{pattern})\z");
        let regex = RegexBuilder::new(&whole).size_limit(MAX_PATTERN_BYTES).build();
        let regex = regex.map_err(|error| PatternError::Regex(item.to_owned(), error.to_string()))?;
        patterns.retain(|earlier| earlier.by != by);
        patterns.push(MatchPattern { by, regex });
    }
    Ok(patterns)
}

/// One client-metrics resource.
#[derive(Debug, Clone)]
pub struct Subscription {
    metrics: Vec<Str>,
    interval_ms: i32,
    patterns: Vec<MatchPattern>,
}

/// The configs of all client-metrics resources, as they are set.
type Settings = Vec<(Str, Vec<(Str, Str)>)>;

/// All subscriptions of a cluster.
#[derive(Debug, Default)]
pub struct Subscriptions {
    settings: Settings,
    subscriptions: Vec<Subscription>,
}

/// What the subscriptions that match a client amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matched {
    pub(super) metrics: Vec<Str>,
    pub(super) interval_ms: i32,
    pub(super) subscription_id: i32,
}

impl Subscriptions {
    /// The subscriptions of an image; `None` if they are those of `self`.
    pub fn update(&self, image: &MetadataImage) -> Option<Self> {
        let settings: Settings = image
            .configured(ResourceKind::ClientMetrics)
            .map(|name| {
                let resource = ConfigResource { kind: ResourceKind::ClientMetrics, name: name.clone() };
                let configs = image.configs_of(&resource).map(|(key, value)| (key.clone(), value.clone()));
                (name.clone(), configs.collect())
            })
            .collect();
        if settings == self.settings {
            return None;
        }
        let subscriptions = settings.iter().filter_map(|(_, configs)| read_subscription(configs)).collect();
        Some(Self { settings, subscriptions })
    }

    /// What the client is to push: the union of the metrics, at the shortest interval.
    pub(super) fn of_client(&self, client: &ClientAttributes) -> Matched {
        let mut metrics = BTreeSet::new();
        let mut interval_ms = DEFAULT_INTERVAL_MS;
        let matching = |subscription: &&Subscription| subscription.patterns.iter().all(|p| p.matches(client));
        for subscription in self.subscriptions.iter().filter(matching) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
        if metrics.iter().any(|metric| **metric == *ALL_METRICS) {
            metrics.retain(|metric| **metric == *ALL_METRICS);
        }
        let metrics: Vec<Str> = metrics.into_iter().collect();
        let subscription_id = subscription_id(&metrics, interval_ms, client.instance_id);
        Matched { metrics, interval_ms, subscription_id }
    }
}

/// `None` for a subscription with a pattern that cannot be parsed: it matches no client. None is accepted that way.
fn read_subscription(configs: &[(Str, Str)]) -> Option<Subscription> {
    let value = |name: &str| configs.iter().find(|(key, _)| **key == *name).map(|(_, value)| value.as_str());
    Some(Subscription {
        metrics: list_items(value("metrics").unwrap_or_default()).map(Str::copy).collect(),
        interval_ms: value("interval.ms").and_then(|ms| ms.trim().parse().ok()).unwrap_or(DEFAULT_INTERVAL_MS),
        patterns: parse_patterns(value("match").unwrap_or_default()).ok()?,
    })
}

/// The id of what a client is to push: a CRC32C of the metrics and the interval, XORed with a hash of the client's id. Each broker computes
/// the same, so a client may push to another broker than the one that it got the subscription from.
fn subscription_id(metrics: &[Str], interval_ms: i32, instance_id: Uuid) -> i32 {
    let names: Vec<&str> = metrics.iter().map(Str::as_str).collect();
    let crc = crc32c(format!("[{}]{interval_ms}", names.join(", ")).as_bytes());
    let hash = instance_id.0.as_chunks::<4>().0.iter().fold(0, |hash, chunk| hash ^ u32::from_be_bytes(*chunk));
    (crc ^ hash).cast_signed()
}
