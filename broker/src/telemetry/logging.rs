//! The log: lines for people on a terminal, JSON for machines; always to stderr.
//!
//! An event is one line, whatever clients put into names: group ids, client ids and topics may hold line feeds and escape
//! sequences. Control characters in a line are escaped where it is written, so no call has to think of it. (JSON escapes them
//! itself.)

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `ESKER_LOG` filters as `RUST_LOG` does (default `info`). What goes wrong with a change of members is an error of its caller,
/// which says more than openraft does.
pub fn init_logging(format: LogFormat) {
    let filter = std::env::var("ESKER_LOG").ok().and_then(|f| EnvFilter::try_new(f).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info,openraft=error,openraft::raft::api::management=off"));
    let colors = io::stderr().is_terminal();
    let writer = move || OneLine { inner: io::stderr(), colors };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A second start in one process (tests) keeps the first one's logging.
    let _ = match format {
        LogFormat::Text => builder.with_writer(writer).with_ansi(colors).with_target(false).try_init(),
        LogFormat::Json => builder.with_writer(io::stderr).json().try_init(),
    };
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
