//! The log: lines for people on a terminal, JSON for machines; always to stderr.
//!
//! An event is one line, whatever clients put into names: group ids, client ids and topics may hold line feeds and escape
//! sequences. Control characters in a line are escaped where it is written, so no call has to think of it. (JSON escapes them
//! itself.)

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use thiserror::Error;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::loggers::{LevelChange, LevelError, LoggerLevels};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For finding faults.
    Debug,
    /// What happens (the default).
    Info,
    /// What needs a look.
    Warn,
    /// What needs an operator.
    Error,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// `ESKER_LOG` is no filter.
#[derive(Debug, Error)]
#[error("ESKER_LOG={filter:?}: {source}; it is a level (info) or levels of modules (info,esker_broker::raft=debug)")]
pub struct LoggingError {
    filter: String,
    #[source]
    source: ParseError,
}

/// What goes wrong with a change of members is an error of its caller, which says more than openraft does.
const QUIET: &str = "openraft=error,openraft::raft::api::management=off";

/// Levels of this process, and the way to the filter that acts on them.
struct Logging {
    levels: Mutex<LoggerLevels>,
    filter: OnceLock<reload::Handle<EnvFilter, Registry>>,
}

static LOGGING: LazyLock<Logging> = LazyLock::new(|| Logging {
    levels: Mutex::new(LoggerLevels::new(&format!("info,{QUIET}"))),
    filter: OnceLock::new(),
});

/// The filter to start with: the flag sets the root's level, `ESKER_LOG` levels of modules and, without the flag, the root's.
fn first_filter(level: Option<LogLevel>, variable: Option<String>) -> Result<String, LoggingError> {
    let given = variable.filter(|filter| !filter.trim().is_empty());
    if let Some(filter) = &given {
        let invalid = |source| LoggingError { filter: filter.clone(), source };
        EnvFilter::builder().parse(filter).map_err(invalid)?;
    }
    let root = level.map(|level| level.name().to_owned());
    // Of two directives for one target the later holds.
    let parts = match given {
        Some(filter) => vec![Some(filter), root],
        None => vec![Some(root.unwrap_or_else(|| "info".to_owned())), Some(QUIET.to_owned())],
    };
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(","))
}

/// Starts logging. `ESKER_LOG` filters as `RUST_LOG` does (default `info`).
///
/// # Errors
/// `ESKER_LOG` is no filter.
pub fn init_logging(format: LogFormat, level: Option<LogLevel>) -> Result<(), LoggingError> {
    let filter = first_filter(level, std::env::var("ESKER_LOG").ok())?;
    *LOGGING.levels.lock() = LoggerLevels::new(&filter);
    let (layer, handle) = reload::Layer::new(EnvFilter::new(&filter));
    let colors = io::stderr().is_terminal();
    let writer = move || OneLine { inner: io::stderr(), colors };
    let registry = tracing_subscriber::registry().with(layer);
    let started = match format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_writer(writer).with_ansi(colors).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(io::stderr)).try_init(),
    };
    // A second start in one process (tests) keeps the first one's logging.
    if started.is_ok() {
        let _ = LOGGING.filter.set(handle);
    }
    Ok(())
}

/// Each logger of this process with its level.
pub fn logger_levels() -> Vec<(&'static str, &'static str)> {
    LOGGING.levels.lock().all().collect()
}

/// Changes levels: all of them, or none and the error of the first that cannot be changed.
///
/// # Errors
/// Why they cannot be changed.
pub fn change_logger_levels(changes: &[(&str, LevelChange<'_>)]) -> Result<(), LevelError> {
    let mut levels = LOGGING.levels.lock();
    let mut changed = levels.clone();
    for (logger, change) in changes {
        changed.apply(logger, *change)?;
    }
    if let Some(handle) = LOGGING.filter.get()
        && let Err(error) = handle.reload(EnvFilter::new(changed.filter()))
    {
        tracing::error!(%error, "levels of loggers cannot be changed");
    }
    *levels = changed;
    Ok(())
}

/// Writes events, each of which comes with one call and ends with a line feed: as one line.
struct OneLine<W> {
    inner: W,
    /// Sequences that set colors pass.
    colors: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.inner.write_all(one_line(event, self.colors).as_ref())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An event with its control characters escaped, but for the line feed at its end.
fn one_line(event: &[u8], colors: bool) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(event) else { return Cow::Borrowed(event) };
    let line = text.strip_suffix('\n').unwrap_or(text);
    // Line and paragraph separators end a line for some viewers.
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !line.contains(breaks) {
        return Cow::Borrowed(event);
    }
    let mut out = String::with_capacity(line.len() + 16);
    let mut rest = line;
    while let Some(at) = rest.find(breaks) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let color = color_sequence(from).filter(|_| colors);
        let Some(c) = from.chars().next() else { break };
        match color {
            Some(sequence) => out.push_str(sequence),
            None => {
                let _ = write!(out, "{}", c.escape_default());
            }
        }
        rest = from.get(color.map_or(c.len_utf8(), str::len)..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('\n');
    Cow::Owned(out.into_bytes())
}

/// The sequence that sets colors at the start of `text`, if there is one.
fn color_sequence(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("\u{1b}[")?;
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    digits.get(end..)?.starts_with('m').then(|| text.get(..end + 3))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_for_the_root_alone() {
        let filter = |level, variable: Option<&str>| first_filter(level, variable.map(str::to_owned));
        assert_eq!(filter(None, None).unwrap(), format!("info,{QUIET}"));
        assert_eq!(filter(Some(LogLevel::Debug), None).unwrap(), format!("debug,{QUIET}"));
        assert_eq!(filter(None, Some("warn,openraft=debug")).unwrap(), "warn,openraft=debug");
        let both = filter(Some(LogLevel::Error), Some("warn,openraft=debug")).unwrap();
        assert_eq!(both, "warn,openraft=debug,error");
        let levels = LoggerLevels::new(&both);
        assert_eq!(levels.all().next(), Some(("root", "ERROR")));
        let error = filter(None, Some("openraft=loud")).unwrap_err().to_string();
        assert!(error.contains("ESKER_LOG=\"openraft=loud\""), "{error}");
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let forged = "g\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2K\u{2028}\u{85}\u{1b}[31mred";
        for colors in [false, true] {
            let kept = Kept::default();
            let writer = {
                let kept = kept.clone();
                move || OneLine { inner: kept.clone(), colors }
            };
            let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(colors).finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(group = %forged, debug = ?forged, "before {forged}");
                tracing::info!("second");
            });
            let text = String::from_utf8(kept.0.lock().clone()).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(lines.len(), 3, "{text}");
            assert!(lines[0].contains(r"g\n2026-01-01"), "{text}");
            assert!(lines[1].ends_with("second"), "{text}");
            let left = |c: char| c.is_control() && !(colors && c == '\u{1b}');
            assert!(!lines.iter().any(|line| line.contains(left)), "{text:?}");
            assert!(!text.contains("\u{1b}[2K") && !text.contains('\u{2028}'), "{text:?}");
        }
    }

    #[test]
    fn a_line_without_control_characters_is_not_copied() {
        assert!(matches!(one_line(b"INFO group=\xc3\xa9\n", false), Cow::Borrowed(_)));
        assert!(matches!(one_line(b"\xff\n", false), Cow::Borrowed(_)));
    }
}
