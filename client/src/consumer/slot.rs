//! One assigned partition: its position, and what is fetched ahead of it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::config::StartAt;
use super::record::ConsumerRecord;

/// What is known of an assigned partition.
#[derive(Debug)]
pub(super) struct Slot {
    /// Where to begin, until the position is known.
    pub(super) start: StartAt,
    /// Offset of the next record for the application.
    pub(super) position: Option<i64>,
    /// Offset of the next fetch, ahead of the position by what is buffered.
    pub(super) fetch_at: i64,
    /// Leader epoch of the last record returned, for commits (KIP-320); -1 for none.
    pub(super) last_epoch: i32,
    pub(super) buffered: VecDeque<ConsumerRecord>,
    pub(super) buffered_bytes: usize,
    pub(super) paused: bool,
    /// Counts seeks: what was fetched before one is dropped.
    pub(super) era: u64,
    /// End of the partition as of the last fetch: high watermark, or last stable offset with read committed.
    pub(super) end: Option<i64>,
    /// The last fetch found nothing more.
    pub(super) at_end: bool,
    pub(super) not_before: Option<Instant>,
}

impl Slot {
    pub(super) fn new(start: StartAt, era: u64) -> Self {
        let position = match start {
            StartAt::Offset(offset) => Some(offset),
            _ => None,
        };
        Self {
            start,
            position,
            fetch_at: position.unwrap_or(0),
            last_epoch: -1,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            paused: false,
            era,
            end: None,
            at_end: false,
            not_before: None,
        }
    }
}
