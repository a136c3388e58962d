//! Values of flags that both benches have.

use std::time::Duration;

use super::super::error::CliError;
use super::super::times::parse_span;

/// Producers or consumers of one run, at most.
pub(super) const CONCURRENCY: i64 = 1000;

/// A span of a flag, such as `10s`; `0s` only where nothing is a choice.
pub(super) fn parse_flag_span(flag: &str, text: &str, may_be_zero: bool) -> Result<Duration, CliError> {
    let millis = parse_span(text).and_then(|span| u64::try_from(span).ok()).filter(|span| may_be_zero || *span > 0);
    let invalid = || CliError::Usage(format!("{flag} is a time span such as 500ms, 10s, 5m, not '{text}'"));
    millis.map(Duration::from_millis).ok_or_else(invalid)
}
