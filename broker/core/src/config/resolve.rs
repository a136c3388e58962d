//! Which value holds: what was set on the resource, for this broker, for all brokers, in the file, or the default.
//!
//! Order of precedence, as in Kafka (KIP-226): topic, dynamic broker, dynamic cluster-wide default, static, default. A
//! topic config follows its broker-wide name, and that its older synonyms (`log.retention.ms`, `.minutes`, `.hours`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::table::{ConfigKey, Scope, lookup};
use crate::metadata::{ConfigResource, MetadataImage};

/// What the broker was started with: its file, environment and flags, as names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statics(pub BTreeMap<String, String>);

/// Where a value comes from, as DescribeConfigs tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it ran.
    DynamicBroker,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker,
    /// From the file, the environment or a flag.
    StaticBroker,
    /// Kafka's (or Esker's) default.
    Default,
    /// Set on a client-metrics subscription.
    ClientMetrics,
    /// Set on the group.
    Group,
}

impl ConfigSource {
    /// Kafka's number for it.
    pub fn id(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// One value that applies or would apply if those before it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The name it was set under.
    pub name: &'static str,
    /// The value.
    pub value: Cow<'static, str>,
    /// Where from.
    pub source: ConfigSource,
}

/// A resolved config: the value that holds stands first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// All levels, by precedence; empty when the value is null.
    pub levels: Vec<Level>,
}

impl Resolved {
    /// The value that holds.
    pub fn value(&self) -> Option<&str> {
        self.levels.first().map(|level| &*level.value)
    }

    /// Where it comes from.
    pub fn source(&self) -> ConfigSource {
        self.levels.first().map_or(ConfigSource::Default, |level| level.source)
    }
}

/// Older names of a broker config, with the factor that brings their unit to that of the first.
fn older_names(name: &str) -> &'static [(&'static str, i64)] {
    match name {
        "log.retention.ms" => &[("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)],
        "log.roll.ms" => &[("log.roll.hours", 3_600_000)],
        "log.roll.jitter.ms" => &[("log.roll.jitter.hours", 3_600_000)],
        "log.dirs" => &[("log.dir", 1)],
        "node.id" => &[("broker.id", 1)],
        _ => &[],
    }
}

fn scaled(value: &str, factor: i64) -> Cow<'static, str> {
    match value.trim().parse::<i64>() {
        // Kafka reads a negative retention as "for ever".
        Ok(number) if factor > 1 && number < 0 => Cow::Borrowed("-1"),
        Ok(number) if factor > 1 => Cow::Owned(number.saturating_mul(factor).to_string()),
        _ => Cow::Owned(value.to_owned()),
    }
}

/// The levels of a broker config.
pub fn resolve_broker(image: &MetadataImage, node_id: i32, statics: &Statics, key: &'static ConfigKey) -> Resolved {
    let mut levels = Vec::new();
    let this_broker = ConfigResource::broker(node_id);
    let all_brokers = ConfigResource::all_brokers();
    let mut names = vec![(key.name, 1)];
    names.extend_from_slice(older_names(key.name));
    for (resource, source) in
        [(&this_broker, ConfigSource::DynamicBroker), (&all_brokers, ConfigSource::DynamicDefaultBroker)]
    {
        for (name, factor) in &names {
            if let Some(value) = image.config(resource, name) {
                levels.push(Level { name, value: scaled(value, *factor), source });
            }
        }
    }
    for (name, factor) in &names {
        if let Some(value) = statics.0.get(*name) {
            levels.push(Level { name, value: scaled(value, *factor), source: ConfigSource::StaticBroker });
        }
    }
    for (name, factor) in &names {
        if let Some(default) = lookup(Scope::Broker, name).and_then(|key| key.default) {
            let value = if *factor > 1 { scaled(default, *factor) } else { Cow::Borrowed(default) };
            levels.push(Level { name, value, source: ConfigSource::Default });
        }
    }
    Resolved { levels }
}

/// The levels of a topic config, for a topic that may not exist yet (then its broker's levels alone).
pub fn resolve_topic(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    topic: &str,
    key: &'static ConfigKey,
) -> Resolved {
    let mut levels = Vec::new();
    if let Some(value) = image.config(&ConfigResource::topic(topic), key.name) {
        levels.push(Level { name: key.name, value: Cow::Owned(value.to_string()), source: ConfigSource::Topic });
    }
    let broker_key = Some(key.broker_name).filter(|n| !n.is_empty()).and_then(|n| lookup(Scope::Broker, n));
    match broker_key {
        Some(broker_key) => levels.extend(resolve_broker(image, node_id, statics, broker_key).levels),
        None => levels.extend(key.default.map(|value| Level {
            name: key.name,
            value: Cow::Borrowed(value),
            source: ConfigSource::Default,
        })),
    }
    Resolved { levels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ConfigRecord, MetadataRecord};

    fn set(image: &mut MetadataImage, resource: ConfigResource, name: &'static str, value: &'static str) {
        image.apply(&MetadataRecord::Config(ConfigRecord {
            resource_type: resource.kind.id(),
            resource_name: resource.name,
            name: name.into(),
            value: Some(value.into()),
        }));
    }

    #[test]
    fn precedence_from_the_default_up() {
        let key = lookup(Scope::Topic, "retention.ms").unwrap();
        let mut image = MetadataImage::default();
        let mut statics = Statics::default();
        let now = |image: &MetadataImage, statics: &Statics| {
            let resolved = resolve_topic(image, 1, statics, "t", key);
            (resolved.value().unwrap().to_owned(), resolved.source())
        };
        assert_eq!(now(&image, &statics), ("604800000".to_owned(), ConfigSource::Default));
        statics.0.insert("log.retention.hours".into(), "2".into());
        assert_eq!(now(&image, &statics), ("7200000".to_owned(), ConfigSource::StaticBroker));
        statics.0.insert("log.retention.minutes".into(), "3".into());
        assert_eq!(now(&image, &statics).0, "180000");
        statics.0.insert("log.retention.ms".into(), "-1".into());
        assert_eq!(now(&image, &statics).0, "-1");
        set(&mut image, ConfigResource::all_brokers(), "log.retention.ms", "5");
        assert_eq!(now(&image, &statics), ("5".to_owned(), ConfigSource::DynamicDefaultBroker));
        set(&mut image, ConfigResource::broker(1), "log.retention.ms", "6");
        assert_eq!(now(&image, &statics), ("6".to_owned(), ConfigSource::DynamicBroker));
        set(&mut image, ConfigResource::topic("t"), "retention.ms", "7");
        assert_eq!(now(&image, &statics), ("7".to_owned(), ConfigSource::Topic));
        let resolved = resolve_topic(&image, 1, &statics, "other", key);
        assert_eq!(resolved.value(), Some("6"), "another topic has no override");
    }
}
