//! The hello of a connection between nodes: whom this node takes for a node of its cluster.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use tokio::time::Instant;

use super::PeerService;
use crate::peer::PeerId;
use crate::peer::messages::{HelloRequest, HelloResponse, PEER_VERSION};
use crate::server::Incoming;

impl PeerService {
    /// Takes in a hello; the connection is the sender's from here on.
    pub(super) fn greet(&self, incoming: &Incoming, hello: &HelloRequest) -> HelloResponse {
        let (directory, incarnation) = (self.local.directory(), self.local.incarnation());
        let answer = HelloResponse { directory, incarnation, ..HelloResponse::default() };
        match self.check(hello) {
            Ok(peer) => {
                incoming.connection.identify(peer);
                answer
            }
            Err((error_code, message)) => {
                // The node tries again, several times a second.
                if let Some(left_out) = self.refusals.admit(&message, Instant::now()) {
                    let peer = incoming.connection.peer;
                    tracing::warn!(%peer, node = hello.node_id, message, left_out = left_out.field(), "a node is refused");
                }
                HelloResponse { error_code, error_message: Some(Str::from(message)), ..answer }
            }
        }
    }

    fn check(&self, hello: &HelloRequest) -> Result<PeerId, (ErrorCode, String)> {
        let Some(own) = self.local.membership() else {
            return Err((ErrorCode::BROKER_NOT_AVAILABLE, "this node is in no cluster yet".to_owned()));
        };
        if !(hello.min_version..=hello.max_version).contains(&PEER_VERSION) {
            let message = format!(
                "node {} speaks versions {} to {} of the protocol between nodes, and node {} version {PEER_VERSION}: update the older of both",
                hello.node_id, hello.min_version, hello.max_version, own.node_id
            );
            return Err((ErrorCode::UNSUPPORTED_VERSION, message));
        }
        if hello.cluster_id != own.cluster_id {
            let message = format!(
                "node {} is in cluster {}, and this one, node {}, in cluster {}",
                hello.node_id, hello.cluster_id, own.node_id, own.cluster_id
            );
            return Err((ErrorCode::INCONSISTENT_CLUSTER_ID, message));
        }
        let any = hello.target_directory == Uuid::ZERO || hello.target_directory == own.directory;
        if hello.target_node_id != own.node_id || !any {
            let message = format!(
                "node {} looks for node {} with the metadata folder {}, and this is node {} with the folder {}",
                hello.node_id, hello.target_node_id, hello.target_directory, own.node_id, own.directory
            );
            return Err((ErrorCode::INVALID_VOTER_KEY, message));
        }
        if hello.node_id == own.node_id && hello.directory != own.directory {
            let message = format!(
                "two nodes have the id {}: one with the metadata folder {}, one with {}",
                own.node_id, hello.directory, own.directory
            );
            return Err((ErrorCode::DUPLICATE_BROKER_REGISTRATION, message));
        }
        if let Some(controller) = self.controller.get()
            && !controller.knows(hello.node_id, hello.directory)
        {
            let message = format!(
                "node {} with the metadata folder {} is no node of cluster {}, as node {} knows it: nodes join with --join",
                hello.node_id, hello.directory, own.cluster_id, own.node_id
            );
            return Err((ErrorCode::INVALID_VOTER_KEY, message));
        }
        Ok(PeerId { node_id: hello.node_id, directory: hello.directory, incarnation: hello.incarnation })
    }
}
