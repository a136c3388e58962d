//! Which value holds: what was set on the resource, for this broker, for all brokers, in the file, or the default.
//!
//! Order of precedence, as in Kafka (KIP-226): topic, dynamic broker, dynamic cluster-wide default, static, default. A
//! topic config follows its broker-wide name, and that its older synonyms (`log.retention.ms`, `.minutes`, `.hours`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::table::{ConfigKey, Scope, lookup};
use crate::metadata::{ConfigResource, MetadataImage, ResourceKind};

/// What the broker was started with: its file, environment and flags, as names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statics(pub BTreeMap<String, String>);

/// The source of a value, as DescribeConfigs reports it.
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

/// One value that was set (or is the default) somewhere, as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The name it was set under.
    pub name: &'static str,
    /// The value, in that name's unit.
    pub value: Cow<'static, str>,
    /// Where from.
    pub source: ConfigSource,
}

/// A resolved config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    value: Option<Cow<'static, str>>,
    origin: ConfigSource,
    /// All levels, by precedence, as DescribeConfigs reports them: they begin with the first that was set under the config's
    /// own name, so a topic that follows `log.retention.hours` alone is at its default, as in Kafka.
    pub levels: Vec<Level>,
}

impl Resolved {
    /// The value that holds; `None` for null.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Where it comes from.
    pub fn source(&self) -> ConfigSource {
        self.levels.first().map_or(ConfigSource::Default, |level| level.source)
    }

    /// Where the value comes from, older names counted, as CreateTopics reports it.
    pub fn origin(&self) -> ConfigSource {
        self.origin
    }

    /// The levels of one source alone, for a resource that has no other source.
    pub fn only(mut self, source: ConfigSource) -> Self {
        self.levels.retain(|level| level.source == source);
        self.value = self.levels.first().map(|level| level.value.clone());
        self
    }
}

/// Older names of a broker config, with the factor that converts their unit to that of the first.
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

/// The levels of a broker config under all its names, and the value of the first in the unit of `key`.
fn broker_levels(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    key: &'static ConfigKey,
) -> (Option<(Cow<'static, str>, ConfigSource)>, Vec<Level>) {
    let mut levels = Vec::new();
    let mut holds = None;
    let mut add = |name: &'static str, factor: i64, value: Cow<'static, str>, source| {
        if holds.is_none() {
            holds = Some((if factor > 1 { scaled(&value, factor) } else { value.clone() }, source));
        }
        levels.push(Level { name, value, source });
    };
    let (this_broker, all_brokers) = (ConfigResource::broker(node_id), ConfigResource::all_brokers());
    let dynamic = [(&this_broker, ConfigSource::DynamicBroker), (&all_brokers, ConfigSource::DynamicDefaultBroker)];
    let names = || std::iter::once((key.name, 1)).chain(older_names(key.name).iter().copied());
    for (resource, source) in dynamic {
        for (name, factor) in names() {
            if let Some(value) = image.config(resource, name) {
                add(name, factor, Cow::Owned(value.to_string()), source);
            }
        }
    }
    for (name, factor) in names() {
        if let Some(value) = statics.0.get(name) {
            add(name, factor, Cow::Owned(value.clone()), ConfigSource::StaticBroker);
        }
    }
    for (name, factor) in names() {
        if let Some(default) = lookup(Scope::Broker, name).and_then(|key| key.default) {
            add(name, factor, Cow::Borrowed(default), ConfigSource::Default);
        }
    }
    let own = levels.iter().position(|level| level.name == key.name).unwrap_or(levels.len());
    // Kafka follows this one too, but does not report it among the levels.
    if key.name == "log.flush.interval.ms" && holds.is_none() {
        let given = statics.0.get("log.flush.scheduler.interval.ms");
        holds = given.map(|value| (Cow::Owned(value.clone()), ConfigSource::StaticBroker));
    }
    (holds, levels.split_off(own))
}

/// A broker config: what was set under its own name, as Kafka reports it.
pub fn resolve_broker(image: &MetadataImage, node_id: i32, statics: &Statics, key: &'static ConfigKey) -> Resolved {
    let (_, levels) = broker_levels(image, node_id, statics, key);
    let first = levels.first();
    let origin = first.map_or(ConfigSource::Default, |level| level.source);
    Resolved { value: first.map(|level| level.value.clone()), origin, levels }
}

/// A topic config, for a topic that may not exist yet (then its broker's levels alone).
pub fn resolve_topic(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    topic: &str,
    key: &'static ConfigKey,
) -> Resolved {
    resolve_resource(image, node_id, statics, &ConfigResource::topic(topic), key)
}

/// The config of a topic, a group or a client-metrics subscription: its own, then that of its broker, then the default.
pub fn resolve_resource(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    resource: &ConfigResource,
    key: &'static ConfigKey,
) -> Resolved {
    let source = match resource.kind {
        ResourceKind::Topic => ConfigSource::Topic,
        ResourceKind::Broker => return resolve_broker(image, node_id, statics, key),
        ResourceKind::ClientMetrics => ConfigSource::ClientMetrics,
        ResourceKind::Group => ConfigSource::Group,
    };
    let own: Option<Cow<'static, str>> = image.config(resource, key.name).map(|value| Cow::Owned(value.to_string()));
    let mut levels: Vec<_> = own.iter().map(|value| Level { name: key.name, value: value.clone(), source }).collect();
    let broker_key = Some(key.broker_name).filter(|name| !name.is_empty()).and_then(|n| lookup(Scope::Broker, n));
    if broker_key.is_none() && resource.kind == ResourceKind::Group {
        // Kafka reports the default of such a group config among its levels, but not that of a topic config.
        let default = |value| Level { name: key.name, value: Cow::Borrowed(value), source: ConfigSource::Default };
        levels.extend(key.default.map(default));
    }
    let inherited = broker_key.and_then(|broker_key| {
        let (holds, inherited) = broker_levels(image, node_id, statics, broker_key);
        levels.extend(inherited);
        holds
    });
    let holds = own.map(|value| (value, source)).or(inherited);
    let holds = holds.or_else(|| key.default.map(|value| (Cow::Borrowed(value), ConfigSource::Default)));
    let origin = holds.as_ref().map_or(ConfigSource::Default, |(_, source)| *source);
    Resolved { value: holds.map(|(value, _)| value), origin, levels }
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
        assert_eq!(
            now(&image, &statics),
            ("7200000".to_owned(), ConfigSource::Default),
            "set, but under an older name"
        );
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
        let told = resolve_topic(&image, 1, &statics, "t", key).levels;
        let told: Vec<_> = told.iter().map(|level| (level.name, &*level.value, level.source.id())).collect();
        let expected = [
            ("retention.ms", "7", 1),
            ("log.retention.ms", "6", 2),
            ("log.retention.ms", "5", 3),
            ("log.retention.ms", "-1", 4),
            ("log.retention.minutes", "3", 4),
            ("log.retention.hours", "2", 4),
            ("log.retention.hours", "168", 5),
        ];
        assert_eq!(told, expected);
        let resolved = resolve_topic(&image, 1, &statics, "other", key);
        assert_eq!(resolved.value(), Some("6"), "another topic has no override");
    }
}
