//! A bar over the time of a run, on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::measure::Window;

const TICK: Duration = Duration::from_millis(100);

/// The bar; it is cleared when dropped.
pub(super) struct TimeBar {
    bar: ProgressBar,
    ticking: Option<JoinHandle<()>>,
}

impl TimeBar {
    /// Shows the time from now to the end of the window.
    pub(super) fn start(window: Window) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), ticking: None };
        }
        let from = Instant::now();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::new(millis(window.end.saturating_duration_since(from)));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {elapsed}") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let ticking = tokio::spawn(async move {
            loop {
                shown.set_message(if Instant::now() < window.start { "warm-up" } else { "measuring" });
                shown.set_position(millis(from.elapsed()));
                sleep(TICK).await;
            }
        });
        Self { bar, ticking: Some(ticking) }
    }
}

impl Drop for TimeBar {
    fn drop(&mut self) {
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
        self.bar.finish_and_clear();
    }
}
