//! What the handlers of `/v1` share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use esker_client::{Admin, Client, ClientConfig};
use tokio::sync::OnceCell;

use super::super::problem::Problem;
use super::super::served::Served;
use crate::broker::Broker;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the deadline of a request of HTTP, so that the reason of a failure is in the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Metadata of a million partitions.
const MAX_RESPONSE: usize = 128 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Api {
    served: Arc<Served>,
    client: OnceCell<Client>,
    /// The document's bytes.
    pub document: OnceLock<Bytes>,
}

impl Api {
    pub(super) fn new(served: Arc<Served>) -> Self {
        Self { served, client: OnceCell::new(), document: OnceLock::new() }
    }

    /// This node's broker, once it works.
    pub(super) fn broker(&self) -> Result<&Arc<Broker>, Problem> {
        let starting = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this node is starting: ask another one");
        self.served.broker.get().ok_or_else(starting)
    }

    /// A client of this broker, which is connected by the first request.
    pub(super) async fn client(&self) -> Result<&Client, Problem> {
        self.broker()?;
        let no_listener = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this node has no listener for clients");
        let address = self.served.kafka().ok_or_else(no_listener)?;
        let config = ClientConfig {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            max_response_bytes: MAX_RESPONSE,
            ..ClientConfig::new(&address.to_string()).client_id("esker-http")
        };
        Ok(self.client.get_or_try_init(|| Client::connect(config)).await?)
    }

    /// Administration over that client.
    pub(super) async fn admin(&self) -> Result<Admin, Problem> {
        Ok(Admin::new(self.client().await?))
    }
}
