//! How long a client's request may wait: its own time-out, or [`DEFAULT_TIMEOUT`]. A disk that hangs must not hang its clients too.

use std::time::Duration;

use esker_protocol::error::ErrorCode;

use crate::node::Node;

/// For requests without a time-out of their own: as the default `request.timeout.ms` of Kafka's clients.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// One change takes a sync or two: with less than this even a healthy disk would be too slow for some clients' 0.
const LEAST: Duration = Duration::from_secs(1);

/// What a request's `timeout_ms` allows.
pub(crate) fn request_timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).max(LEAST)
}

/// Starts `work`, which may wait for a disk, on a thread of its own. After the time-out the work continues, but no request waits for it.
pub(crate) fn run_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
    node: &Node,
    timeout: Duration,
    work: F,
) -> impl Future<Output = Result<T, ErrorCode>> + use<T, F> {
    let task = node.run_blocking(work);
    async move {
        match tokio::time::timeout(timeout, task).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                tracing::error!(%error, "a request was cut short by a fault of this broker");
                Err(ErrorCode::UNKNOWN_SERVER_ERROR)
            }
            Err(_) => {
                tracing::warn!(?timeout, "a request waits for a disk that does not answer in time");
                Err(ErrorCode::REQUEST_TIMED_OUT)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::test_support::node;

    #[tokio::test]
    async fn a_wait_for_a_disk_ends() {
        let node = node();
        let (release, gate) = mpsc::channel::<()>();
        let hung = run_blocking(&node, Duration::from_millis(1), move || gate.recv().is_ok());
        assert_eq!(hung.await, Err(ErrorCode::REQUEST_TIMED_OUT));
        drop(release);
        assert_eq!(run_blocking(&node, DEFAULT_TIMEOUT, || 7).await, Ok(7));
        let faulty = run_blocking(&node, DEFAULT_TIMEOUT, || -> i32 { panic!("a fault") });
        assert_eq!(faulty.await, Err(ErrorCode::UNKNOWN_SERVER_ERROR));
    }

    #[test]
    fn time_outs_of_clients_have_a_floor() {
        for (ms, allowed) in [(-1, LEAST), (0, LEAST), (500, LEAST), (5000, Duration::from_secs(5))] {
            assert_eq!(request_timeout(ms), allowed);
        }
    }
}
