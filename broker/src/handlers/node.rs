//! What a listener of a broker serves: clients, and the other nodes of the cluster on the same port.
//!
//! Nodes are served from the first moment on; requests of clients wait, in their order, until the broker is ready.

use std::sync::{Arc, OnceLock};

use esker_protocol::primitives::{Reader, Str};
use futures_util::FutureExt;
use tokio::sync::watch;

use super::ClientService;
use super::peer::{PeerService, is_peer_api};
use crate::server::{CloseReason, Incoming, Outcome, Service};

/// See the module.
#[derive(Debug)]
pub struct NodeService {
    peers: PeerService,
    /// Listeners on which no client is served.
    for_nodes: Vec<Str>,
    clients: Arc<Clients>,
}

#[derive(Debug)]
struct Clients {
    service: OnceLock<ClientService>,
    ready: watch::Sender<bool>,
}

impl Clients {
    async fn dispatch_when_ready(&self, incoming: Incoming, body: &mut Reader) -> Outcome {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
        match self.service.get() {
            Some(service) => service.dispatch(incoming, body),
            None => Outcome::Refused(CloseReason::Stopping),
        }
    }
}

impl NodeService {
    /// Serves nodes at once, and nobody else on the listeners `for_nodes`.
    pub fn new(peers: PeerService, for_nodes: Vec<Str>) -> Self {
        let clients = Clients { service: OnceLock::new(), ready: watch::Sender::new(false) };
        Self { peers, for_nodes, clients: Arc::new(clients) }
    }

    /// What other nodes are served.
    pub fn peers(&self) -> &PeerService {
        &self.peers
    }

    /// Serves clients from here on.
    pub fn serve_clients(&self, service: ClientService) {
        // It becomes ready once.
        let _ = self.clients.service.set(service);
        self.clients.ready.send_replace(true);
    }
}

impl Service for NodeService {
    fn dispatch(&self, incoming: Incoming, body: &mut Reader) -> Outcome {
        if is_peer_api(incoming.header.api_key) {
            return self.peers.dispatch(incoming, body);
        }
        if self.for_nodes.contains(&incoming.connection.listener) {
            return Outcome::Refused(CloseReason::UnknownApi(incoming.header.api_key));
        }
        if let Some(service) = self.clients.service.get() {
            return service.dispatch(incoming, body);
        }
        let (clients, mut body) = (Arc::clone(&self.clients), body.clone());
        Outcome::Held(async move { clients.dispatch_when_ready(incoming, &mut body).await }.boxed())
    }
}
