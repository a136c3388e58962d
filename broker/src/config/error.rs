//! What is wrong with a configuration, and where it was given.

use std::fmt;
use std::path::PathBuf;

use esker_core::config::{ConfigKey, Kind};
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
    /// Not set: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One mistake in what a broker was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Neither Kafka nor Esker has a config of that name.
    #[error("{origin}: unknown config {name}{}{}", display_value(.value), suggestion(.nearest))]
    Unknown {
        /// The name.
        name: String,
        /// The value it was given; `None` if it may be a secret.
        value: Option<String>,
        /// Where from.
        origin: Origin,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A plug-in's config, where `--strict` refuses such.
    #[error("{origin}: {name} belongs to a plug-in: Esker loads none; remove it, or start without --strict")]
    Foreign {
        /// The name.
        name: String,
        /// Where from.
        origin: Origin,
    },
    /// Kafka had such a config.
    #[error("{origin}: Kafka 4 has no config {name} any more: {instead}; remove it")]
    Removed {
        /// The name.
        name: String,
        /// Where from.
        origin: Origin,
        /// What took its place.
        instead: &'static str,
    },
    /// The config protects or keeps data, and is not served.
    #[error("{origin}: {name}{} is not served by this version of Esker: {missing}", display_value(.value))]
    Unserved {
        /// The name.
        name: String,
        /// The value; `None` if it is a secret.
        value: Option<String>,
        /// Where from.
        origin: Origin,
        /// What a broker that ignored it would lack.
        missing: &'static str,
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
        /// Its row in the table, which has the allowed values.
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

/// Every mistake of a configuration, in the order in which it was given: the file's lines, the environment, the flags.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", all(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

fn all(errors: &[ConfigError]) -> String {
    let mut text = match errors {
        [one] => one.to_string(),
        several => {
            let lines: Vec<String> = several.iter().map(|error| format!("\n  {error}")).collect();
            format!("the configuration has {} mistakes:{}", several.len(), lines.concat())
        }
    };
    if errors.iter().any(|error| matches!(error, ConfigError::Unserved { .. })) {
        text.push_str(
            "\nA config that protects or keeps data stops the start where it is not served, so that no broker is open by mistake. \
             Remove these settings to start without that protection.",
        );
    }
    text
}

fn display_value(value: &Option<String>) -> String {
    format!("={}", value.as_deref().unwrap_or("[hidden]"))
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
    if let Some(default) = key.default.filter(|default| !default.is_empty() && key.kind != Kind::Password) {
        text.push_str(&format!("; default: {default}"));
    }
    text
}
