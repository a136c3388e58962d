//! The table of configs, read once from `table.tsv`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a config belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A topic.
    Topic,
    /// A broker.
    Broker,
    /// A consumer or share group.
    Group,
    /// A subscription of client metrics (KIP-714).
    ClientMetrics,
}

/// The type of a value, as Kafka reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

/// How a config may be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dynamic {
    /// Not at all: the config is read at the start.
    Static,
    /// For one broker or for all.
    PerBroker,
    /// For all brokers or for one (Kafka's "cluster-wide").
    ClusterWide,
    /// On its topic, group or subscription.
    OnResource,
}

/// One config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigKey {
    /// What it belongs to.
    pub scope: Scope,
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default; `None` is null.
    pub default: Option<&'static str>,
    /// What is allowed, as text for people and for [`super::validate()`].
    pub allowed: &'static str,
    /// The broker config that gives a topic or group config its default; empty if there is none.
    pub broker_name: &'static str,
    /// How the config may be changed at run time.
    pub dynamic: Dynamic,
    /// Whether Esker acts on it, or only accepts and reports it.
    pub acts: bool,
    /// Kafka does not list it to clients.
    pub internal: bool,
    /// Set for configs that protect or keep data: the value that requests no protection, as an unset value does.
    pub harmless: Option<&'static str>,
}

impl ConfigKey {
    /// Its value is never reported to clients.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

struct Table {
    keys: Vec<ConfigKey>,
    by_name: HashMap<(Scope, &'static str), usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let keys: Vec<ConfigKey> = include_str!("table.tsv").lines().filter_map(parse_row).collect();
    let by_name = keys.iter().enumerate().map(|(at, key)| ((key.scope, key.name), at)).collect();
    Table { keys, by_name }
});

/// All configs, topics first, by name within a scope.
pub fn keys() -> &'static [ConfigKey] {
    &TABLE.keys
}

/// One config.
pub fn lookup(scope: Scope, name: &str) -> Option<&'static ConfigKey> {
    TABLE.by_name.get(&(scope, name)).and_then(|at| TABLE.keys.get(*at))
}

fn parse_row(line: &'static str) -> Option<ConfigKey> {
    let mut columns = line.split('\t');
    let scope = match columns.next()? {
        "topic" => Scope::Topic,
        "broker" => Scope::Broker,
        "group" => Scope::Group,
        "client-metrics" => Scope::ClientMetrics,
        _ => return None,
    };
    let name = columns.next()?;
    let kind = match columns.next()? {
        "BOOLEAN" => Kind::Boolean,
        "STRING" => Kind::String,
        "INT" => Kind::Int,
        "SHORT" => Kind::Short,
        "LONG" => Kind::Long,
        "DOUBLE" => Kind::Double,
        "LIST" => Kind::List,
        "CLASS" => Kind::Class,
        "PASSWORD" => Kind::Password,
        _ => return None,
    };
    let default = columns.next().filter(|default| *default != "-");
    let (allowed, broker_name) = (columns.next()?, columns.next()?);
    let dynamic = match columns.next()? {
        "static" => Dynamic::Static,
        "broker" => Dynamic::PerBroker,
        "cluster" => Dynamic::ClusterWide,
        _ => Dynamic::OnResource,
    };
    let acts = columns.next()? == "acts";
    let flags = columns.next()?;
    let internal = flags.contains("internal");
    let harmless = flags.strip_prefix("protects").map(|rest| match rest.strip_prefix('=') {
        Some(harmless) => harmless,
        None => default.unwrap_or_default(),
    });
    Some(ConfigKey { scope, name, kind, default, allowed, broker_name, dynamic, acts, internal, harmless })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::validate;

    #[test]
    fn every_row_is_read_and_every_default_is_valid() {
        let rows = include_str!("table.tsv").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(keys().len(), rows);
        assert_eq!(TABLE.by_name.len(), rows, "a config stands twice");
        for key in keys() {
            if let Some(default) = key.default.filter(|default| !default.is_empty()) {
                validate(key, default).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            }
            if !key.broker_name.is_empty() && key.scope == Scope::Topic {
                assert!(lookup(Scope::Broker, key.broker_name).is_some(), "{} has no {}", key.name, key.broker_name);
            }
        }
    }

    #[test]
    fn known_rows() {
        let key = lookup(Scope::Topic, "retention.ms").unwrap();
        assert_eq!((key.kind, key.default, key.broker_name), (Kind::Long, Some("604800000"), "log.retention.ms"));
        assert!(lookup(Scope::Broker, "ssl.key.password").unwrap().is_sensitive());
        assert!(lookup(Scope::Topic, "nonsense").is_none());
    }
}
