//! Why the metadata log cannot be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::error::FileError;

/// See the module. Shown to the user as it is.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes differ from the written ones.
    #[error("{} is damaged: {what}. Restore the folder's files from a backup of one point in time", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A format or a kind of record that this build does not know.
    #[error("{} was made by a newer Esker: {what}. Start that version, or a later one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not known.
        what: String,
    },
    /// The format of builds before version 1.
    #[error(
        "{} was made by an earlier build of Esker, in a format that is no longer read. Move metadata.log and metadata.snapshot out of \
         {} and start again: a new cluster adopts the topics in the log dirs, without their configs",
        path.display(), path.parent().unwrap_or(Path::new(".")).display()
    )]
    Outdated {
        /// The file.
        path: PathBuf,
    },
    /// The log and the snapshot do not belong together.
    #[error("{what} in {}. Restore the folder's files from a backup of one point in time", dir.display())]
    Mismatch {
        /// The folder.
        dir: PathBuf,
        /// What does not fit.
        what: String,
    },
}

impl MetadataError {
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), what: what.into() }
    }

    pub(super) fn newer(path: &Path, what: impl Into<String>) -> Self {
        Self::Newer { path: path.to_path_buf(), what: what.into() }
    }
}

impl From<MetadataError> for io::Error {
    fn from(error: MetadataError) -> Self {
        let kind = match &error {
            MetadataError::File(error) => error.source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
