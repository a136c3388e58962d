//! Checkpoints (recovery points, log starts, high watermarks) and retention, each as often as configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

use super::scope::Background;

/// However short `replica.high.watermark.checkpoint.interval.ms` is.
const CHECKPOINT_FLOOR: Duration = Duration::from_millis(50);
/// However short `log.retention.check.interval.ms` is.
const RETENTION_FLOOR: Duration = Duration::from_millis(50);

pub(super) async fn run(background: Background) {
    let retention = background.node.config().retention_check_interval;
    let checkpoints = background.node.config().checkpoint_interval.max(CHECKPOINT_FLOOR);
    let pause = checkpoints.min(retention.max(RETENTION_FLOOR));
    let mut retention_due = Instant::now() + retention;
    loop {
        tokio::time::sleep(pause).await;
        let retain = Instant::now() >= retention_due;
        if retain {
            retention_due = Instant::now() + retention;
        }
        let (replicas, now_ms) = (Arc::clone(&background.replicas), background.node.now_ms());
        let done = background.node.run_blocking(move || {
            if let Err(error) = replicas.logs().flush_checkpoints() {
                error!(%error, "checkpoints cannot be written");
            }
            if retain {
                let outcome = replicas.retention_pass(now_ms);
                if outcome.segments > 0 {
                    info!(segments = outcome.segments, bytes = outcome.bytes, "retention removed old segments");
                }
            }
        });
        if let Err(error) = done.await {
            error!(%error, "housekeeping failed");
        }
    }
}
