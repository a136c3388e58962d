//! The flags that name the cluster, and the client that they lead to.
//!
//! A flag beats the environment, the environment beats the current context, and without any of them the broker on this host is
//! used.

use std::time::Duration;

use clap::Args;
use esker_client::{Client, ClientConfig};

use super::contexts::{Context, Contexts};
use super::error::CliError;

/// The variable that names the brokers.
pub(crate) const BOOTSTRAP_VARIABLE: &str = "ESKER_BOOTSTRAP";
/// Where a broker listens that was started without flags.
const LOCAL: &str = "127.0.0.1:9092";
const CLIENT_ID: &str = "esker";

/// Where the cluster is.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// Brokers to begin with, HOST:PORT separated by commas [env: ESKER_BOOTSTRAP] [default: the current context, else 127.0.0.1:9092].
    #[arg(short = 'b', long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// A context by name instead of the current one: `esker context list` shows all.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Connect {
    /// A client, connected.
    pub async fn client(&self) -> Result<Client, CliError> {
        Ok(Client::connect(self.config()?).await?)
    }

    /// The settings of that client.
    pub fn config(&self) -> Result<ClientConfig, CliError> {
        let variable = std::env::var(BOOTSTRAP_VARIABLE).ok().filter(|text| !text.trim().is_empty());
        // The flag alone needs no file.
        let contexts = match (&self.bootstrap, &self.context) {
            (Some(_), None) => Contexts::default(),
            _ => Contexts::load()?,
        };
        self.choose(variable, &contexts)
    }

    fn choose(&self, variable: Option<String>, contexts: &Contexts) -> Result<ClientConfig, CliError> {
        let context = match &self.context {
            Some(name) => Some(contexts.get(name)?),
            // The settings of the current context belong to its brokers, not to those of a flag or of the environment.
            None if self.bootstrap.is_some() || variable.is_some() => None,
            None => contexts.current()?,
        };
        let of_context = context.map(|context| context.bootstrap.clone());
        let variable = if self.context.is_some() { None } else { variable };
        let bootstrap = self.bootstrap.clone().or(variable).or(of_context).unwrap_or_else(|| LOCAL.to_owned());
        Ok(apply(ClientConfig::new(&bootstrap).client_id(CLIENT_ID), context))
    }
}

fn apply(mut config: ClientConfig, context: Option<&Context>) -> ClientConfig {
    let Some(context) = context else { return config };
    if let Some(id) = &context.client_id {
        config = config.client_id(id);
    }
    if let Some(timeout) = context.connect_timeout_ms {
        config.connect_timeout = Duration::from_millis(timeout);
    }
    if let Some(timeout) = context.request_timeout_ms {
        config.request_timeout = Duration::from_millis(timeout);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let mut contexts = Contexts::default();
        let context = |bootstrap: &str| Context { bootstrap: bootstrap.to_owned(), ..Context::default() };
        contexts.set("prod", Context { request_timeout_ms: Some(7), ..context("prod:1") }).unwrap();
        contexts.set("dev", context("dev:2")).unwrap();
        contexts.select("prod").unwrap();
        contexts
    }

    #[test]
    fn flags_beat_the_environment_and_the_environment_beats_the_context() {
        for (bootstrap, context, variable, expected) in [
            (Some("flag:3"), None, Some("env:4"), "flag:3"),
            (Some("flag:3"), Some("dev"), Some("env:4"), "flag:3"),
            (None, Some("dev"), Some("env:4"), "dev:2"),
            (None, None, Some("env:4"), "env:4"),
            (None, None, None, "prod:1"),
        ] {
            let connect = Connect { bootstrap: bootstrap.map(str::to_owned), context: context.map(str::to_owned) };
            let config = connect.choose(variable.map(str::to_owned), &contexts()).unwrap();
            assert_eq!(config.bootstrap, [expected], "{connect:?}, {variable:?}");
        }
        let none = Connect { bootstrap: None, context: None };
        assert_eq!(none.choose(None, &Contexts::default()).unwrap().bootstrap, [LOCAL]);
        assert_eq!(none.choose(None, &contexts()).unwrap().request_timeout, Duration::from_millis(7));
        let unknown = Connect { context: Some("test".to_owned()), ..none };
        let refused = unknown.choose(None, &contexts()).unwrap_err().to_string();
        assert!(refused.contains("'test'") && refused.contains("dev, prod"), "{refused}");
    }
}
