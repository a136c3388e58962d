//! The metadata log, replicated by openraft: the only module that knows openraft.
//!
//! The files are `esker_storage::metalog`'s; `convert` translates between its types and openraft's. `log` is the log store,
//! `machine` applies records to the image, `network` reaches other controllers, `metadata` is what the rest of the broker sees:
//! the image, and a way to have a decision committed.

mod convert;
mod log;
mod machine;
mod metadata;
mod network;
mod types;

#[cfg(test)]
mod tests;

pub use metadata::Metadata;
pub use types::RaftId;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::InitializeFeatures;
use esker_storage::io::Disk;
use esker_storage::metalog::MetadataFiles;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config, Raft, RaftState, ServerState, SnapshotPolicy};
use thiserror::Error;
use tokio::time::Instant;

use crate::controller::submit;
use crate::node::Node;
use log::LogStore;
use machine::{Published, StateMachine};
use network::Network;
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

/// Entries after which the log is replaced by a snapshot.
const SNAPSHOT_AFTER: u64 = 4096;

/// How long the first record of a new cluster may take.
const START: Duration = Duration::from_secs(60);

/// Messages that wait between openraft's tasks.
const CHANNEL: u64 = 1024;

/// Starts the metadata log in `dir` with this node as its only voter, and waits until it can be written.
pub async fn start(node: &Node, disk: Arc<dyn Disk>, dir: PathBuf, id: RaftId) -> Result<Metadata, StartError> {
    start_with(node, disk, dir, id, SNAPSHOT_AFTER).await
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

/// Starts openraft over the files; nothing leads yet.
async fn start_raft(
    node: &Node,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: RaftId,
    snapshot_after: u64,
) -> Result<(Raft<TypeConfig, StateMachine>, Published), StartError> {
    let (log, machine, published) = open(node, disk, dir).await?;
    let config = Config {
        cluster_name: "esker".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_after),
        max_in_snapshot_log_to_keep: snapshot_after / 16,
        // openraft's channels are allocated whole, and their defaults hold far more than one controller task ever sends.
        api_channel_size: Some(CHANNEL),
        notification_channel_size: Some(CHANNEL),
        state_machine_channel_size: Some(CHANNEL),
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| StartError::Raft(e.to_string()))?);
    let raft = Raft::new(id, config, Network, log, machine).await;
    Ok((raft.map_err(|e| StartError::Raft(e.to_string()))?, published))
}

async fn start_with(
    node: &Node,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: RaftId,
    snapshot_after: u64,
) -> Result<Metadata, StartError> {
    let raft_error = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    let (raft, published) = start_raft(node, disk, dir.clone(), id, snapshot_after).await?;
    if raft.is_initialized().await.map_err(|e| raft_error(&e))? {
        let members = |state: &RaftState<TypeConfig>| -> Vec<RaftId> {
            state.membership_state.effective().nodes().map(|(member, _)| *member).collect()
        };
        let members = raft.with_raft_state(members).await.map_err(|e| raft_error(&e))?;
        if !members.contains(&id) {
            let known = members.iter().map(RaftId::to_string).collect::<Vec<_>>().join(", ");
            return Err(StartError::Identity { dir, own: id, known });
        }
        // openraft makes a former leader lead again at once. Otherwise the only voter elects itself without an election time-out.
        let leads = raft.metrics().borrow_watched().state == ServerState::Leader;
        if !leads {
            raft.trigger().elect(true).await.map_err(|e| raft_error(&e))?;
        }
    } else {
        let members = std::collections::BTreeMap::from([(id, BasicNode::default())]);
        raft.initialize(members).await.map_err(|e| raft_error(&e))?;
    }
    let metadata = Metadata::new(node.clone(), raft, published);
    metadata.caught_up().await.map_err(|e| raft_error(&e))?;
    submit(&metadata, InitializeFeatures, Instant::now() + START).await.map_err(|e| raft_error(&e))?;
    Ok(metadata)
}
