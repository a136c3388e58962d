//! How a node finds its place: in the cluster that its metadata log is of, in one that others are in, or in a new one.
//!
//! A node with a metadata log knows its cluster. One without asks the nodes that it was told to join; `esker_core::forming` says what follows
//! from their answers. What it waits for is logged, by address. Must never: begin a cluster in a folder that was promised to another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_core::forming::{Answer, Decision, Round, decide};
use esker_core::health::StartStep;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use esker_storage::io::Disk;
use esker_storage::{Folder, OpenError};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::controller::Controller;
use crate::metadata_dir::MetadataDir;
use crate::node::Node;
use crate::peer::messages::{IdentifyRequest, IdentifyResponse, JoinClusterRequest, JoinClusterResponse, PEER_VERSION};
use crate::peer::{LocalNode, PeerError, ask};
use crate::raft::{Begin, QuorumView, RaftId};
use crate::start_progress::StartProgress;

/// Where a node belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub node_id: i32,
    /// Its cluster, where it is known before the log dirs are open; `None`: as they say, or a new one.
    pub cluster_id: Option<String>,
    /// How it begins.
    pub begin: Begin,
}

/// Why a node has no place.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The folder cannot be read or formatted.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder cannot be read or written.
    #[error("the metadata log's folder: {0}")]
    Disk(#[from] std::io::Error),
    /// It belongs to a cluster that it has not entered.
    #[error(
        "this folder was given a place in cluster {0}, and has not received the cluster's metadata yet: start it with --join and the address of a \
         node of that cluster, or with an empty folder"
    )]
    Promised(String),
    /// It would begin a cluster in which no node may be a controller.
    #[error(
        "process.roles=broker, and this node is in no cluster: it cannot begin one, since no node would be a controller. Set \
         process.roles=broker,controller, or name nodes of a cluster to join (--join, controller.quorum.bootstrap.servers)"
    )]
    BrokerOnly,
    /// The cluster says no.
    #[error("{address} does not take this node: {message} ({code})")]
    Refused {
        /// Which node said so.
        address: Str,
        /// Its code.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
    /// This folder is a copy of one that another process serves.
    #[error(
        "the metadata folder {directory} of node {node_id} is in use by the process at {address}, and this folder is a copy of it: two processes with \
         one identity would vote twice. Stop that process first, or start this one with an empty data folder"
    )]
    Copied {
        /// The identity that both have.
        directory: Uuid,
        /// Its node id.
        node_id: i32,
        /// Where the other process is.
        address: Str,
    },
    /// The metadata quorum's tasks have ended.
    #[error("the metadata quorum has stopped: see the log above")]
    Stopped,
    /// The answers contradict each other.
    #[error("no cluster can be joined or formed: {0}")]
    Contradiction(String),
}

/// How long a node may take to say who it is.
const ASK: Duration = Duration::from_millis(1000);
/// Between two rounds of questions.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How long a node may take to say which cluster it is in, where the own one is known. Only hosts that are silent take all of it; and a node that
/// misses that its quorum was recovered elsewhere has to be restarted.
const CHECK: Duration = Duration::from_millis(1000);
/// How long the cluster may take to give a place.
const PLACE: Duration = Duration::from_secs(15);
/// How long the metadata log may take to come, before the cluster is asked again whether this node still has its place.
const PULLED: Duration = Duration::from_secs(5);
/// After the cluster could not reach this node.
const UNREACHED_AGAIN: Duration = Duration::from_secs(2);

/// See the module. Waits for other nodes where it must.
pub async fn find_place(
    node: &Node,
    local: &Arc<LocalNode>,
    disk: &dyn Disk,
    dir: &MetadataDir,
    progress: &StartProgress,
) -> Result<Place, PlaceError> {
    let config = node.config();
    let known = Folder::identity(disk, dir.folder())?;
    let node_id = match &known {
        Some(known) if !config.node_id_given => known.node_id,
        _ => config.node_id,
    };
    let mut has_log = dir.holds_log(disk)?;
    let promise = dir.promise(disk)?;
    if config.join.is_empty() {
        if let Some(cluster) = promise {
            return Err(PlaceError::Promised(cluster));
        }
        if !has_log && !config.may_vote {
            return Err(PlaceError::BrokerOnly);
        }
        return Ok(Place { node_id, cluster_id: dir.cluster_id(disk)?, begin: Begin::Cluster });
    }
    if let Some(known) = known.as_ref().filter(|_| has_log) {
        let recovery = check_clusters(node, local, &known.cluster_id).await?;
        if recovery > dir.recovery(disk) {
            warn!(
                recovery,
                "the metadata quorum was recovered on another node: this node's metadata log is kept as replaced-*, and the cluster's is taken"
            );
            dir.replace_log(disk, &known.cluster_id)?;
            has_log = false;
        }
    }
    if has_log && promise.is_none() {
        return Ok(Place { node_id, cluster_id: dir.cluster_id(disk)?, begin: Begin::Member });
    }
    // Its id is given. The cluster may have made it a voter already, and need its vote before anybody can give places.
    let placed = known.as_ref().filter(|known| Some(&known.cluster_id) == promise.as_ref() && known.node_id == node_id);
    if let Some(known) = placed {
        return Ok(Place { node_id, cluster_id: Some(known.cluster_id.clone()), begin: Begin::Member });
    }
    let own_cluster = known.as_ref().map(|known| known.cluster_id.clone());
    let wanted = if config.node_id_given || known.is_some() { node_id } else { -1 };
    loop {
        let Some(address) = form(node, local, own_cluster.as_deref(), progress).await? else {
            return Ok(Place { node_id, cluster_id: dir.cluster_id(disk)?, begin: Begin::Cluster });
        };
        dir.record_directory(disk, local.directory())?;
        match request_place(node, local, Str::from(address), wanted).await? {
            Placed::At(placed) => {
                let (cluster_id, node_id) = (placed.cluster_id.to_string(), placed.node_id);
                dir.format(disk, node, (&cluster_id, node_id), local.directory())?;
                dir.record_promise(disk, &cluster_id)?;
                return Ok(Place { node_id, cluster_id: Some(cluster_id), begin: Begin::Member });
            }
            Placed::Elsewhere { why, .. } => progress.report_blocked(StartStep::Placing, vec![why]),
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Refuses a list that names nodes of another cluster than this node's, and a folder whose identity another process has. Nodes that do not answer soon are not waited for: those of its own
/// cluster may be starting, too. Returns how often the quorum of the cluster was recovered by hand, as far as those that answer know.
async fn check_clusters(node: &Node, local: &LocalNode, own: &str) -> Result<i64, PlaceError> {
    let asked = local.join().iter().map(|address| async move {
        (address, tokio::time::timeout(CHECK, ask_identity(node, local, address)).await.ok().and_then(Result::ok))
    });
    let mut recovery = 0;
    for (address, answer) in join_all(asked).await {
        let Some(answer) = answer else { continue };
        if answer.directory == local.directory() && answer.incarnation != local.incarnation() {
            return Err(PlaceError::Copied {
                directory: answer.directory,
                node_id: answer.node_id,
                address: address.clone(),
            });
        }
        let IdentifyResponse { cluster_id: Some(cluster_id), node_id, recovery: theirs, .. } = answer else { continue };
        if cluster_id != *own {
            return Err(PlaceError::Contradiction(format!(
                "the data folder of this node belongs to cluster {own}, and {address} is node {node_id} of cluster {cluster_id}: start this node \
                 with the nodes of its own cluster, or with an empty data folder"
            )));
        }
        recovery = recovery.max(theirs);
    }
    Ok(recovery)
}

async fn ask_identity(node: &Node, local: &LocalNode, address: &str) -> Result<IdentifyResponse, PeerError> {
    ask(node, address, &IdentifyRequest { directory: local.directory() }, Instant::now() + ASK).await
}

/// Asks all nodes until it is clear what to do: a node of the cluster to join, or `None` to begin one.
async fn form(
    node: &Node,
    local: &LocalNode,
    cluster_id: Option<&str>,
    progress: &StartProgress,
) -> Result<Option<String>, PlaceError> {
    let list: Vec<String> = local.join().iter().map(ToString::to_string).collect();
    loop {
        let asked = list.iter().map(|address| async move { (address.clone(), identify(node, local, address).await) });
        let answers: BTreeMap<String, Answer> = join_all(asked).await.into_iter().collect();
        let may_vote = node.config().may_vote;
        let round = Round { directory: local.directory(), cluster_id, list: &list, may_vote, answers: &answers };
        match decide(round) {
            Decision::Begin => return Ok(None),
            Decision::Join { address, .. } => return Ok(Some(address)),
            Decision::Refuse { message } => return Err(PlaceError::Contradiction(message)),
            Decision::Wait { blocked_by } => {
                progress.report_blocked(StartStep::Forming, blocked_by.iter().map(ToString::to_string).collect());
            }
        }
        sleep(ASK_AGAIN).await;
    }
}

/// The other voters that do not answer, with their addresses: why the metadata quorum may have no leader.
pub async fn find_silent_voters(node: &Node, local: &LocalNode, view: &QuorumView) -> Vec<String> {
    let others = view.voters().filter(|voter| Some(voter.id) != view.own && !voter.address.is_empty());
    let asked = others.map(|voter| async move {
        match identify(node, local, &voter.address).await {
            Answer::Unreachable(why) => Some(format!("{} does not answer: {why}", voter.address)),
            Answer::Member { .. } | Answer::Empty { .. } => None,
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn identify(node: &Node, local: &LocalNode, address: &str) -> Answer {
    match ask_identity(node, local, address).await {
        Ok(answer) => match answer.cluster_id {
            Some(cluster_id) => Answer::Member { cluster_id: cluster_id.to_string(), node_id: answer.node_id },
            None => Answer::Empty {
                directory: answer.directory,
                list: answer.join.iter().map(ToString::to_string).collect(),
            },
        },
        Err(error) => Answer::Unreachable(error.reason()),
    }
}

/// Asks for an id, at `address` or wherever the active controller is.
async fn request_place(node: &Node, local: &LocalNode, address: Str, node_id: i32) -> Result<Placed, PlaceError> {
    let request = JoinClusterRequest {
        max_version: PEER_VERSION,
        node_id,
        directory: local.directory(),
        address: Str::default(),
        pulls: true,
    };
    let others = local.join().iter().filter(|other| **other != address).cloned();
    let all: Vec<Str> = [address.clone()].into_iter().chain(others).collect();
    match join_any(node, &all, &request, "").await?.1 {
        Placed::Elsewhere { controller: Some(controller), .. } => join_at(node, &controller, &request).await,
        placed => Ok(placed),
    }
}

enum Placed {
    At(JoinClusterResponse),
    /// Ask at the controller's address, or anywhere.
    Elsewhere {
        controller: Option<Str>,
        /// Why there is no place yet, with the address that says so.
        why: String,
    },
}

/// Asks all of `targets` at once: the first answer that says more than to ask elsewhere, and whose it is. One that is slow delays no other.
/// What `own` says is no reason.
async fn join_any(
    node: &Node,
    targets: &[Str],
    request: &JoinClusterRequest,
    own: &str,
) -> Result<(Option<Str>, Placed), PlaceError> {
    let asked = targets.iter().map(|target| async move { (target, join_at(node, target, request).await) });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut reasons: BTreeMap<&Str, String> = BTreeMap::new();
    while let Some((target, placed)) = asked.next().await {
        match placed? {
            Placed::Elsewhere { controller: None, why } => {
                if *target != own {
                    reasons.insert(target, why);
                }
            }
            placed => return Ok((Some(target.clone()), placed)),
        }
    }
    let why = reasons.into_values().collect::<Vec<_>>().join("; ");
    Ok((None, Placed::Elsewhere { controller: None, why }))
}

async fn join_at(node: &Node, address: &Str, request: &JoinClusterRequest) -> Result<Placed, PlaceError> {
    let message = |answer: &JoinClusterResponse| answer.error_message.as_ref().map_or_else(String::new, Str::to_string);
    match ask(node, address, request, Instant::now() + PLACE).await {
        Ok(answer) if !answer.error_code.is_error() => Ok(Placed::At(answer)),
        Ok(answer) if answer.error_code == ErrorCode::NOT_CONTROLLER => {
            let why = format!("{address} gives no place: {}", message(&answer));
            Ok(Placed::Elsewhere { controller: answer.controller.map(|controller| controller.detached()), why })
        }
        // The active controller cannot reach this node. The network may come, and the address may be wrong.
        Ok(answer) if answer.error_code == ErrorCode::NETWORK_EXCEPTION => {
            sleep(UNREACHED_AGAIN).await;
            Ok(Placed::Elsewhere { controller: None, why: message(&answer) })
        }
        // It is a moment away from its own place.
        Ok(answer) if answer.error_code == ErrorCode::BROKER_NOT_AVAILABLE => {
            let why = format!("{address} gives no place: {}", message(&answer));
            Ok(Placed::Elsewhere { controller: None, why })
        }
        Ok(answer) => {
            Err(PlaceError::Refused { address: address.clone(), code: answer.error_code, message: message(&answer) })
        }
        Err(error) => {
            let why = format!("{address} does not answer: {}", error.reason());
            Ok(Placed::Elsewhere { controller: None, why })
        }
    }
}

/// Has the cluster take this node in. A member of the quorum says where it is, and this returns once its own log says the same; any other node
/// pulls the log, and this returns once it has what was committed when the cluster took it in.
pub async fn take_seat(controller: &Controller, address: &str, progress: &StartProgress) -> Result<(), PlaceError> {
    let (node, local) = (controller.node(), controller.local());
    let (mut quorum, mut images) = (controller.metadata().quorum(), controller.metadata().subscribe());
    let request = JoinClusterRequest {
        max_version: PEER_VERSION,
        node_id: node.id(),
        directory: local.directory(),
        address: Str::copy(address),
        pulls: true,
    };
    let mut at: Option<Str> = None;
    loop {
        let view = quorum.borrow_and_update().clone();
        let own = view.members.iter().find(|member| Some(member.id) == view.own);
        if own.is_some_and(|member| *member.address == *address) {
            return Ok(());
        }
        // A leader needs nobody: alone after a recovery it would find nobody either.
        if view.is_leading() {
            controller.place(request.clone()).await;
        }
        let known: Vec<Str> = match at.take() {
            Some(controller) => vec![controller],
            None => local.join().iter().cloned().chain(addresses_of(&view, address)).collect(),
        };
        // This node is asked, too: it may lead.
        at = match join_any(node, &known, &request, address).await? {
            (_, Placed::At(placed)) if own.is_none() => {
                let whole = u64::try_from(placed.offset).unwrap_or_default();
                let there = images.wait_for(|image| {
                    progress.report_applied(image.offset(), whole);
                    image.offset() >= whole
                });
                match tokio::time::timeout(PULLED, there).await {
                    Ok(Ok(_)) => return Ok(()),
                    Ok(Err(_)) => return Err(PlaceError::Stopped),
                    Err(_) => None,
                }
            }
            (controller, Placed::At(_)) => controller,
            (_, Placed::Elsewhere { controller: None, why }) if !why.is_empty() => {
                note_moved_nodes(node, local, &view).await;
                progress.report_blocked(StartStep::Entering, vec![why]);
                None
            }
            (_, Placed::Elsewhere { controller, .. }) => controller,
        };
        if let Ok(Err(_)) = tokio::time::timeout(ASK_AGAIN, quorum.changed()).await {
            return Err(PlaceError::Stopped);
        }
    }
}

/// Asks the nodes of the list for their names, and notes those that the metadata log has elsewhere: while nobody leads, votes reach them there.
async fn note_moved_nodes(node: &Node, local: &LocalNode, view: &QuorumView) {
    let own = local.membership().map(|membership| membership.cluster_id.clone());
    let asked = local.join().iter().map(|address| async move { (address, ask_identity(node, local, address).await) });
    for (address, answer) in join_all(asked).await {
        let Ok(answer) = answer else { continue };
        let id = RaftId { node_id: answer.node_id, directory: answer.directory.0 };
        let member = view.member(id).filter(|member| *member.address != **address);
        if let Some(member) = member.filter(|_| answer.cluster_id.is_some() && answer.cluster_id == own) {
            local.note_moved(answer.node_id, answer.directory, &member.address, address);
        }
    }
}

fn addresses_of<'a>(view: &'a QuorumView, own: &'a str) -> impl Iterator<Item = Str> + 'a {
    let others = view.members.iter().map(|member| &*member.address);
    others.filter(move |address| !address.is_empty() && *address != own).map(Str::copy)
}
