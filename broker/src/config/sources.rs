//! Configs as they were set, their sources, and the mistakes in them.
//!
//! All mistakes are found before the first is reported. A config that protects or keeps data and is not served is a
//! mistake wherever it comes from: a file, the environment or a flag.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use esker_core::config::{ConfigKey, Scope, Statics, keys, lookup, nearest, removed, unserved_protection, validate};
use java_properties::{LineContent, PropertiesIter};

use super::error::{ConfigError, ConfigErrors, Origin};
use super::kafka_variables::property_name;

/// One config that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    value: String,
    origin: Origin,
    /// Its place among all that was given.
    order: usize,
}

/// A mistake, and the place of the setting that it is about.
#[derive(Debug, Clone)]
pub(super) struct Mistake {
    order: usize,
    error: ConfigError,
}

/// All settings; of two with one name the later holds.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    by_name: BTreeMap<String, Setting>,
    given: usize,
    /// What could not even be read as a setting.
    unreadable: Vec<Mistake>,
    /// Variables of Apache Kafka's container image that name no config.
    ignored_variables: Vec<String>,
    strict: bool,
}

/// Variables that are not configs but belong to Esker.
const OTHER_VARIABLES: &[&str] = &[
    "ESKER_BOOTSTRAP",
    "ESKER_COMMIT",
    "ESKER_CONFIG",
    "ESKER_EPHEMERAL",
    "ESKER_LOG",
    "ESKER_LOG_FORMAT",
    "ESKER_STRICT",
];

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
    /// Refuses configs of plug-ins, which are only warned about otherwise.
    pub fn refuse_plugin_configs(&mut self) {
        self.strict = true;
    }

    /// Sets one value, over what was set before.
    pub fn set(&mut self, origin: Origin, name: &str, value: &str) {
        let order = self.next_order();
        let setting = Setting { name: name.to_owned(), value: value.trim().to_owned(), origin, order };
        self.by_name.insert(name.to_owned(), setting);
    }

    fn next_order(&mut self) -> usize {
        self.given += 1;
        self.given
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

    /// Adds `KAFKA_*` variables as Apache Kafka's container image reads them, and over them `ESKER_*` variables: `ESKER_NUM_PARTITIONS`
    /// is `num.partitions`.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.collect();
        variables.sort();
        for (variable, value) in &variables {
            let Some(name) = property_name(variable) else { continue };
            if key_of(&name).is_some() {
                self.set(Origin::Variable(variable.clone()), &name, value);
            } else {
                // For the image's scripts or the JVM (KAFKA_HEAP_OPTS), or of something else: Kubernetes sets KAFKA_PORT for a service.
                self.ignored_variables.push(variable.clone());
            }
        }
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("ESKER_") else { continue };
            if OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let name = rest.to_ascii_lowercase().replace('_', ".");
            let name = long_name(&name).map_or(name, str::to_owned);
            if key_of(&name).is_none() && nearest(Scope::Broker, &name).is_none() {
                // Not a config: Kubernetes, for one, sets ESKER_PORT and ESKER_SERVICE_HOST for a service called "esker".
                continue;
            }
            self.set(Origin::Variable(variable), &name, &value);
        }
    }

    /// Adds a `key=value` of the flag `--set`.
    pub fn pair(&mut self, pair: &str) {
        match pair.split_once('=') {
            Some((name, value)) => self.set(Origin::Flag("--set"), name.trim(), value),
            None => {
                let order = self.next_order();
                self.unreadable.push(Mistake { order, error: ConfigError::NoPair(pair.to_owned()) });
            }
        }
    }

    /// That the value of `name`, or of an older name of it, is wrong for a reason that the table does not know.
    pub(super) fn invalid_value(&self, name: &str, expected: &str) -> Mistake {
        let older = match name {
            "log.dirs" => "log.dir",
            "node.id" => "broker.id",
            other => other,
        };
        let given = self.by_name.get(name).or_else(|| self.by_name.get(older));
        let error = ConfigError::Invalid {
            name: given.map_or(name, |setting| setting.name.as_str()).to_owned(),
            value: given.map(|setting| setting.value.clone()).unwrap_or_default(),
            origin: given.map_or(Origin::Default, |setting| setting.origin.clone()),
            expected: expected.to_owned(),
            key: lookup(Scope::Broker, name),
        };
        Mistake { order: given.map_or(usize::MAX, |setting| setting.order), error }
    }

    /// Checks every setting against the table; the mistakes go to `mistakes`.
    pub(super) fn check(&self, mistakes: &mut Vec<Mistake>) -> Statics {
        mistakes.extend(self.unreadable.iter().cloned());
        for setting in self.by_name.values() {
            if let Some(error) = check(setting, self.strict) {
                mistakes.push(Mistake { order: setting.order, error });
            }
        }
        mistakes.extend(self.two_ids());
        let pairs = self.by_name.values().map(|setting| (setting.name.clone(), setting.value.clone()));
        // Kafka writes "no id" as -1 in the older of the two names.
        let pairs = pairs.filter(|(name, value)| name != "broker.id" || !value.trim().starts_with('-'));
        Statics(pairs.collect())
    }

    /// `broker.id` is the older name of `node.id`: with two values it is unknown which broker owns the data.
    fn two_ids(&self) -> Option<Mistake> {
        let (older, newer) = (self.by_name.get("broker.id")?, self.by_name.get("node.id")?);
        let differs = older.value != newer.value && !older.value.starts_with('-');
        let expected = format!("{} says node.id={}: both must name the same id", newer.origin, newer.value);
        differs.then(|| self.invalid_value("broker.id", &expected))
    }

    /// Variables of Apache Kafka's container image that name no config of a broker.
    pub fn ignored_variables(&self) -> &[String] {
        &self.ignored_variables
    }

    /// Where configs come from, without their values: files, variables, flags. Each once.
    pub fn origins(&self) -> Vec<String> {
        let mut origins: Vec<String> = Vec::new();
        for setting in self.by_name.values() {
            let origin = match &setting.origin {
                Origin::File { path, .. } => path.display().to_string(),
                other => other.to_string(),
            };
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        origins.sort_unstable();
        if origins.is_empty() {
            origins.push("defaults".to_owned());
        }
        origins
    }

    /// The value of a config, if it is set.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|setting| setting.value.as_str())
    }

    /// Configs of plug-ins: Esker loads none.
    pub fn foreign(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).filter(|name| is_foreign(name)).collect()
    }

    /// Configs of Kafka that have no effect in Esker.
    pub fn configs_without_effect(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).filter(|name| key_of(name).is_some_and(|key| !key.acts)).collect()
    }
}

/// The mistakes in the order of their settings; `Ok` if there is none.
pub(super) fn report(mut mistakes: Vec<Mistake>) -> Result<(), ConfigErrors> {
    if mistakes.is_empty() {
        return Ok(());
    }
    mistakes.sort_by_key(|mistake| mistake.order);
    Err(ConfigErrors(mistakes.into_iter().map(|mistake| mistake.error).collect()))
}

/// The table's row of a name: of its own, or of the rest behind `listener.name.<listener>.` and a SASL mechanism. `None` for
/// names of plug-ins, which cannot be checked.
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

/// Whether a config is a plug-in's: its first word begins no config of Kafka's or Esker's, and none is spelt like it.
fn is_foreign(name: &str) -> bool {
    if key_of(name).is_some() || removed(name).is_some() {
        return false;
    }
    let Some((first, _)) = name.split_once('.') else { return false };
    let begins = |key: &ConfigKey| key.scope == Scope::Broker && key.name.split('.').next() == Some(first);
    PLUG_INS.iter().any(|prefix| name.starts_with(prefix))
        || first != "listener" && !keys().iter().any(begins) && nearest(Scope::Broker, name).is_none()
}

/// Whether a name looks like that of a secret, whose value no log may have.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "jaas", "key", "token", "credential"].iter().any(|word| name.contains(word))
}

fn check(setting: &Setting, strict: bool) -> Option<ConfigError> {
    let Setting { name, value, origin, .. } = setting;
    let (name, origin) = (name.clone(), origin.clone());
    let Some(key) = key_of(&name) else {
        if let Some(instead) = removed(&name) {
            return Some(ConfigError::Removed { name, origin, instead });
        }
        if is_foreign(&name) {
            return strict.then_some(ConfigError::Foreign { name, origin });
        }
        let nearest = nearest(Scope::Broker, &name);
        let hidden = looks_secret(&name) || nearest.and_then(key_of).is_some_and(ConfigKey::is_sensitive);
        return Some(ConfigError::Unknown { name, value: (!hidden).then(|| value.clone()), origin, nearest });
    };
    let public_value = if key.is_sensitive() { None } else { Some(value.clone()) };
    if let Err(invalid) = validate(key, value) {
        let value = public_value.unwrap_or_else(|| "[hidden]".to_owned());
        return Some(ConfigError::Invalid { name, value, origin, expected: invalid.expected, key: Some(key) });
    }
    let missing = unserved_protection(key, value)?;
    Some(ConfigError::Unserved { name, value: public_value, origin, missing })
}
