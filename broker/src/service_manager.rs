//! The state of the broker as a unit of `Type=notify` receives it (sd_notify): ready, stopping, and alive.
//!
//! Alive (`WatchdogSec=`) means that the workers of clients run tasks: the message is sent by a task of theirs. A process that hangs as a whole
//! is ended and started again; a slow disk or an overload that still makes progress is not.
//! Without `$NOTIFY_SOCKET` nothing is sent. Must never: send that a broker is ready before the ready line is printed.

use std::time::Duration;

use sd_notify::NotifyState;

/// Sends that the broker serves. A service manager that does not listen is named in the log; the broker serves all the same.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sends that the broker stops.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Sends that the broker is alive, twice in each interval of the watchdog; ends at once if there is none. Runs on the workers of clients.
pub async fn feed_watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled().filter(|interval| *interval > Duration::ZERO) else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be notified; see NOTIFY_SOCKET");
    }
}
