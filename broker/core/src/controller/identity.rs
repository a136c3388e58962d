//! Identities of nodes: a node id belongs to one metadata folder (its `directory.id`), and a voter that was removed stays removed.
//!
//! A node that joins gets its id before it registers. The reservation is a record: a node that asks again, also after the controller has
//! changed, gets the same id. Two nodes with one id would overwrite each other's partitions, so an id of another folder is refused,
//! whether its node is alive or not. The reservation ends when the broker is unregistered.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;

use super::decision::{Decision, Refusal};
use crate::metadata::{
    BrokerImage, MetadataImage, MetadataRecord, NodeReservationRecord, RecordLevel, RemovedVoterRecord, directory,
};

/// The id of the first node.
const FIRST: i32 = 1;

/// Node ids that may be reserved for nodes that have not registered. Nobody proves anything to be given one.
pub const MAX_UNREGISTERED: usize = 64;
/// Nodes of a cluster, registered or not: each follows the metadata log.
pub const MAX_NODES: usize = 1000;

/// Allocates a node id to the node with this metadata folder: `wanted`, or the lowest id above all that are in use. A node that has an id
/// keeps it. Where there are too many nodes, reservations of `abandoned` nodes end, from the first on.
pub fn allocate_node_id(
    image: &MetadataImage,
    wanted: Option<i32>,
    directory: Uuid,
    abandoned: &[(i32, Uuid)],
) -> Result<Decision<i32>, Refusal> {
    check_directory(directory)?;
    let owned = owned_by(image, directory);
    let node_id = match (owned, wanted) {
        (Some(owned), Some(wanted)) if owned != wanted => {
            let message = format!(
                "Node id {wanted} was requested for metadata directory {directory}, which belongs to node {owned}. Start the node with node.id={owned}, or with an empty data folder."
            );
            return Err(Refusal::new(ErrorCode::DUPLICATE_BROKER_REGISTRATION, message));
        }
        (Some(owned), _) => owned,
        (None, Some(wanted)) if wanted < 0 => {
            let message = format!("Node id {wanted} was requested, and a node id is 0 or more.");
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        }
        (None, Some(wanted)) => wanted,
        (None, None) => next_node_id(image)?,
    };
    let mut records: Vec<_> = reserve(image, node_id, directory, &[])?.into_iter().collect();
    if !records.is_empty() && image.broker(node_id).is_none() {
        records.extend(make_room(image, abandoned)?);
    }
    Ok(Decision { records, reply: node_id })
}

/// Whether the active controller, node `controller`, may give ids to nodes. Not before its own is in the metadata: the node that begins a
/// cluster has its id from no one, and the first node that joins would be given the same.
pub fn may_allocate_ids(image: &MetadataImage, controller: i32) -> bool {
    image.reservation(controller).is_some() || image.broker(controller).is_some()
}

/// Ends reservations of abandoned nodes until there is room for one more node.
fn make_room(image: &MetadataImage, abandoned: &[(i32, Uuid)]) -> Result<Vec<MetadataRecord>, Refusal> {
    let waiting = image.reservations().filter(|(node_id, _)| image.broker(*node_id).is_none()).count();
    let all = image.brokers().count() + waiting;
    let too_many = (waiting + 1).saturating_sub(MAX_UNREGISTERED);
    let excess = too_many.max((all + 1).saturating_sub(MAX_NODES));
    let is_waiting = |(node_id, directory): &&(i32, Uuid)| {
        image.broker(*node_id).is_none() && image.reservation(*node_id) == Some(*directory)
    };
    let released = abandoned.iter().filter(is_waiting).take(excess);
    let released: Vec<_> = released.filter_map(|(node_id, _)| release(image, *node_id)).collect();
    if released.len() >= excess {
        return Ok(released);
    }
    let message = if too_many > 0 {
        format!(
            "{waiting} node ids are reserved for nodes that have not registered yet, and there may be {MAX_UNREGISTERED}. Start these nodes, unregister those that will not come, or try again in an hour: a place whose node does not come is given to another then."
        )
    } else {
        format!(
            "The cluster has {all} nodes, and there may be {MAX_NODES}. Unregister the brokers that are gone for good."
        )
    };
    Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message))
}

/// The record that gives `node_id` to `directory`; none where it has the id already, or where the log is at a level without
/// reservations and the broker is registered. `log_dirs` are other folders of the node: a broker that registered before there were
/// reservations is known by any of them.
pub(super) fn reserve(
    image: &MetadataImage,
    node_id: i32,
    directory: Uuid,
    log_dirs: &[Uuid],
) -> Result<Option<MetadataRecord>, Refusal> {
    check_directory(directory)?;
    let broker = image.broker(node_id);
    let is_own = |dir: &Uuid| *dir == directory || log_dirs.contains(dir);
    match (image.reservation(node_id), broker) {
        (Some(owner), _) if owner == directory => return Ok(None),
        (Some(owner), _) => return Err(taken(node_id, directory, &format!("metadata directory {owner}"))),
        (None, Some(broker)) if !broker.log_dirs.iter().any(is_own) => {
            return Err(taken(node_id, directory, &format!("the broker with log directories {:?}", broker.log_dirs)));
        }
        (None, _) => {}
    }
    if image.level() < RecordLevel::NODE_IDENTITIES {
        return broker.map_or_else(|| Err(too_old(image)), |_| Ok(None));
    }
    Ok(Some(MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory })))
}

/// The record that ends the reservation of a node id, if there is one.
pub(super) fn release(image: &MetadataImage, node_id: i32) -> Option<MetadataRecord> {
    image.reservation(node_id)?;
    Some(MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory: Uuid::ZERO }))
}

/// Remembers that a voter was removed: its metadata folder is never that of a voter again.
pub fn remove_voter_identity(image: &MetadataImage, node_id: i32, directory: Uuid) -> Result<Decision<()>, Refusal> {
    check_directory(directory)?;
    record_removal(image, node_id, directory, false)
}

/// Forgets that a voter was removed, so that it may be added again.
pub fn forget_removed_voter(image: &MetadataImage, directory: Uuid) -> Result<Decision<()>, Refusal> {
    let node_id = image.removed_voters().find(|(removed, _)| *removed == directory).map_or(-1, |(_, node_id)| node_id);
    record_removal(image, node_id, directory, true)
}

fn record_removal(
    image: &MetadataImage,
    node_id: i32,
    directory: Uuid,
    forgotten: bool,
) -> Result<Decision<()>, Refusal> {
    if image.is_removed_voter(directory) != forgotten {
        return Ok(Decision { records: Vec::new(), reply: () });
    }
    if image.level() < RecordLevel::NODE_IDENTITIES {
        return Err(too_old(image));
    }
    let removed = RemovedVoterRecord { node_id, directory, forgotten };
    Ok(Decision { records: vec![MetadataRecord::RemovedVoter(removed)], reply: () })
}

/// The node that a metadata folder belongs to. A broker that registered before there were reservations is known by its log dirs.
fn owned_by(image: &MetadataImage, directory: Uuid) -> Option<i32> {
    let reserved = image.reservations().find(|(_, owner)| *owner == directory).map(|(node_id, _)| node_id);
    let unreserved = |broker: &&BrokerImage| image.reservation(broker.node_id).is_none();
    let registered = || image.brokers().filter(unreserved).find(|broker| broker.log_dirs.contains(&directory));
    reserved.or_else(|| registered().map(|broker| broker.node_id))
}

fn next_node_id(image: &MetadataImage) -> Result<i32, Refusal> {
    let next = image.highest_node_id().map_or(Some(FIRST), |highest| highest.checked_add(1));
    next.map(|id| id.max(FIRST)).ok_or_else(|| {
        let message = format!("Node id {} is in use, so that no higher id is left: set node.id.", i32::MAX);
        Refusal::new(ErrorCode::INVALID_REQUEST, message)
    })
}

fn check_directory(id: Uuid) -> Result<(), Refusal> {
    if directory::is_reserved(id) {
        let message = format!("Metadata directory {id} is a reserved directory ID.");
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    Ok(())
}

fn taken(node_id: i32, directory: Uuid, owner: &str) -> Refusal {
    let message = format!(
        "Node id {node_id} belongs to {owner}, and cannot be that of a node with metadata directory {directory}. If the node lost its disk, unregister broker {node_id} first, or let the node join under another id."
    );
    Refusal::new(ErrorCode::DUPLICATE_BROKER_REGISTRATION, message)
}

fn too_old(image: &MetadataImage) -> Refusal {
    let message = format!(
        "Node identities need metadata records of level {}, and the cluster is at {}: finalize the update of its brokers with an upgrade of metadata.version.",
        RecordLevel::NODE_IDENTITIES.0,
        image.level().0
    );
    Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message)
}
