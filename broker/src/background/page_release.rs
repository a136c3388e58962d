//! Keeps mapped log pages from counting as this process's memory for long.
//!
//! Reads return slices of mapped segments, and every page that a fetch touches stays in the resident set until the map is released,
//! although it is the page cache's and no copy. A consumer at 2 GB/s would make the broker look as large as the log. So the
//! resident file pages are counted a few times a second, and past a limit all maps are released: slices stay good,
//! nothing leaves the page cache, and the next read maps again only what it touches.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::scope::Background;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Bytes of files in the resident set, the program's own (about 9 MiB) included.
const LIMIT: u64 = 24 << 20;

/// Runs until it is dropped.
pub(super) async fn run(background: Background) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        background.replicas.logs().age_residency();
        if background.node.resident_file_bytes().is_none_or(|bytes| bytes <= LIMIT) {
            continue;
        }
        let logs = Arc::clone(background.replicas.logs());
        let released = background.node.run_blocking(move || logs.release_memory());
        if let Err(error) = released.await {
            error!(%error, "mapped pages could not be released");
        }
    }
}
