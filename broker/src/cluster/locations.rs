//! Where the nodes of the cluster are: members of the metadata quorum as its log says, all other brokers as their registrations say.

use esker_core::controller::folder_of;
use esker_core::metadata::{ListenerRecord, MetadataImage};
use esker_protocol::primitives::Uuid;

use crate::raft::{QuorumView, RaftId};

/// Where a node is, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Its node id, and its metadata folder; zero: any.
    pub(super) target: (i32, Uuid),
    /// `host:port`.
    pub(super) address: String,
}

/// Where other nodes reach a broker, `host:port`: at the first listener of its registration, which is its inter-broker listener; empty if it has
/// none.
pub fn peer_address(listeners: &[ListenerRecord]) -> String {
    let address = |listener: &ListenerRecord| match listener.host.contains(':') {
        true => format!("[{}]:{}", listener.host, listener.port),
        false => format!("{}:{}", listener.host, listener.port),
    };
    listeners.first().map(address).unwrap_or_default()
}

/// Where the node with this id is: as a member of the quorum, where two have the id after the node lost its disk; else as its registration says.
pub(super) fn locate(view: &QuorumView, image: &MetadataImage, node_id: i32) -> Option<Location> {
    let folders = view.members_of(node_id).map(|member| Uuid(member.id.directory));
    let member = folder_of(image, node_id, folders)
        .and_then(|directory| view.member(RaftId { node_id, directory: directory.0 }));
    let as_member = member
        .filter(|member| !member.address.is_empty())
        .map(|member| Location { target: (node_id, Uuid(member.id.directory)), address: member.address.to_string() });
    as_member.or_else(|| {
        let address = peer_address(&image.broker(node_id)?.listeners);
        let directory = image.reservation(node_id).unwrap_or(Uuid::ZERO);
        (!address.is_empty()).then_some(Location { target: (node_id, directory), address })
    })
}
