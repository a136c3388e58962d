//! The consumer: reads partitions that it was assigned, or that its group gives it.
//!
//! One value, used by one task: [`Consumer::poll`] drives fetching, offsets and group events, and returns records in offset order
//! within each partition. Fetches run ahead of `poll` up to a bound, one request a broker at a time. In a group a
//! task of its own keeps the membership alive; it sends `poll` the revoked and assigned partitions.

mod assigned;
mod assignor;
mod commit;
mod config;
mod decode;
mod fetch;
mod group;
mod membership;
mod offsets;
mod poll;
mod record;
mod slot;
mod subscription;

pub use assigned::Consumer;
pub use assignor::{Assignor, Subscribed, assign};
pub use config::{AutoOffsetReset, ConsumerConfig, GroupConfig, Isolation, StartAt};
pub use membership::{MemberAssignment, decode_assignment};
pub use record::ConsumerRecord;
