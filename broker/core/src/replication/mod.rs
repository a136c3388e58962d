//! What replication decides, apart from moving bytes: when a record counts as committed.
//!
//! Pure: offsets in, offsets out. The replica manager keeps the numbers, fetches, and wakes the requests that wait.

mod ends;
mod followers;
mod high_watermark;

pub use ends::{CountedEnd, ReplicaEnds};
pub use followers::Followers;
pub use high_watermark::{CommitRule, high_watermark};
