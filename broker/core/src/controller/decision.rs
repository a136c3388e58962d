//! What deciding a request leads to.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use crate::metadata::MetadataRecord;

/// What a request leads to: records to commit, and the answer once they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<R> {
    /// In order; none when nothing changes.
    pub records: Vec<MetadataRecord>,
    /// The answer.
    pub reply: R,
}

impl<R> Decision<R> {
    /// The same records with another form of the answer.
    pub fn map<T>(self, form: impl FnOnce(R) -> T) -> Decision<T> {
        Decision { records: self.records, reply: form(self.reply) }
    }
}

/// A refusal in Kafka's words: the code and a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What is wrong and what is allowed.
    pub message: Str,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Str::from(message.into()) }
    }
}
