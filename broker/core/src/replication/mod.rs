//! What replication decides, apart from moving bytes: when a record counts as committed, which replicas are in sync, where a follower
//! cuts its log, when deleted records are deleted everywhere, when a client may learn where the log ends, and which replica a consumer reads.
//!
//! Pure: offsets in, offsets out. The replica manager keeps the numbers, fetches, and wakes the requests that wait.

mod deletion;
mod ends;
mod followers;
mod high_watermark;
mod isr;
mod listed_offset;
mod quota;
mod read_replica;
mod truncation;
pub mod wire;

pub use deletion::{DeletionOutcome, DeletionProgress, FollowerStart, low_watermark};
pub use ends::{CountedEnd, ReplicaEnds};
pub use followers::{FollowerFetch, Followers};
pub use high_watermark::{CommitRule, high_watermark};
pub use isr::{IsrChange, IsrRule};
pub use listed_offset::{LeaderEnds, ListedOffset, is_offset_available};
pub use quota::{RateWindow, ThrottledReplicas};
pub use read_replica::{InSyncFollower, preferred_read_replica};
pub use truncation::{EpochEnd, OutOfRange, resolve_out_of_range, truncation_offset};
