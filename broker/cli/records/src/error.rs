//! Why a command fails; `esker-cli` maps it to an exit code.

use esker_admin::AdminError;
use esker_client::{Error, ProduceError};
use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The broker or the way to it.
    #[error(transparent)]
    Client(#[from] Error),
    /// A record could not be produced.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// The record of a line could not be produced.
    #[error("line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// Why.
        source: ProduceError,
    },
    /// Reading stdin or writing stdout.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A flag or argument does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The cluster, or the state of a data folder, does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The metadata log of a data folder cannot be read or written.
    #[error(transparent)]
    Metadata(#[from] esker_storage::metalog::MetadataError),
    /// A data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] esker_storage::OpenError),
    /// A data folder cannot be closed.
    #[error(transparent)]
    Log(#[from] esker_storage::LogError),
    /// A question is answered with no; the reasons are on stdout.
    #[error("{0}")]
    No(String),
    /// Nothing is wrong yet, and something may be soon; stdout says what.
    #[error("{0}")]
    Warnings(String),
    /// JSON could not be written.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Client(error) => Self::Client(error),
            AdminError::Missing(text) | AdminError::Invalid(text) => Self::Usage(text),
            AdminError::Refused(text) => Self::Refused(text),
        }
    }
}

/// The failures of a command that goes on after one; each is a line of its own.
pub fn fail_with(mut failures: Vec<Error>) -> Result<(), CliError> {
    if failures.len() > 1 {
        let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
        return Err(CliError::Refused(texts.join("\nesker: ")));
    }
    failures.pop().map_or(Ok(()), |only| Err(only.into()))
}
