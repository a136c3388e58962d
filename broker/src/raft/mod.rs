//! The metadata log, replicated by openraft: the only module that knows openraft.
//!
//! The files are `esker_storage::metalog`'s; `convert` translates between its types and openraft's. `log` is the log store,
//! `machine` applies records to the image, `network` reaches other controllers, `pull` is how brokers that are no members get the log, and
//! `metadata` is what the rest of the broker sees: the image, and a way to have a decision committed.

mod commit;
mod convert;
mod log;
mod machine;
mod members;
mod metadata;
mod network;
mod pull;
mod puller;
mod quorum;
mod recovery;
mod server;
mod snapshot_piece;
mod status;
mod types;
pub mod wire;

#[cfg(test)]
mod tests;

pub use members::MembershipError;
pub use metadata::Metadata;
pub use pull::{
    MAX_PULL_WAIT, ObserverStatus, RaftPullRequest, RaftPullResponse, RaftPullSnapshotRequest, RaftPullSnapshotResponse,
};
pub use quorum::{Member, QuorumView, wait_to_lead};
pub use recovery::{is_node_of, recover_quorum};
pub use server::RaftServer;
pub use status::RaftStatus;
pub use types::RaftId;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{InitializeFeatures, NodeConfigs, SettleMinIsr};
use esker_storage::io::Disk;
use esker_storage::metalog::{self, MetadataFiles};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config, Raft, RaftState, ServerState, SnapshotPolicy};
use thiserror::Error;
use tokio::time::Instant;

use crate::controller::submit;
use crate::node::Node;
use crate::peer::LocalNode;
use log::LogStore;
use machine::{Published, StateMachine};
use network::Network;
use puller::{Puller, run_puller};
use types::TypeConfig;

/// Why the metadata log could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its files cannot be read or written.
    #[error("metadata log: {0}")]
    Store(#[source] std::io::Error),
    /// The folder was formatted anew, or the log is another node's.
    #[error(
        "the metadata log in {} has the controllers {known}, and this node is {own}: set directory.id in the folder's \
         meta.properties to the id behind the slash, or put the log back where it was",
        dir.display()
    )]
    Identity {
        /// The folder.
        dir: PathBuf,
        /// This node and its folder.
        own: RaftId,
        /// The controllers that the log names.
        known: String,
    },
    /// openraft refused.
    #[error("the metadata quorum does not start: {0}")]
    Raft(String),
}

/// Whether `dir` holds a metadata log, or its snapshot: without the log that is damage, but no new cluster.
pub fn is_log_in(disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
    MetadataFiles::is_in(disk, dir)
}

/// The directory id by which the metadata log in `dir` knows this node as a controller, if it has one.
pub fn directory_of(disk: &dyn Disk, dir: &Path, node_id: i32) -> Option<[u8; 16]> {
    let voter = MetadataFiles::last_vote(disk, dir)?.candidate;
    (voter.node_id == node_id).then_some(voter.directory)
}

/// The files of the log, in the order in which they may be taken away.
pub const LOG_FILES: [&str; 2] = MetadataFiles::NAMES;

/// How often the quorum was recovered by hand, according to the log in `dir`; `None` without a log that can be read.
pub fn recovery_in(disk: &dyn Disk, dir: &Path) -> Option<u64> {
    metalog::recovery_in(disk, dir)
}

/// Entries after which the log is replaced by a snapshot.
const SNAPSHOT_AFTER: u64 = 4096;

/// How long the first record of a new cluster may take.
const START: Duration = Duration::from_secs(60);

/// Messages that wait between openraft's tasks.
const CHANNEL: u64 = 1024;

/// The largest AppendEntries request: one entry with the records of a client's whole request. Smaller entries are sent a few MiB at once.
pub const APPEND_LIMIT: usize = 512 << 20;

/// How a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// As the only voter of a new cluster, where there is no log yet.
    Cluster,
    /// In a cluster that others lead: where there is no log yet, it comes from them.
    Member,
}

/// This node in the metadata quorum.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its identity.
    pub id: RaftId,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// How it begins.
    pub begin: Begin,
}

/// Starts the metadata log in `dir`. Where this node is the only voter, waits until the log can be written.
pub async fn start(
    node: &Node,
    local: &Arc<LocalNode>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    seat: Seat,
) -> Result<Metadata, StartError> {
    start_with(node, local, disk, dir, seat, SNAPSHOT_AFTER).await
}

/// Opens the files and what openraft needs of them.
async fn open(
    node: &Node,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
) -> Result<(LogStore, StateMachine, Published), StartError> {
    let of_machine = node.clone();
    let opened = node.run_blocking(move || {
        let files = MetadataFiles::open(of_machine.storage().as_ref(), disk, &dir)?;
        let log = LogStore(Arc::clone(&files.log));
        StateMachine::open(of_machine, files).map(|(machine, published)| (log, machine, published))
    });
    opened.await.map_err(std::io::Error::other).flatten().map_err(StartError::Store)
}

/// Times of the quorum in ms. A leader that is gone is replaced within twice the longest time-out: its lease, and another's patience.
const HEARTBEAT: u64 = 40;
const ELECTION_MIN: u64 = 140;
const ELECTION_MAX: u64 = 220;

/// Starts openraft over the files, on the threads of the cluster's control; nothing leads yet.
async fn start_raft(
    node: &Node,
    network: Network,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: RaftId,
    snapshot_after: u64,
) -> Result<(Raft<TypeConfig, StateMachine>, Published), StartError> {
    let (log, machine, published) = open(node, disk, dir).await?;
    let config = Config {
        cluster_name: "esker".to_owned(),
        heartbeat_interval: HEARTBEAT,
        election_timeout_min: ELECTION_MIN,
        election_timeout_max: ELECTION_MAX,
        enable_pre_vote: Some(true),
        // Who does not vote must not lead either: `follow_quorum` allows elections to voters.
        enable_elect: false,
        // A leader that restarts may lack entries of its own that others have on disk: it must not lead on in the same term.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_after),
        max_in_snapshot_log_to_keep: snapshot_after / 16,
        // openraft's channels are allocated whole, and their defaults hold far more than one controller task ever sends.
        api_channel_size: Some(CHANNEL),
        notification_channel_size: Some(CHANNEL),
        state_machine_channel_size: Some(CHANNEL),
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| StartError::Raft(e.to_string()))?);
    let raft = node.run_control(Raft::new(id, config, network, log, machine)).await;
    let raft = raft.ok_or_else(|| StartError::Raft("the runtime has stopped".to_owned()))?;
    Ok((raft.map_err(|e| StartError::Raft(e.to_string()))?, published))
}

/// The members that the log names.
async fn known_members(raft: &Raft<TypeConfig, StateMachine>) -> Result<(Vec<RaftId>, Vec<RaftId>), StartError> {
    let members = |state: &RaftState<TypeConfig>| {
        let membership = state.membership_state.effective();
        (membership.nodes().map(|(id, _)| *id).collect(), membership.voter_ids().collect())
    };
    raft.with_raft_state(members).await.map_err(|e| StartError::Raft(e.to_string()))
}

async fn start_with(
    node: &Node,
    local: &Arc<LocalNode>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    seat: Seat,
    snapshot_after: u64,
) -> Result<Metadata, StartError> {
    let raft_error = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    let Seat { id, address, begin } = seat;
    let network = Network::new(node, local);
    let (raft, published) = start_raft(node, network.clone(), disk, dir.clone(), id, snapshot_after).await?;
    let is_new = !raft.is_initialized().await.map_err(|e| raft_error(&e))?;
    if is_new && begin == Begin::Cluster {
        let members = std::collections::BTreeMap::from([(id, BasicNode { addr: address })]);
        raft.initialize(members).await.map_err(|e| raft_error(&e))?;
    }
    let (members, voters) = known_members(&raft).await?;
    // A member whose log does not name it yet is added by those that lead.
    if !members.contains(&id) && begin == Begin::Cluster {
        let known = members.iter().map(RaftId::to_string).collect::<Vec<_>>().join(", ");
        return Err(StartError::Identity { dir, own: id, known });
    }
    let metadata = Metadata::new(node.clone(), id, raft.clone(), published);
    network.follow(metadata.quorum());
    node.spawn_control(run_puller(Puller::new(node, local, &metadata)));
    if voters != [id] {
        return Ok(metadata);
    }
    // The only voter elects itself without an election time-out.
    let leads = raft.metrics().borrow_watched().state == ServerState::Leader;
    if !leads {
        raft.trigger().elect(true).await.map_err(|e| raft_error(&e))?;
    }
    metadata.caught_up().await.map_err(|e| raft_error(&e))?;
    submit(&metadata, InitializeFeatures, Instant::now() + START).await.map_err(|e| raft_error(&e))?;
    let configs = NodeConfigs { node_id: node.id(), statics: Arc::clone(&node.config().statics) };
    submit(&metadata, SettleMinIsr { configs }, Instant::now() + START).await.map_err(|e| raft_error(&e))?;
    Ok(metadata)
}
