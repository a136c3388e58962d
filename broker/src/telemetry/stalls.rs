//! How long a task that is ready waits for a worker: what a blocked or an overloaded worker does to every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::durations::Durations;
use super::page::{Kind, Page};

/// Between two probes.
const EVERY: Duration = Duration::from_secs(1);
/// A wait of a ready task that counts as a stall.
const STALL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct WorkerStalls {
    delays: Durations,
    stalls: AtomicU64,
    stalled_us: AtomicU64,
}

impl WorkerStalls {
    pub(super) fn new(now: Instant) -> Self {
        Self { delays: Durations::new(now), stalls: AtomicU64::new(0), stalled_us: AtomicU64::new(0) }
    }

    /// Probes the workers of clients for as long as they run. Runs beside them.
    pub async fn watch(self: Arc<Self>, clients: Handle) {
        loop {
            tokio::time::sleep(EVERY).await;
            let sent = Instant::now();
            let Ok(ran) = clients.spawn(async { Instant::now() }).await else { return };
            self.record(ran.saturating_duration_since(sent));
        }
    }

    fn record(&self, delay: Duration) {
        self.delays.record(delay, Instant::now());
        if delay >= STALL {
            self.stalls.fetch_add(1, Ordering::Relaxed);
            let micros = u64::try_from(delay.as_micros()).unwrap_or_default();
            self.stalled_us.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// Writes what was found.
    pub fn write(&self, page: &mut Page, now: Instant) {
        let help = "Time that a ready task waits for a worker, ms; one probe a second";
        self.delays.write_summary(&mut page.family("esker_worker_delay_ms", Kind::Summary, &[], help), &[], now);
        let help = "Probes that waited for a worker for 100 ms or longer";
        page.counter("esker_worker_stalls_total", help, self.stalls.load(Ordering::Relaxed));
        let seconds = self.stalled_us.load(Ordering::Relaxed) as f64 / 1e6;
        page.counter("esker_worker_stalled_seconds_total", "How long these waited, seconds", seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_blocked_worker_is_found() {
        let stalls = Arc::new(WorkerStalls::new(Instant::now()));
        stalls.record(Duration::from_millis(99));
        assert_eq!(stalls.stalls.load(Ordering::Relaxed), 0);
        stalls.record(Duration::from_millis(100));
        assert_eq!(stalls.stalls.load(Ordering::Relaxed), 1);
        let mut page = Page::new(false);
        stalls.write(&mut page, Instant::now());
        let text = String::from_utf8(page.finish().unwrap()).unwrap();
        assert!(text.contains("esker_worker_stalled_seconds_total 0.1\n"), "{text}");
    }
}
