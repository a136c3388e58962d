//! The flag that names the broker, and the client that it leads to.

use clap::Args;
use esker_client::{Client, ClientConfig, Error};

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// Brokers to begin with, HOST:PORT separated by commas.
    #[arg(short = 'b', long, value_name = "HOST:PORT", env = "ESKER_BOOTSTRAP", default_value = "127.0.0.1:9092")]
    bootstrap: String,
}

impl Connect {
    pub(super) async fn client(&self) -> Result<Client, Error> {
        Client::connect(ClientConfig::new(&self.bootstrap).client_id("esker")).await
    }
}
