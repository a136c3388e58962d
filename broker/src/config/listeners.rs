//! `listeners` and `advertised.listeners`: `NAME://host:port`, several with commas between; and `inter.broker.listener.name`, one of them.

use std::collections::HashMap;

use esker_core::config::{Statics, inter_broker_listener, list_items};
use esker_protocol::primitives::Str;
use thiserror::Error;

use super::sources::{Mistake, Sources};

/// One end that is listened on, or advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name.
    pub name: Str,
    /// Host name or address; empty for all addresses of the machine.
    pub host: String,
    /// The port; 0 picks one.
    pub port: u16,
}

/// Why something is no listener.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListenerError {
    /// There is no port.
    #[error("{0:?} has no port: host:port is needed, e.g. 127.0.0.1:9092")]
    NoPort(String),
    /// The port is no port.
    #[error("{0:?} is no port: a number from 0 to 65535 is needed")]
    BadPort(String),
    /// Two have one name.
    #[error("two listeners are named {0}: each needs a name of its own")]
    TwoOfAName(String),
    /// The protocol is one of Kafka's, but not served here.
    #[error("listener {name} is for {protocol}: this version of Esker serves PLAINTEXT only")]
    Protocol {
        /// The listener.
        name: String,
        /// The protocol.
        protocol: String,
    },
    /// The protocol is not known.
    #[error(
        "listener {0} has no security protocol: add {0}:PLAINTEXT to listener.security.protocol.map, or name the listener PLAINTEXT"
    )]
    NoProtocol(String),
    /// Nothing is left for clients.
    #[error("no listener is left for clients: all are in controller.listener.names")]
    None,
    /// A wildcard address cannot be reached by clients.
    #[error("{0:?} cannot be advertised: clients need an address that they can reach")]
    Wildcard(String),
    /// What is advertised is not listened on.
    #[error("{0} is advertised but not in listeners")]
    NotListening(String),
}

/// The lists, and the listener for other nodes.
#[derive(Debug)]
pub(super) struct Listeners {
    pub open: Vec<Listener>,
    /// Those in `controller.listener.names`: for other nodes only.
    pub controllers: Vec<Listener>,
    pub advertised: Vec<Listener>,
    /// The name of the listener at which other nodes call; empty where none is open.
    pub inter_broker: Str,
}

/// `host:port`, `[v6]:port`, `:port`.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), ListenerError> {
    let text = text.trim();
    let (host, port) = text.rsplit_once(':').ok_or_else(|| ListenerError::NoPort(text.to_owned()))?;
    let port = port.parse().map_err(|_| ListenerError::BadPort(port.to_owned()))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

/// Whether an address is the wildcard address.
fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

fn listener(text: &str) -> Result<Listener, ListenerError> {
    // What has no name is the flag's short form.
    let (name, rest) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
    let (host, port) = host_and_port(rest)?;
    Ok(Listener { name: Str::from(name.trim().to_ascii_uppercase()), host, port })
}

/// The elements of a list of listeners; the mistakes go to `wrong`.
fn listeners(text: &str, mut wrong: impl FnMut(ListenerError)) -> Vec<Listener> {
    let mut all: Vec<Listener> = Vec::new();
    for item in list_items(text) {
        match listener(item) {
            Ok(endpoint) if all.iter().any(|known| known.name == endpoint.name) => {
                wrong(ListenerError::TwoOfAName(endpoint.name.to_string()));
            }
            Ok(endpoint) => all.push(endpoint),
            Err(error) => wrong(error),
        }
    }
    all
}

/// Reads both lists; the mistakes go to `mistakes`.
pub(super) fn parse(sources: &Sources, statics: &Statics, mistakes: &mut Vec<Mistake>) -> Listeners {
    let value = |name: &str| super::values::text(statics, name).unwrap_or_default();
    let before = mistakes.len();
    let mut wrong = |name: &str, error: ListenerError| mistakes.push(sources.invalid_value(name, &error.to_string()));
    let of_controllers: Vec<String> =
        list_items(&value("controller.listener.names")).map(str::to_ascii_uppercase).collect();
    let is_client = |endpoint: &Listener| !of_controllers.iter().any(|name| endpoint.name == *name.as_str());

    let all = listeners(&value("listeners"), |error| wrong("listeners", error));
    let open: Vec<Listener> = all.iter().filter(|endpoint| is_client(endpoint)).cloned().collect();
    let map = value("listener.security.protocol.map");
    let protocols: HashMap<String, &str> = list_items(&map)
        .filter_map(|pair| pair.split_once(':'))
        .map(|(name, protocol)| (name.trim().to_ascii_uppercase(), protocol.trim()))
        .collect();
    for Listener { name, .. } in &open {
        match protocols.get(name.as_str()).map(|protocol| protocol.to_ascii_uppercase()) {
            None => wrong("listeners", ListenerError::NoProtocol(name.to_string())),
            Some(protocol) if protocol != "PLAINTEXT" => {
                wrong("listeners", ListenerError::Protocol { name: name.to_string(), protocol });
            }
            Some(_) => {}
        }
    }
    let mut advertised = listeners(&value("advertised.listeners"), |error| wrong("advertised.listeners", error));
    advertised.retain(is_client);
    for endpoint in &advertised {
        if is_wildcard(&endpoint.host) {
            wrong("advertised.listeners", ListenerError::Wildcard(endpoint.host.clone()));
        } else if !open.iter().any(|known| known.name == endpoint.name) {
            wrong("advertised.listeners", ListenerError::NotListening(endpoint.name.to_string()));
        }
    }
    if open.is_empty() && mistakes.len() == before {
        mistakes.push(sources.invalid_value("listeners", &ListenerError::None.to_string()));
    }
    let is_plain = |endpoint: &Listener| {
        protocols.get(endpoint.name.as_str()).is_none_or(|protocol| protocol.eq_ignore_ascii_case("PLAINTEXT"))
    };
    let (controllers, unserved): (Vec<Listener>, Vec<Listener>) =
        all.into_iter().filter(|endpoint| !is_client(endpoint)).partition(is_plain);
    for endpoint in unserved {
        tracing::info!(
            listener = %endpoint.name,
            "a listener of controllers is not opened: its protocol is not served, and other nodes use the listeners of clients"
        );
    }
    let inter_broker =
        parse_inter_broker(sources, &value("inter.broker.listener.name"), (&open, &of_controllers), mistakes);
    Listeners { open, controllers, advertised, inter_broker }
}

/// The listener at which other nodes call, one of those for clients. Where none is left for clients, that is the mistake.
fn parse_inter_broker(
    sources: &Sources,
    given: &str,
    (open, of_controllers): (&[Listener], &[String]),
    mistakes: &mut Vec<Mistake>,
) -> Str {
    let names: Vec<&str> = open.iter().map(|endpoint| endpoint.name.as_str()).collect();
    if names.is_empty() {
        return Str::default();
    }
    let for_nodes: Vec<&str> = of_controllers.iter().map(String::as_str).collect();
    match inter_broker_listener(Some(given), &names, &for_nodes) {
        Ok(name) => name.map(Str::copy).unwrap_or_default(),
        Err(expected) => {
            mistakes.push(sources.invalid_value("inter.broker.listener.name", &expected));
            Str::default()
        }
    }
}
