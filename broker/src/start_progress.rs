//! How far the start of this node is, and what blocks it: written by the start, read by HTTP.
//!
//! A reason goes to the log when it is new, and again when it has lasted for a while. Must never: know what a step does.

use std::sync::atomic::{AtomicU64, Ordering};

use esker_core::health::{Done, StartStep, describe_start};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::info;

use crate::telemetry::RepeatLimiter;

/// See the module.
#[derive(Debug, Default)]
pub struct StartProgress {
    state: Mutex<(StartStep, Vec<String>)>,
    /// Entries of the metadata log that are applied, and that have to be.
    applied: AtomicU64,
    target: AtomicU64,
    written: RepeatLimiter,
}

impl StartProgress {
    /// A step begins; nothing blocks it yet. Nothing follows [`StartStep::Serving`].
    pub fn begin(&self, step: StartStep) {
        let mut state = self.state.lock();
        if state.0 != StartStep::Serving {
            *state = (step, Vec::new());
        }
    }

    /// What blocks a step now, one reason an item.
    pub fn report_blocked(&self, step: StartStep, reasons: Vec<String>) {
        let why = reasons.join("; ");
        if let Some(left_out) = self.written.admit(&why, Instant::now()) {
            info!(why, left_out = left_out.field(), "{}", step.describe());
        }
        let mut state = self.state.lock();
        if state.0 != StartStep::Serving {
            *state = (step, reasons);
        }
    }

    /// How far the metadata log is applied, of what has to be.
    pub fn report_applied(&self, applied: u64, target: u64) {
        self.applied.store(applied, Ordering::Relaxed);
        self.target.store(target, Ordering::Relaxed);
    }

    /// The step that the start is at.
    pub fn step(&self) -> StartStep {
        self.state.lock().0
    }

    /// The state for people, one line a reason, with the progress of logs and segments.
    pub fn lines(&self, logs: (Done, Done)) -> Vec<String> {
        let (step, blocked_by) = self.state.lock().clone();
        let log = Done { done: self.applied.load(Ordering::Relaxed), all: self.target.load(Ordering::Relaxed) };
        describe_start(step, &blocked_by, logs, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_over_stays_over() {
        let progress = StartProgress::default();
        assert_eq!(progress.step(), StartStep::Checking);
        progress.report_blocked(StartStep::Forming, vec!["a:1 does not answer".to_owned()]);
        assert!(progress.lines(Default::default()).iter().any(|line| line == "a:1 does not answer"));
        progress.begin(StartStep::CatchingUp);
        progress.report_applied(3, 7);
        assert_eq!(
            progress.lines(Default::default()),
            ["starting: fenced: catching up with the metadata log, at 3 of 7"]
        );
        progress.begin(StartStep::Serving);
        progress.report_blocked(StartStep::Registering, vec!["a registration that is tried again".to_owned()]);
        assert_eq!(progress.step(), StartStep::Serving);
    }
}
