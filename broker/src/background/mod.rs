//! Loops that work beside requests: compaction, the scrub, retention and checkpoints, flushes by age, write-behind, page release.
//!
//! Each loop is given exactly what it works on, and reads configs that act at run time from the newest metadata image
//! ([`crate::config::LiveConfig`]). Must never: be called from the way of a request.

mod cleaner;
mod flush_by_age;
mod housekeeping;
mod page_release;
mod scope;
mod scrub;
mod write_behind;

pub use cleaner::{CleanerThreads, run_cleaner};
pub use scope::Background;

use std::sync::Arc;

use esker_storage::Scrubber;
use tokio_util::sync::CancellationToken;

use crate::task::spawn_until;

/// Starts all loops but compaction's; they end with `stop`.
pub fn start(scope: &Background, scrubber: &Arc<Scrubber>, stop: &CancellationToken) {
    let until_stop = || stop.clone();
    spawn_until(until_stop(), housekeeping::run(scope.clone()));
    spawn_until(until_stop(), flush_by_age::run(scope.clone()));
    spawn_until(until_stop(), write_behind::run(scope.clone()));
    spawn_until(until_stop(), page_release::run(scope.clone()));
    scrub::start(scope.clone(), Arc::clone(scrubber), stop);
}
