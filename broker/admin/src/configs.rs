//! Configs of resources.

use async_recursion::async_recursion as boxed;
use clap::ValueEnum;
use esker_client::Admin;
use esker_client::admin::{ConfigEntry, ConfigOp, ConfigSource, Resource};
use esker_protocol::primitives::Str;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::AdminError;

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A topic.
    Topic,
    /// A broker by its id, or default: all brokers.
    Broker,
    /// A group.
    Group,
    /// A client-metrics subscription.
    ClientMetrics,
    /// The loggers of a broker, by its id.
    BrokerLogger,
}

/// A config and its value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigReport {
    /// Its name.
    pub name: String,
    /// Its value; null for none, and for secrets.
    pub value: Option<String>,
    /// Where the value comes from, as Kafka names it.
    pub source: &'static str,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is not shown.
    pub sensitive: bool,
}

/// A change of configs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigChange {
    /// The resource.
    pub name: String,
    /// `changed`.
    pub outcome: &'static str,
    /// The configs that changed.
    pub configs: Vec<String>,
}

impl ConfigReport {
    fn new(entry: &ConfigEntry) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.as_ref().map(Str::to_string),
            source: entry.source.name(),
            read_only: entry.read_only,
            sensitive: entry.sensitive,
        }
    }
}

/// The resource of a kind and a name.
pub fn parse_resource(kind: ResourceKind, name: &str) -> Result<Resource, AdminError> {
    let id = || name.parse::<i32>().ok().filter(|id| *id >= 0);
    let invalid = |what: &str| AdminError::Invalid(format!("a broker is {what}; not '{name}'"));
    Ok(match kind {
        ResourceKind::Topic => Resource::Topic(Str::copy(name)),
        ResourceKind::Group => Resource::Group(Str::copy(name)),
        ResourceKind::ClientMetrics => Resource::ClientMetrics(Str::copy(name)),
        ResourceKind::Broker if name == "default" => Resource::Broker(None),
        ResourceKind::Broker => Resource::Broker(Some(id().ok_or_else(|| invalid("an id, or default"))?)),
        ResourceKind::BrokerLogger => Resource::BrokerLogger(id().ok_or_else(|| invalid("an id"))?),
    })
}

/// The configs of a resource by name: with `all` every one, else those that are not at their default.
#[boxed]
pub async fn read_configs(admin: &Admin, resource: &Resource, all: bool) -> Result<Vec<ConfigReport>, AdminError> {
    let entries = admin.describe_configs(resource).await?;
    // What comes from the resource, from a broker's file or from a dynamic config.
    let is_set = |entry: &&ConfigEntry| entry.source != ConfigSource::Default;
    Ok(entries.iter().filter(|entry| all || is_set(entry)).map(ConfigReport::new).collect())
}

/// Changes some configs of a resource. `name` is the resource's name, as the caller wrote it.
#[boxed]
pub async fn alter_configs(
    admin: &Admin,
    (resource, name): (&Resource, &str),
    changes: &[(Str, ConfigOp)],
) -> Result<ConfigChange, AdminError> {
    admin.alter_configs(resource, changes).await?;
    let configs = changes.iter().map(|(name, _)| name.to_string()).collect();
    Ok(ConfigChange { name: name.to_owned(), outcome: "changed", configs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_by_kind_and_name() {
        use ResourceKind as Kind;
        assert_eq!(parse_resource(Kind::Broker, "default").unwrap(), Resource::Broker(None));
        assert_eq!(parse_resource(Kind::Broker, "3").unwrap(), Resource::Broker(Some(3)));
        assert_eq!(parse_resource(Kind::Topic, "3").unwrap(), Resource::Topic("3".into()));
        assert_eq!(parse_resource(Kind::BrokerLogger, "3").unwrap(), Resource::BrokerLogger(3));
        for (kind, name) in [(Kind::Broker, "-1"), (Kind::Broker, "x"), (Kind::BrokerLogger, "default")] {
            assert!(parse_resource(kind, name).is_err(), "{name}");
        }
    }
}
