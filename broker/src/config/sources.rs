//! Configs as they were given, where each came from, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use esker_core::config::{ConfigKey, Scope, Statics, lookup, nearest, validate};
use java_properties::{LineContent, PropertiesIter};
use thiserror::Error;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a properties file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One config that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    value: String,
    origin: Origin,
}

/// Why a broker cannot start with what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Nobody knows the name.
    #[error("{origin}: unknown config {name}={value}{}", suggestion(.nearest))]
    Unknown {
        /// The name.
        name: String,
        /// The value it was given.
        value: String,
        /// Where from.
        origin: Origin,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The value does not fit.
    #[error("{origin}: {name}={value}: {expected}{}", limits(*.key))]
    Invalid {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// Where from.
        origin: Origin,
        /// What is wrong.
        expected: String,
        /// Its row in the table, which tells what is allowed.
        key: Option<&'static ConfigKey>,
    },
    /// The file cannot be read.
    #[error("cannot read the config file {}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// A `--set` that is no `key=value`.
    #[error("--set {0:?}: key=value is needed, e.g. --set num.partitions=3")]
    NoPair(String),
}

fn suggestion(nearest: &Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean {nearest}?"),
        None => ": neither Kafka nor Esker has a config of that name, nor one like it".to_owned(),
    }
}

fn limits(key: Option<&ConfigKey>) -> String {
    let mut text = String::new();
    let Some(key) = key else { return text };
    if !key.allowed.is_empty() {
        text.push_str(&format!("; allowed: {}", key.allowed));
    }
    if let Some(default) = key.default.filter(|default| !default.is_empty()) {
        text.push_str(&format!("; default: {default}"));
    }
    text
}

/// All that was given; of two with one name the later holds.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    by_name: BTreeMap<String, Setting>,
}

/// Variables that are not configs but belong to Esker.
const OTHER_VARIABLES: &[&str] =
    &["ESKER_CONFIG", "ESKER_EPHEMERAL", "ESKER_LOG", "ESKER_LOG_FORMAT", "ESKER_BOOTSTRAP"];

/// Short names, as the flags have them.
fn long_name(short: &str) -> Option<&'static str> {
    Some(match short {
        "data.dir" => "log.dirs",
        "listen" => "listeners",
        "http" => "http.listen",
        _ => return None,
    })
}

impl Sources {
    /// Sets one value, over what was set before.
    pub fn set(&mut self, origin: Origin, name: &str, value: &str) {
        let setting = Setting { name: name.to_owned(), value: value.trim().to_owned(), origin };
        self.by_name.insert(name.to_owned(), setting);
    }

    /// Adds the lines of a file in Java's properties format, as Kafka's `server.properties` is.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |what: String| ConfigError::File { path: path.to_owned(), what };
        let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        for line in PropertiesIter::new(BufReader::new(file)) {
            let line = line.map_err(|error| failed(error.to_string()))?;
            let origin = Origin::File { path: path.to_owned(), line: line.line_number() };
            if let LineContent::KVPair(name, value) = line.consume_content() {
                self.set(origin, &name, &value);
            }
        }
        Ok(())
    }

    /// Adds `ESKER_*` variables: `ESKER_NUM_PARTITIONS` is `num.partitions`.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("ESKER_") else { continue };
            if OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let name = rest.to_ascii_lowercase().replace('_', ".");
            let name = long_name(&name).map_or(name, str::to_owned);
            if lookup(Scope::Broker, &name).is_none() && nearest(Scope::Broker, &name).is_none() {
                // Somebody else's: Kubernetes, for one, sets ESKER_SERVICE_HOST for a service called "esker".
                continue;
            }
            self.set(Origin::Variable(variable), &name, &value);
        }
    }

    /// Adds a `key=value` of the flag `--set`.
    pub fn pair(&mut self, pair: &str) -> Result<(), ConfigError> {
        let (name, value) = pair.split_once('=').ok_or_else(|| ConfigError::NoPair(pair.to_owned()))?;
        self.set(Origin::Flag("--set"), name.trim(), value);
        Ok(())
    }

    /// That the value of `name`, or of an older name of it, is wrong for a reason that the table does not know.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> ConfigError {
        let older = match name {
            "log.dirs" => "log.dir",
            "node.id" => "broker.id",
            other => other,
        };
        let given = self.by_name.get(name).or_else(|| self.by_name.get(older));
        ConfigError::Invalid {
            name: given.map_or(name, |setting| setting.name.as_str()).to_owned(),
            value: given.map(|setting| setting.value.clone()).unwrap_or_default(),
            origin: given.map_or(Origin::Default, |setting| setting.origin.clone()),
            expected: expected.to_owned(),
            key: lookup(Scope::Broker, name),
        }
    }

    /// Holds everything against the table.
    pub fn check(&self) -> Result<Statics, ConfigError> {
        for setting in self.by_name.values() {
            check(setting)?;
        }
        let pairs = self.by_name.values().map(|setting| (setting.name.clone(), setting.value.clone()));
        // Kafka writes "no id" as -1 in the older of the two names.
        let pairs = pairs.filter(|(name, value)| name != "broker.id" || !value.trim().starts_with('-'));
        Ok(Statics(pairs.collect()))
    }

    /// Sources that Kafka knows and that mean nothing here.
    pub fn without_effect(&self) -> Vec<&str> {
        let without = |name: &&str| key_of(name).is_none_or(|key| !key.acts);
        self.by_name.keys().map(String::as_str).filter(without).collect()
    }
}

/// The table's row of a name: of its own, or of what stands behind `listener.name.<listener>.`. `None` for names of
/// plug-ins, which nobody can check.
fn key_of(name: &str) -> Option<&'static ConfigKey> {
    if let Some(key) = lookup(Scope::Broker, name) {
        return Some(key);
    }
    let (_listener, rest) = name.strip_prefix("listener.name.")?.split_once('.')?;
    lookup(Scope::Broker, rest).or_else(|| lookup(Scope::Broker, rest.split_once('.')?.1))
}

/// Prefixes whose configs belong to plug-ins of Kafka's.
const PLUG_INS: &[&str] =
    &["rlmm.config.", "rsm.config.", "metrics.jmx.", "config.providers.", "client.quota.callback."];

fn check(setting: &Setting) -> Result<(), ConfigError> {
    let Setting { name, value, origin } = setting;
    let Some(key) = key_of(name) else {
        if PLUG_INS.iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(());
        }
        return Err(ConfigError::Unknown {
            name: name.clone(),
            value: value.clone(),
            origin: origin.clone(),
            nearest: nearest(Scope::Broker, name),
        });
    };
    validate(key, value).map_err(|invalid| ConfigError::Invalid {
        name: name.clone(),
        value: if key.is_sensitive() { "[hidden]".to_owned() } else { value.clone() },
        origin: origin.clone(),
        expected: invalid.expected,
        key: Some(key),
    })
}
