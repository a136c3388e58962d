//! Log lines of loops that try again: a line is written once, and again when a while has passed, with how often it came in between.
//!
//! What is limited is the text: another reason is written at once. The number of texts is bounded, so that a peer that makes up new ones cannot
//! fill the log or the memory.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A text that keeps coming is written again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// Texts that are remembered, and so the lines within [`AGAIN`].
const MAX_TEXTS: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Written {
    at: Instant,
    since: u64,
}

/// Lines that were left out before one that is written; a field of that line where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(pub u64);

impl LeftOut {
    /// As a field of a log line.
    pub fn field(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct RepeatLimiter(Mutex<BTreeMap<String, Written>>);

impl RepeatLimiter {
    /// Whether a line with this text is written now: how often it was left out since the last time, `None` to leave it out.
    pub fn admit(&self, text: &str, now: Instant) -> Option<LeftOut> {
        let mut texts = self.0.lock();
        let is_due = |written: &Written| now.saturating_duration_since(written.at) >= AGAIN;
        if let Some(written) = texts.get_mut(text) {
            if !is_due(written) {
                written.since = written.since.saturating_add(1);
                return None;
            }
            let left_out = written.since;
            *written = Written { at: now, since: 0 };
            return Some(LeftOut(left_out));
        }
        if texts.len() >= MAX_TEXTS {
            texts.retain(|_, written| !is_due(written));
        }
        if texts.len() >= MAX_TEXTS {
            return None;
        }
        texts.insert(text.to_owned(), Written { at: now, since: 0 });
        Some(LeftOut(0))
    }

    /// What was written before does not count any more: the state that it described has ended.
    pub fn forget_all(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_once_and_again_after_a_while() {
        let (limiter, start) = (RepeatLimiter::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(limiter.admit("a", at(0)), Some(LeftOut(0)));
        assert_eq!([1, 100, 59_999].map(|ms| limiter.admit("a", at(ms))), [None; 3]);
        assert_eq!(limiter.admit("b", at(200)), Some(LeftOut(0)), "another reason");
        assert_eq!(limiter.admit("a", at(60_000)), Some(LeftOut(3)));
        assert_eq!(limiter.admit("a", at(60_001)), None);
        limiter.forget_all();
        assert_eq!(limiter.admit("a", at(60_002)), Some(LeftOut(0)));
    }

    #[test]
    fn made_up_texts_fill_neither_log_nor_memory() {
        let (limiter, start) = (RepeatLimiter::default(), Instant::now());
        let admitted = (0..10_000).filter(|n| limiter.admit(&n.to_string(), start).is_some()).count();
        assert_eq!((admitted, limiter.0.lock().len()), (MAX_TEXTS, MAX_TEXTS));
        assert_eq!(limiter.admit("later", start + AGAIN), Some(LeftOut(0)), "what is old makes room");
    }
}
