//! Configs of topics, brokers and groups.

use std::collections::BTreeMap;

use async_recursion::async_recursion as boxed;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::primitives::Str;

use super::{Admin, each};
use crate::client::Target;
use crate::error::Error;

/// Kafka's number for topics.
const TOPIC: i8 = 2;
/// Topics of one request.
const TOPICS_AT_ONCE: usize = 500;

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A topic's.
    Topic(Str),
    /// A broker's; `None`: the default of all brokers.
    Broker(Option<i32>),
    /// A group's.
    Group(Str),
    /// A client-metrics subscription's (KIP-714).
    ClientMetrics(Str),
    /// Log levels of a broker (KIP-412); Esker has none.
    BrokerLogger(i32),
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => TOPIC,
            Self::Broker(_) => 4,
            Self::BrokerLogger(_) => 8,
            Self::ClientMetrics(_) => 16,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> Str {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::ClientMetrics(name) => name.clone(),
            Self::BrokerLogger(id) => id.to_string().into(),
            Self::Broker(id) => id.map(|id| id.to_string()).unwrap_or_default().into(),
        }
    }

    fn target(&self) -> Target {
        match self {
            Self::Broker(Some(id)) | Self::BrokerLogger(id) => Target::Node(*id),
            _ => Target::Any,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic '{name}'"),
            Self::Group(name) => write!(f, "group '{name}'"),
            Self::Broker(Some(id)) => write!(f, "broker {id}"),
            Self::ClientMetrics(name) => write!(f, "client-metrics subscription '{name}'"),
            Self::BrokerLogger(id) => write!(f, "loggers of broker {id}"),
            Self::Broker(None) => f.write_str("the brokers' default"),
        }
    }
}

/// Where a value comes from; the numbers are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefault,
    /// From the broker's own configuration.
    Static,
    /// Not set: the default holds.
    Default,
    /// A logger of the broker.
    DynamicBrokerLogger,
    /// Set on a client-metrics subscription.
    ClientMetrics,
    /// Set on a group.
    Group,
    /// Any other.
    Other(i8),
}

impl ConfigSource {
    fn new(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefault,
            4 => Self::Static,
            5 => Self::Default,
            6 => Self::DynamicBrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefault => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::Static => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            Self::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            Self::Group => "DYNAMIC_GROUP_CONFIG",
            Self::Other(_) => "UNKNOWN",
        }
    }
}

/// A config and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Name.
    pub name: Str,
    /// Value; null for none, and for secrets.
    pub value: Option<Str>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// It cannot be changed while the broker runs.
    pub read_only: bool,
    /// Its value is not shown.
    pub sensitive: bool,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    /// Set to a value.
    Set(Str),
    /// Back to what it is without.
    Delete,
    /// Add to a list.
    Append(Str),
    /// Take from a list.
    Subtract(Str),
}

fn entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.clone(),
        value: config.value.clone(),
        source: match config.config_source {
            // Version 0 returns only whether it is the default.
            -1 if config.is_default => ConfigSource::Default,
            source => ConfigSource::new(source),
        },
        read_only: config.read_only,
        sensitive: config.is_sensitive,
    }
}

impl Admin {
    /// All configs of a resource, by name.
    ///
    /// # Errors
    /// It is not there.
    #[boxed]
    pub async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, Error> {
        let asked = DescribeConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest { resources: vec![asked], ..DescribeConfigsRequest::default() };
        let answer = self.client.request(resource.target(), request).await?;
        let mut entries = Vec::new();
        for result in answer.results {
            each(|| resource.to_string(), result.error_code, result.error_message.as_ref())?;
            entries.extend(result.configs.iter().map(entry));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Some configs of topics that have a value of their own, by topic. Topics that were deleted meanwhile are left out.
    ///
    /// # Errors
    /// No broker answers.
    #[boxed]
    pub async fn topic_configs(
        &self,
        topics: &[Str],
        names: &[&'static str],
    ) -> Result<BTreeMap<Str, Vec<ConfigEntry>>, Error> {
        let mut found = BTreeMap::new();
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let resource = |topic: &Str| DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.clone(),
                configuration_keys: Some(names.iter().map(|name| (*name).into()).collect()),
            };
            let resources: Vec<_> = topics.iter().map(resource).collect();
            let request = DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() };
            let attempt = || self.client.request(Target::Any, request.clone());
            let answer = self.client.retry("configs", attempt).await?;
            for result in answer.results {
                if result.error_code == ErrorCode::NONE {
                    found.insert(result.resource_name, result.configs.iter().map(entry).collect());
                }
            }
        }
        Ok(found)
    }

    /// Changes some configs of a resource and leaves the others (KIP-339).
    ///
    /// # Errors
    /// It is not there, or a name or value is not allowed; then nothing is changed.
    #[boxed]
    pub async fn alter_configs(&self, resource: &Resource, changes: &[(Str, ConfigOp)]) -> Result<(), Error> {
        let change = |(name, op): &(Str, ConfigOp)| {
            let (config_operation, value) = match op {
                ConfigOp::Set(value) => (0, Some(value.clone())),
                ConfigOp::Delete => (1, None),
                ConfigOp::Append(value) => (2, Some(value.clone())),
                ConfigOp::Subtract(value) => (3, Some(value.clone())),
            };
            AlterableConfig { name: name.clone(), config_operation, value }
        };
        let altered = AlterConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name(),
            configs: changes.iter().map(change).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![altered], validate_only: false };
        let answer = match self.client.request(resource.target(), request.clone()).await {
            // The configs of a broker that does not run can be changed through the others.
            Err(error) if resource.target() != Target::Any && error.is_unreachable() => {
                self.client.request(Target::Any, request).await?
            }
            other => other?,
        };
        for result in answer.responses {
            each(|| resource.to_string(), result.error_code, result.error_message.as_ref())?;
        }
        Ok(())
    }
}
