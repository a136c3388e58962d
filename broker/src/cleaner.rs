//! Runs log compaction: `log.cleaner.threads` loops beside everything else, each on a blocking thread while it works.
//!
//! One that finds nothing to do sleeps `log.cleaner.backoff.ms`. A stop makes passes under way end after the batch they are at.

use std::sync::Arc;
use std::time::Duration;

use esker_storage::Cleaner;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::broker::Broker;
use crate::clock::now_ms;

/// However short the backoff is set: looking at all logs must not become all there is.
const BACKOFF_FLOOR: Duration = Duration::from_millis(10);

/// Starts the loops, if `log.cleaner.enable` says so.
pub(crate) fn start(broker: &Arc<Broker>, stop: &CancellationToken) {
    let Some(cleaner) = &broker.cleaner else { return };
    for _ in 0..broker.config.cleaner.threads.max(1) {
        tokio::spawn(stop.clone().run_until_cancelled_owned(run(Arc::clone(broker), Arc::clone(cleaner))));
    }
    let (cleaner, stop) = (Arc::clone(cleaner), stop.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        cleaner.stop();
    });
}

async fn run(broker: Arc<Broker>, cleaner: Arc<Cleaner>) {
    let backoff = broker.config.cleaner_backoff.max(BACKOFF_FLOOR);
    loop {
        let (logs, cleaner) = (Arc::clone(broker.replicas.logs()), Arc::clone(&cleaner));
        match tokio::task::spawn_blocking(move || cleaner.pass(&logs, now_ms())).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(backoff).await,
            Err(error) => {
                error!(%error, "a compaction failed");
                tokio::time::sleep(backoff).await;
            }
        }
    }
}
