//! Transactions, pure: what a transaction coordinator decides for one partition of `__transaction_state` (KIP-98, KIP-360, KIP-890).
//!
//! A [`TransactionShard`] holds the transactional ids of one partition: the producer that may write under each (producer id and
//! epoch), and how far its transaction is. Every change is one record with the whole state of its id, so that replay needs the last one alone.
//! The way of a transaction: partitions are added (`Ongoing`), its end is decided and recorded (`PrepareCommit`,
//! `PrepareAbort`; from then on nothing can undo it), the shell writes a marker into each partition
//! ([`Action::WriteMarkers`]), and that this is done is recorded (`CompleteCommit`, `CompleteAbort`).
//!
//! Kafka keeps what is being written apart (a pending state) and refuses with CONCURRENT_TRANSACTIONS what comes meanwhile. Here
//! records are applied when they are appended, and answers wait until all that they rest on is committed: what comes
//! meanwhile is decided on the newer state.
//!
//! From the bottom: `transactional_id` and `decision`, the state (`state`), what several requests lead to (`transitions`), one file a
//! request, and the state machine (`shard`). A file imports those below it.

mod add;
mod decision;
mod end;
mod expiry;
mod init;
mod shard;
mod state;
#[cfg(test)]
mod tests;
mod transactional_id;
mod transitions;
mod view;
pub mod wire;

pub use add::AddRequest;
pub use decision::{Action, Effects, Markers, Producer, Reply, TransactionRecord, Update, VerificationResult};
pub use end::EndRequest;
pub use init::InitRequest;
pub use state::{Limits, TransactionShard};
pub use transactional_id::{State, Transaction, TransactionPartition};
pub use view::{ListFilter, TransactionDescription, TransactionSummary};
