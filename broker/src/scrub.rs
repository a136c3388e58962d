//! Runs the scrub: a round over all closed segments each `log.scrub.interval.ms`, on a blocking thread, at
//! `log.scrub.max.bytes.per.second`. Both are looked at each second, so that a change acts within a round.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::broker::Broker;
use crate::clock::now_ms;
use crate::config::LiveConfig;

/// How often the configs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Clients that come back after a restart go first.
const AFTER_START: Duration = Duration::from_secs(60);
/// However short the interval is set.
const INTERVAL_FLOOR: Duration = Duration::from_millis(100);

/// Starts it.
pub(crate) fn start(broker: &Arc<Broker>, stop: &CancellationToken) {
    tokio::spawn(stop.clone().run_until_cancelled_owned(run(Arc::clone(broker))));
    let (broker, stop) = (Arc::clone(broker), stop.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        broker.scrubber.stop();
    });
}

async fn run(broker: Arc<Broker>) {
    let (mut began, mut first) = (Instant::now(), true);
    loop {
        let live = LiveConfig::read(&broker.metadata, &broker.config);
        let interval = live.scrub_interval.max(INTERVAL_FLOOR);
        let wait = if first { interval.min(AFTER_START) } else { interval };
        let due = live.scrub_bytes_per_second > 0.0 && began.elapsed() >= wait;
        if !due {
            tokio::time::sleep(LOOK_EVERY.min(wait)).await;
            continue;
        }
        (began, first) = (Instant::now(), false);
        round(&broker).await;
    }
}

async fn round(broker: &Arc<Broker>) {
    let before = broker.scrubber.stats();
    let (scrubber, logs) = (Arc::clone(&broker.scrubber), Arc::clone(broker.replicas.logs()));
    let mut working = tokio::task::spawn_blocking(move || scrubber.round(&logs, now_ms));
    let ended = loop {
        let rate = LiveConfig::read(&broker.metadata, &broker.config).scrub_bytes_per_second;
        // Switched off, what is under way stands still.
        broker.scrubber.set_rate(rate);
        if let Ok(ended) = tokio::time::timeout(LOOK_EVERY, &mut working).await {
            break ended;
        }
    };
    let after = broker.scrubber.stats();
    let (segments, bytes) = (after.segments - before.segments, after.bytes - before.bytes);
    match ended {
        Ok(true) if segments > 0 => {
            info!(segments, bytes, findings = after.findings - before.findings, "a scrub of all closed segments ended");
        }
        Ok(_) => {}
        Err(error) => error!(%error, "the scrub failed"),
    }
}
