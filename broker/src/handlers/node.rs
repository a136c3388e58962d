//! What a listener of a broker serves: clients, and the other nodes of the cluster on the same port.
//!
//! Nodes are served from the first moment on; requests of clients wait, in their order, until the broker is ready.

use std::sync::{Arc, OnceLock};

use esker_protocol::primitives::Reader;
use futures_util::FutureExt;
use tokio::sync::watch;

use super::ClientService;
use super::peer::{PeerService, is_peer_api};
use crate::server::{Incoming, Outcome, Service};

/// See the module.
#[derive(Debug)]
pub struct NodeService {
    peers: PeerService,
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
            None => Outcome::Refused(crate::server::CloseReason::Stopping),
        }
    }
}

impl NodeService {
    /// Serves nodes at once.
    pub fn new(peers: PeerService) -> Self {
        let clients = Clients { service: OnceLock::new(), ready: watch::Sender::new(false) };
        Self { peers, clients: Arc::new(clients) }
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
        if let Some(service) = self.clients.service.get() {
            return service.dispatch(incoming, body);
        }
        let (clients, mut body) = (Arc::clone(&self.clients), body.clone());
        Outcome::Held(async move { clients.dispatch_when_ready(incoming, &mut body).await }.boxed())
    }
}
