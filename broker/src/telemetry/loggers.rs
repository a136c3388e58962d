//! Levels of loggers, as Kafka's BROKER_LOGGER configs change them (KIP-412). A logger is a module of Esker; one without a level of its own has
//! that of the nearest module above it, and at last the root's.
//!
//! Must never: read a clock or write a log line.

use std::collections::BTreeMap;

use thiserror::Error;

/// The name of the logger that is above all others.
pub const ROOT: &str = "root";
/// Kafka's levels. `FATAL` is Esker's `ERROR`: there is none above it.
pub const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
/// The loggers beside the root, in order.
pub const LOGGERS: [&str; 19] = [
    "esker_broker",
    "esker_broker::background",
    "esker_broker::cluster",
    "esker_broker::config",
    "esker_broker::coordinator",
    "esker_broker::daemon",
    "esker_broker::handlers",
    "esker_broker::http",
    "esker_broker::metadata_dir",
    "esker_broker::node",
    "esker_broker::peer",
    "esker_broker::raft",
    "esker_broker::replica",
    "esker_broker::serve",
    "esker_broker::server",
    "esker_client",
    "esker_core",
    "esker_storage",
    "openraft",
];

/// What happens to the level of a logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelChange<'a> {
    /// It has this level from here on.
    Set(&'a str),
    /// It has that of the loggers above it.
    Remove,
}

/// Why a level is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LevelError {
    /// INVALID_CONFIG.
    #[error("Logger {0} does not exist! Loggers are root and the modules of Esker: see kafka-configs --describe.")]
    UnknownLogger(String),
    /// INVALID_CONFIG.
    #[error(
        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are {}",
        LEVELS.join(", ")
    )]
    UnknownLevel {
        /// The logger.
        logger: String,
        /// What is no level.
        level: String,
    },
    /// INVALID_REQUEST.
    #[error("Removing the log level of the root logger is not allowed")]
    RootNeedsLevel,
}

/// The levels of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggerLevels {
    /// What the process was started with, as a filter.
    started_with: String,
    /// What was changed since then; a name without a level is back to those above it.
    changed: BTreeMap<&'static str, Option<&'static str>>,
}

impl LoggerLevels {
    /// Levels by a filter of the form `level,target=level`.
    pub fn new(started_with: &str) -> Self {
        Self { started_with: started_with.to_owned(), changed: BTreeMap::new() }
    }

    /// Checks a change without making it.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn check(name: &str, change: LevelChange<'_>) -> Result<(), LevelError> {
        logger(name)?;
        match change {
            LevelChange::Set(value) => level(name, value).map(drop),
            LevelChange::Remove if name == ROOT => Err(LevelError::RootNeedsLevel),
            LevelChange::Remove => Ok(()),
        }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn apply(&mut self, name: &str, change: LevelChange<'_>) -> Result<(), LevelError> {
        Self::check(name, change)?;
        let logger = logger(name)?;
        let level = match change {
            LevelChange::Set(value) => Some(level(name, value)?),
            LevelChange::Remove => None,
        };
        self.changed.insert(logger, level);
        Ok(())
    }

    /// Each logger with its level, the root first.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        std::iter::once(ROOT).chain(LOGGERS).map(|logger| (logger, self.level_of(logger)))
    }

    fn level_of(&self, logger: &str) -> &'static str {
        let mut name = logger;
        loop {
            if let Some(level) = self.own_level(name) {
                return level;
            }
            match name.rsplit_once("::") {
                Some((above, _)) => name = above,
                None => return self.own_level(ROOT).unwrap_or("ERROR"),
            }
        }
    }

    /// The level that was given to exactly this logger.
    fn own_level(&self, name: &str) -> Option<&'static str> {
        if let Some(changed) = self.changed.get(name) {
            return *changed;
        }
        let directives = self.started_with.split(',').map(str::trim);
        let found = directives.rev().find_map(|directive| match directive.split_once('=') {
            Some((target, level)) => (target == name).then_some(level),
            None => (name == ROOT).then_some(directive),
        });
        known_level(&found?.to_ascii_uppercase())
    }

    /// The filter for `tracing`: what the process was started with, without the loggers that were changed, and these.
    pub fn filter(&self) -> String {
        let is_kept = |directive: &&str| match directive.split_once('=') {
            Some((target, _)) => !self.changed.contains_key(target),
            None => known_level(&directive.to_ascii_uppercase()).is_none() || !self.changed.contains_key(ROOT),
        };
        let kept = self.started_with.split(',').map(str::trim).filter(is_kept).map(str::to_owned);
        let changed = self.changed.iter().filter_map(|(logger, level)| {
            let level = match (*level)? {
                "FATAL" => "ERROR",
                level => level,
            };
            Some(if *logger == ROOT { level.to_owned() } else { format!("{logger}={level}") })
        });
        kept.chain(changed).filter(|directive| !directive.is_empty()).collect::<Vec<_>>().join(",")
    }
}

fn logger(name: &str) -> Result<&'static str, LevelError> {
    let known = std::iter::once(ROOT).chain(LOGGERS).find(|known| *known == name);
    known.ok_or_else(|| LevelError::UnknownLogger(name.to_owned()))
}

fn known_level(value: &str) -> Option<&'static str> {
    LEVELS.into_iter().find(|level| *level == value)
}

fn level(logger: &str, value: &str) -> Result<&'static str, LevelError> {
    let unknown = || LevelError::UnknownLevel { logger: logger.to_owned(), level: value.to_owned() };
    known_level(value).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(levels: &LoggerLevels, logger: &str) -> &'static str {
        levels.all().find(|(name, _)| *name == logger).unwrap().1
    }

    #[test]
    fn a_logger_without_a_level_has_that_of_the_one_above() {
        let mut levels = LoggerLevels::new("info,openraft=error,esker_broker::raft=trace");
        assert_eq!(levels.filter(), "info,openraft=error,esker_broker::raft=trace");
        assert_eq!((of(&levels, ROOT), of(&levels, "openraft")), ("INFO", "ERROR"));
        assert_eq!((of(&levels, "esker_broker::raft"), of(&levels, "esker_broker::server")), ("TRACE", "INFO"));
        levels.apply("esker_broker", LevelChange::Set("DEBUG")).unwrap();
        assert_eq!((of(&levels, "esker_broker::server"), of(&levels, "esker_storage")), ("DEBUG", "INFO"));
        levels.apply("esker_broker::raft", LevelChange::Remove).unwrap();
        assert_eq!(of(&levels, "esker_broker::raft"), "DEBUG");
        levels.apply(ROOT, LevelChange::Set("FATAL")).unwrap();
        assert_eq!((of(&levels, ROOT), of(&levels, "esker_storage")), ("FATAL", "FATAL"));
        assert_eq!(levels.filter(), "openraft=error,esker_broker=DEBUG,ERROR");
    }

    #[test]
    fn refusals_are_kafkas() {
        let mut levels = LoggerLevels::new("info");
        let before = levels.clone();
        let unknown = levels.apply("kafka.server.KafkaApis", LevelChange::Set("DEBUG")).unwrap_err();
        assert_eq!(unknown, LevelError::UnknownLogger("kafka.server.KafkaApis".to_owned()));
        let no_level = levels.apply("openraft", LevelChange::Set("debug")).unwrap_err();
        assert!(no_level.to_string().contains("TRACE, DEBUG, INFO, WARN, ERROR, FATAL"), "{no_level}");
        assert_eq!(levels.apply(ROOT, LevelChange::Remove), Err(LevelError::RootNeedsLevel));
        assert!(levels.apply("none", LevelChange::Remove).is_err());
        assert_eq!(levels, before);
    }
}
