//! Runs the scrub: a round over all closed segments each `log.scrub.interval.ms`, on a blocking thread, at
//! `log.scrub.max.bytes.per.second`. Both are looked at each second, so that a change acts within a round.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use esker_storage::Scrubber;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::scope::Background;
use crate::task::{spawn, spawn_until};

/// How often the configs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Clients that come back after a restart go first.
const AFTER_START: Duration = Duration::from_secs(60);
/// However short the interval is set.
const INTERVAL_FLOOR: Duration = Duration::from_millis(100);

/// Starts it.
pub(super) fn start(background: Background, scrubber: Arc<Scrubber>, stop: &CancellationToken) {
    spawn_until(stop.clone(), run(background, Arc::clone(&scrubber)));
    let stop = stop.clone();
    spawn(async move {
        stop.cancelled().await;
        scrubber.stop();
    });
}

async fn run(background: Background, scrubber: Arc<Scrubber>) {
    let (mut began, mut first) = (Instant::now(), true);
    loop {
        let live = background.live();
        let interval = live.scrub_interval.max(INTERVAL_FLOOR);
        let wait = if first { interval.min(AFTER_START) } else { interval };
        let due = live.scrub_bytes_per_second > 0.0 && began.elapsed() >= wait;
        if !due {
            tokio::time::sleep(LOOK_EVERY.min(wait)).await;
            continue;
        }
        (began, first) = (Instant::now(), false);
        run_round(&background, &scrubber).await;
    }
}

async fn run_round(background: &Background, scrubber: &Arc<Scrubber>) {
    let before = scrubber.stats();
    let (at_work, logs, clock) =
        (Arc::clone(scrubber), Arc::clone(background.replicas.logs()), background.node.clock());
    let mut working = pin!(background.node.run_blocking(move || at_work.round(&logs, clock)));
    let ended = loop {
        let rate = background.live().scrub_bytes_per_second;
        // Switched off: the scrub under way pauses.
        scrubber.set_rate(rate);
        if let Ok(ended) = tokio::time::timeout(LOOK_EVERY, working.as_mut()).await {
            break ended;
        }
    };
    let after = scrubber.stats();
    let (segments, bytes) = (after.segments - before.segments, after.bytes - before.bytes);
    match ended {
        Ok(true) if segments > 0 => {
            info!(segments, bytes, findings = after.findings - before.findings, "a scrub of all closed segments ended");
        }
        Ok(_) => {}
        Err(error) => error!(%error, "the scrub failed"),
    }
}
