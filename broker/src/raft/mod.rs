//! The metadata log, replicated by openraft: the only module that knows openraft.
//!
//! `log` is the log store on a file of our own, `machine` applies records to the image, `network` reaches other
//! controllers, `metadata` is what the rest of the broker sees: the image, and a way to have a decision committed.

mod file;
mod log;
mod machine;
mod metadata;
mod network;
mod types;

pub use metadata::{Metadata, SubmitError};
pub use types::RaftId;

use std::path::PathBuf;
use std::sync::Arc;

use esker_core::controller::new_cluster_features;
use esker_core::metadata::MetadataRecord;
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use thiserror::Error;

use log::LogStore;
use machine::StateMachine;
use network::Network;
use types::{Proposal, TypeConfig};

/// Why the metadata log could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its files cannot be read or written.
    #[error("metadata log in {}: {source}", dir.display())]
    Store {
        /// The folder.
        dir: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// openraft refused.
    #[error("the metadata quorum does not start: {0}")]
    Raft(String),
}

/// Entries after which the log is replaced by a snapshot.
const SNAPSHOT_AFTER: u64 = 4096;

/// Starts the metadata log in `dir` with this node as its only voter, and waits until it can be written.
pub async fn start(dir: PathBuf, id: RaftId) -> Result<Metadata, StartError> {
    let store_error = |source| StartError::Store { dir: dir.clone(), source };
    let raft_error = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    let log = LogStore::open(&dir).map_err(store_error)?;
    let (machine, published) = StateMachine::open(&dir).map_err(store_error)?;
    let config = Config {
        cluster_name: "esker".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_AFTER),
        max_in_snapshot_log_to_keep: 256,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| raft_error(&e))?);
    let raft: Raft<TypeConfig, StateMachine> =
        Raft::new(id.clone(), config, Network, log, machine).await.map_err(|e| raft_error(&e))?;
    let fresh = !raft.is_initialized().await.map_err(|e| raft_error(&e))?;
    if fresh {
        let members = std::collections::BTreeMap::from([(id.clone(), BasicNode::default())]);
        raft.initialize(members).await.map_err(|e| raft_error(&e))?;
    } else {
        // The only voter need not wait for an election time-out.
        raft.trigger().elect(true).await.map_err(|e| raft_error(&e))?;
    }
    if fresh {
        // A new cluster begins with its features; what follows from an old log has them.
        let records = MetadataRecord::encode_all(&new_cluster_features()).map_err(|e| raft_error(&e))?;
        metadata::write(&raft, Proposal::new(&records)).await.map_err(|e| raft_error(&e))?;
    } else {
        metadata::write(&raft, Proposal::new(&[])).await.map_err(|e| raft_error(&e))?;
    }
    Ok(Metadata::new(raft, published))
}
