//! Why a broker does not start.

use thiserror::Error;

use crate::cluster::PlaceError;
use crate::controller::SubmitError;
use crate::http::HttpError;
use crate::metadata_dir::MetadataDirError;
use crate::node::BlockingError;
use crate::raft::StartError;
use crate::server::BindError;
use esker_storage::OpenError;

/// Why a broker does not start. Shown to the user as it is.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP listener.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata log.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The broker could not register.
    #[error("the broker cannot register with the cluster: {0}")]
    Register(#[from] SubmitError),
    /// Counters.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task died.
    #[error("start-up was cut short: {0}")]
    Task(#[from] BlockingError),
    /// The cluster does not take this node.
    #[error("the cluster does not take this broker: {0}")]
    Refused(String),
    /// This node finds no place in a cluster.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The metadata log's folder.
    #[error(transparent)]
    MetadataDir(#[from] MetadataDirError),
}
