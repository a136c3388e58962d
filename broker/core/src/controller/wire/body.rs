//! What every body is, and why bytes are none.

use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Writer};
use thiserror::Error;

/// Why bytes are no request or answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// A later version of Esker has a request that this one does not know.
    #[error("a controller request of kind {0} is not known: the other node runs a later version of Esker")]
    UnknownKind(i16),
    /// A later version of Esker has another form of the request.
    #[error(
        "version {version} of the controller request {name} (kind {kind}) is not known: the other node runs another version of Esker"
    )]
    UnknownVersion {
        /// The kind.
        kind: i16,
        /// The name of the request.
        name: &'static str,
        /// The version.
        version: i16,
    },
    /// The body cannot be read.
    #[error("the controller request {name} cannot be read: {error}")]
    Body {
        /// The name of the request.
        name: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
    /// The kind and version cannot be read.
    #[error(transparent)]
    Header(#[from] DecodeError),
    /// Bytes are left behind the body.
    #[error("{left} bytes are left behind the controller request {name}")]
    Trailing {
        /// The name of the request.
        name: &'static str,
        /// How many.
        left: usize,
    },
}

/// A part of a request or an answer that is written and read in a version of its kind.
pub(super) trait Body: Sized {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError>;
    fn get(r: &mut Reader) -> Result<Self, DecodeError>;
}
