//! What the broker is started with: defaults, then `server.properties`, then the environment, then flags; later ones win.
//!
//! Names and rules are those of `esker_core::config`'s table. A name that nobody knows or a value that is not allowed stops
//! the start before any data is touched. Configs of Kafka's that mean nothing here are taken, and one log line says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use esker_core::config::{Scope, Statics, list_items, lookup, nearest, validate};
use esker_protocol::primitives::Str;
use java_properties::{LineContent, PropertiesIter};
use thiserror::Error;

/// Why the configuration is refused. Shown to the user as it is.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No such config.
    #[error("{origin}: unknown config '{name}'{}; see Kafka's broker configs for all names", hint(.near))]
    Unknown {
        /// File and line, variable, or flag.
        origin: String,
        /// The name.
        name: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// The value is not allowed.
    #[error("{origin}: {name}={value}: {expected}")]
    Invalid {
        /// File and line, variable, or flag.
        origin: String,
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is no properties file.
    #[error("{}, line {line}: {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Str,
    /// The host to bind or to advertise; empty for all addresses.
    pub host: String,
    /// The port; 0 picks one.
    pub port: u16,
}

/// Names and values with where each came from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    values: BTreeMap<String, (String, String)>,
}

impl Sources {
    /// Sets one value, over what was set before.
    pub fn set(&mut self, origin: impl Into<String>, name: &str, value: &str) {
        self.values.insert(name.to_owned(), (value.to_owned(), origin.into()));
    }

    /// Reads a file in Java's properties format.
    pub fn file(&mut self, path: &PathBuf) -> Result<(), ConfigError> {
        let file = std::fs::File::open(path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
        for line in PropertiesIter::new(std::io::BufReader::new(file)) {
            let line = line.map_err(|error| ConfigError::Syntax {
                path: path.clone(),
                line: error.line_number().unwrap_or_default(),
                what: error.to_string(),
            })?;
            if let LineContent::KVPair(name, value) = line.consume_content() {
                self.set(format!("{}", path.display()), &name, &value);
            }
        }
        Ok(())
    }

    /// Reads `ESKER_*` variables: `ESKER_NUM_PARTITIONS` is `num.partitions`. Those that are no config are the command
    /// line's own.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix("ESKER_") else { continue };
            let name = name.to_ascii_lowercase().replace('_', ".");
            if lookup(Scope::Broker, &name).is_some() {
                self.set(variable, &name, &value);
            }
        }
    }

    /// Holds everything against the table.
    pub fn check(&self) -> Result<Statics, ConfigError> {
        let mut statics = Statics::default();
        for (name, (value, origin)) in &self.values {
            let known = lookup(Scope::Broker, name);
            if known.is_none() && !is_listener_prefixed(name) {
                let near = nearest(Scope::Broker, name);
                return Err(ConfigError::Unknown { origin: origin.clone(), name: name.clone(), near });
            }
            if let Some(key) = known {
                validate(key, value).map_err(|invalid| ConfigError::Invalid {
                    origin: origin.clone(),
                    name: name.clone(),
                    value: value.clone(),
                    expected: invalid.expected,
                })?;
            }
            statics.0.insert(name.clone(), value.trim().to_owned());
        }
        Ok(statics)
    }

    /// Names that were set and that Esker only accepts.
    pub fn without_effect(&self) -> Vec<&str> {
        let acts = |name: &str| lookup(Scope::Broker, name).is_some_and(|key| key.acts);
        self.values.keys().map(String::as_str).filter(|name| !acts(name)).collect()
    }
}

/// `listener.name.<listener>.<config>`: the config of one listener.
fn is_listener_prefixed(name: &str) -> bool {
    name.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.')).is_some_and(|(_, config)| {
        lookup(Scope::Broker, config).is_some()
            || config.split_once('.').is_some_and(|(_, config)| lookup(Scope::Broker, config).is_some())
    })
}

/// The configuration, typed. Names and units are Kafka's.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct BrokerConfig {
    pub statics: Statics,
    pub node_id: i32,
    pub rack: Option<Str>,
    pub listeners: Vec<Listener>,
    pub advertised: Vec<Listener>,
    pub http_listen: String,
    pub log_dirs: Vec<PathBuf>,
    pub recovery_threads: usize,
    pub socket_request_max_bytes: usize,
    pub connections_max_idle: Option<Duration>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub auto_create_topics: bool,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: i32,
    pub fetch_session_slots: usize,
    pub max_request_partition_size_limit: i32,
    pub retention_check_interval: Duration,
    pub producer_id_expiration_ms: i64,
    pub group_initial_rebalance_delay_ms: i64,
    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    pub group_max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval: Duration,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: i32,
}

impl BrokerConfig {
    /// Reads the typed view from checked values.
    pub fn resolve(statics: Statics) -> Result<Self, ConfigError> {
        let text = |name: &str| -> Option<String> {
            let set = statics.0.get(name).cloned();
            set.or_else(|| lookup(Scope::Broker, name).and_then(|key| key.default).map(str::to_owned))
        };
        let long = |name: &str| text(name).and_then(|v| v.parse::<i64>().ok()).unwrap_or_default();
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let size = |name: &str| usize::try_from(long(name)).unwrap_or(usize::MAX);
        let flag = |name: &str| text(name).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let duration = |name: &str| Duration::from_millis(u64::try_from(long(name)).unwrap_or_default());
        let controllers = text("controller.listener.names").unwrap_or_default();
        let clients_use = |listener: &Listener| !list_items(&controllers).any(|name| *name == *listener.name);
        let listeners: Vec<_> = parse_listeners("listeners", &text("listeners").unwrap_or_default())?
            .into_iter()
            .filter(clients_use)
            .collect();
        if listeners.is_empty() {
            return Err(invalid(
                "listeners",
                &text("listeners").unwrap_or_default(),
                "one listener for clients is needed, e.g. PLAINTEXT://:9092",
            ));
        }
        let advertised = match text("advertised.listeners") {
            Some(list) => parse_listeners("advertised.listeners", &list)?.into_iter().filter(clients_use).collect(),
            None => Vec::new(),
        };
        let node_id = statics.0.get("node.id").or_else(|| statics.0.get("broker.id").filter(|id| *id != "-1"));
        let dirs = text("log.dirs").filter(|dirs| !dirs.is_empty()).or_else(|| text("log.dir")).unwrap_or_default();
        Ok(Self {
            node_id: node_id.and_then(|id| id.parse().ok()).unwrap_or(1),
            rack: text("broker.rack").filter(|rack| !rack.is_empty()).map(Str::from),
            listeners,
            advertised,
            http_listen: text("http.listen").unwrap_or_default(),
            log_dirs: list_items(&dirs).map(PathBuf::from).collect(),
            recovery_threads: size("num.recovery.threads.per.data.dir"),
            socket_request_max_bytes: size("socket.request.max.bytes"),
            connections_max_idle: Some(duration("connections.max.idle.ms"))
                .filter(|_| long("connections.max.idle.ms") > 0),
            max_connections: size("max.connections"),
            max_connections_per_ip: size("max.connections.per.ip"),
            num_partitions: int("num.partitions"),
            default_replication_factor: i16::try_from(long("default.replication.factor")).unwrap_or(1),
            auto_create_topics: flag("auto.create.topics.enable"),
            delete_topic_enable: flag("delete.topic.enable"),
            fetch_max_bytes: int("fetch.max.bytes"),
            fetch_session_slots: size("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: int("max.request.partition.size.limit"),
            retention_check_interval: duration("log.retention.check.interval.ms"),
            producer_id_expiration_ms: long("producer.id.expiration.ms"),
            group_initial_rebalance_delay_ms: long("group.initial.rebalance.delay.ms"),
            group_min_session_timeout_ms: int("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: int("group.max.session.timeout.ms"),
            group_max_size: size("group.max.size"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention_ms: long("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval: duration("offsets.retention.check.interval.ms"),
            offsets_topic_partitions: int("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: i16::try_from(long("offsets.topic.replication.factor")).unwrap_or(1),
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes"),
            statics,
        })
    }
}

fn invalid(name: &str, value: &str, expected: &str) -> ConfigError {
    ConfigError::Invalid {
        origin: "configuration".to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

/// `NAME://host:port,...`; a bare `host:port` is PLAINTEXT.
fn parse_listeners(config: &str, list: &str) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for item in list_items(list) {
        let wrong = || invalid(config, item, "a listener is NAME://host:port, e.g. PLAINTEXT://127.0.0.1:9092");
        let (name, address) = item.split_once("://").unwrap_or(("PLAINTEXT", item));
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().map_err(|_| wrong())?;
        if listeners.iter().any(|known| *known.name == *name) {
            return Err(invalid(config, item, "each listener needs a name of its own"));
        }
        listeners.push(Listener { name: Str::copy(name), host, port });
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win() {
        let mut sources = Sources::default();
        sources.set("file", "num.partitions", "2");
        sources.environment(
            [("ESKER_NUM_PARTITIONS".into(), "3".into()), ("ESKER_BOOTSTRAP".into(), "x".into())].into_iter(),
        );
        let config = BrokerConfig::resolve(sources.check().unwrap()).unwrap();
        assert_eq!((config.num_partitions, config.node_id), (3, 1));
        sources.set("--set", "num.partitions", "4");
        assert_eq!(BrokerConfig::resolve(sources.check().unwrap()).unwrap().num_partitions, 4);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let refusal = |name: &str, value: &str| {
            let mut sources = Sources::default();
            sources.set("--set", name, value);
            sources.check().and_then(BrokerConfig::resolve).unwrap_err().to_string()
        };
        assert!(refusal("num.partition", "1").contains("did you mean 'num.partitions'?"));
        assert!(refusal("num.partitions", "many").contains("--set: num.partitions=many: a whole number is needed"));
        assert!(refusal("num.partitions", "0").contains("at least 1"));
        assert!(refusal("listeners", "PLAINTEXT").contains("NAME://host:port"));
    }

    #[test]
    fn a_stock_file_of_kafka_starts_a_broker() {
        let mut sources = Sources::default();
        for (name, value) in [
            ("process.roles", "broker,controller"),
            ("node.id", "7"),
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
            ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("num.network.threads", "3"),
            ("listener.name.plaintext.ssl.keystore.location", "x"),
        ] {
            sources.set("server.properties", name, value);
        }
        let config = BrokerConfig::resolve(sources.check().unwrap()).unwrap();
        assert_eq!((config.node_id, config.listeners.len(), config.advertised.len()), (7, 1, 1));
        assert_eq!(config.advertised[0].host, "localhost");
        assert!(sources.without_effect().contains(&"num.network.threads"));
    }
}
