//! Why reading a cluster, or changing it, fails.

use esker_client::Error;
use thiserror::Error as ThisError;

/// See the module.
#[derive(Debug, ThisError)]
pub enum AdminError {
    /// A broker refused, or none could be reached.
    #[error(transparent)]
    Client(#[from] Error),
    /// The cluster does not have what the request names.
    #[error("{0}")]
    Missing(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The state of the cluster does not allow it.
    #[error("{0}")]
    Refused(String),
}
