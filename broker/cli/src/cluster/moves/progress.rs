//! Progress of moves: a bar on a terminal, lines elsewhere, objects with `--json`.

use std::io::IsTerminal;
use std::time::Duration;

use esker_admin::WaitsFor;
use esker_client::TopicPartition;
use esker_core::plan::Blocker;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use esker_records::error::CliError;
use esker_records::output::print_line;
use esker_records::units::{show_bytes, show_duration};

/// Between two lines where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// How far moves are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    /// Moves that are complete, and all.
    pub moves: (usize, usize),
    /// Moves in progress.
    pub in_progress: usize,
    /// Bytes that were copied, and all.
    pub bytes: (u64, u64),
    /// The partitions that wait, those that need an operator first.
    pub waiting: Vec<(TopicPartition, Blocker)>,
}

impl Progress {
    /// The time that is left at the rate so far; `None` before anything is copied.
    pub(super) fn remaining(&self, copied_before: u64, elapsed: Duration) -> Option<Duration> {
        let copied = self.bytes.0.saturating_sub(copied_before);
        let left = self.bytes.1.saturating_sub(self.bytes.0);
        if copied == 0 || elapsed.is_zero() {
            return None;
        }
        let seconds = elapsed.as_secs_f64() * left as f64 / copied as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// One line.
    pub(super) fn line(&self, remaining: Option<Duration>) -> String {
        let ((done, all), (copied, bytes)) = (self.moves, self.bytes);
        let eta = remaining.map(|time| format!("  about {} left", show_duration(time))).unwrap_or_default();
        let blocked = self.blocked().map(|text| format!("  {text}")).unwrap_or_default();
        format!(
            "{done} of {all} partitions  {} in progress  {} of {}{eta}{blocked}",
            self.in_progress,
            show_bytes(copied),
            show_bytes(bytes)
        )
    }

    /// The first partition that waits, and what for.
    pub(super) fn blocked(&self) -> Option<String> {
        let (tp, blocker) = self.waiting.first()?;
        Some(format!("{tp} {}", describe_blocker(*blocker)))
    }
}

/// What a partition waits for.
pub(super) fn describe_blocker(blocker: Blocker) -> String {
    match blocker {
        Blocker::NoLeader => "has no leader: start a broker with an in-sync replica".to_owned(),
        Blocker::NotAlive(broker) => format!("waits for broker {broker}, which is not alive: start it"),
        Blocker::CatchingUp(broker) => format!("waits for the replica on broker {broker} to catch up"),
    }
}

/// Reports progress.
#[derive(Debug)]
pub(super) struct Reporter {
    json: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    copied_before: Option<u64>,
    last: Option<(Instant, Progress)>,
}

impl Reporter {
    pub(super) fn new(json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {percent}% {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { json, bar, started: Instant::now(), copied_before: None, last: None }
    }

    /// Shows the progress, where it is due.
    pub(super) fn report(&mut self, progress: &Progress) -> Result<(), CliError> {
        let copied_before = *self.copied_before.get_or_insert(progress.bytes.0);
        let remaining = progress.remaining(copied_before, self.started.elapsed());
        if let Some(bar) = &self.bar {
            // Bytes and partitions both count: partitions may be empty.
            let (moves, bytes) = (progress.moves, progress.bytes);
            let share = |done: u64, all: u64| if all == 0 { 1.0 } else { done as f64 / all as f64 };
            let moved = share(moves.0 as u64, moves.1 as u64);
            let all = if bytes.1 == 0 { moved } else { (share(bytes.0, bytes.1) + moved) / 2.0 };
            bar.set_length(1000);
            bar.set_position((all * 1000.0) as u64);
            bar.set_message(progress.line(remaining));
            return Ok(());
        }
        if !self.is_due(progress) {
            return Ok(());
        }
        self.last = Some((Instant::now(), progress.clone()));
        if self.json {
            let waiting = progress.waiting.iter().map(|(tp, blocker)| {
                json!({"topic": tp.topic.as_str(), "partition": tp.partition, "waits_for": WaitsFor::from(*blocker)})
            });
            let event = json!({
                "event": "progress", "moved": progress.moves.0, "moves": progress.moves.1,
                "in_progress": progress.in_progress, "copied_bytes": progress.bytes.0, "bytes": progress.bytes.1,
                "remaining_seconds": remaining.map(|time| time.as_secs()), "waiting": waiting.collect::<Vec<_>>(),
            });
            return Ok(print_line(&event.to_string())?);
        }
        Ok(print_line(&progress.line(remaining))?)
    }

    /// A line is due after a while, and when the number of moves or the reason of a block changes.
    fn is_due(&self, progress: &Progress) -> bool {
        let Some((at, last)) = &self.last else { return true };
        let needs_operator = |progress: &Progress| {
            let blocker = progress.waiting.first().map(|(_, blocker)| *blocker);
            blocker.filter(|blocker| !matches!(blocker, Blocker::CatchingUp(_)))
        };
        at.elapsed() >= LINES_EVERY && progress != last
            || progress.moves != last.moves
            || needs_operator(progress) != needs_operator(last)
    }

    /// The bar goes.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_partition_that_blocks() {
        let progress = Progress {
            moves: (2, 5),
            in_progress: 1,
            bytes: (3 << 20, 9 << 20),
            waiting: vec![(TopicPartition::new("t", 3), Blocker::NotAlive(4))],
        };
        let remaining = progress.remaining(1 << 20, Duration::from_secs(10));
        assert_eq!(remaining, Some(Duration::from_secs(30)));
        assert_eq!(
            progress.line(remaining),
            "2 of 5 partitions  1 in progress  3.0 MiB of 9.0 MiB  about 30s left  t-3 waits for broker 4, which is not alive: start it"
        );
        assert_eq!(progress.remaining(3 << 20, Duration::from_secs(10)), None, "nothing is copied yet");
    }
}
