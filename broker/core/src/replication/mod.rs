//! What replication decides, apart from moving bytes: when a record counts as committed.
//!
//! Pure: offsets in, offsets out. The replica manager keeps the numbers, fetches and wakes whoever waits.

mod high_watermark;

pub use high_watermark::{CommitRule, high_watermark};
