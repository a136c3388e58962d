//! Why reading a cluster, or changing it, fails.

use esker_client::Error;
use esker_core::plan::PlanError;
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

impl From<PlanError> for AdminError {
    fn from(error: PlanError) -> Self {
        let text = error.to_string();
        match error {
            PlanError::UnknownBroker { .. } => Self::Missing(text),
            PlanError::SameBroker(_) => Self::Invalid(text),
            PlanError::NotAlive(_)
            | PlanError::Cordoned(_)
            | PlanError::NoBrokerLeft { .. }
            | PlanError::FewerRacks { .. } => Self::Refused(text),
        }
    }
}
