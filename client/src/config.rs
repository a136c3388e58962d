//! Settings that everything built on one client shares.

use std::time::Duration;

/// How a [`Client`](crate::Client) finds and talks to brokers. The defaults suit most uses.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Addresses (`host:port`) to start from; one that answers is enough.
    pub bootstrap: Vec<String>,
    /// Name that brokers see in logs, metrics and quotas.
    pub client_id: String,
    /// Longest wait for a connection to stand, name lookup and version check included.
    pub connect_timeout: Duration,
    /// Longest wait for an answer. A connection that keeps one waiting longer is closed.
    pub request_timeout: Duration,
    /// First pause before something is tried again; it doubles up to `retry_backoff_max`.
    pub retry_backoff: Duration,
    /// Longest such pause, also between attempts to reconnect.
    pub retry_backoff_max: Duration,
    /// Metadata older than this is refreshed before it is used.
    pub metadata_max_age: Duration,
    /// Requests that may wait for answers on one connection.
    pub max_in_flight: usize,
    /// Largest answer that is read; a longer one closes the connection.
    pub max_response_bytes: usize,
    /// How long a topic that is not there is waited for where it may come to be (a producer with automatic creation).
    pub topic_wait: Duration,
}

impl ClientConfig {
    /// The defaults, with a comma-separated list of addresses. One without a port means port 9092.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.split(',').map(str::trim).filter(|a| !a.is_empty()).map(with_port).collect();
        Self {
            bootstrap,
            client_id: "esker-client".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            max_in_flight: 64,
            max_response_bytes: 256 << 20,
            topic_wait: Duration::from_secs(10),
        }
    }

    /// Sets the client id.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = id.into();
        self
    }
}

fn with_port(address: &str) -> String {
    // `[::1]` has colons of its own; a port follows the bracket.
    let tail = address.rsplit_once(']').map_or(address, |(_, tail)| tail);
    if tail.contains(':') { address.to_owned() } else { format!("{address}:9092") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let config = ClientConfig::new("a, b:1,, [::1],[::1]:7");
        assert_eq!(config.bootstrap, ["a:9092", "b:1", "[::1]:9092", "[::1]:7"]);
    }
}
