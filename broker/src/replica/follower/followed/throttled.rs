//! Partitions that catch up while producers wait for others: few at a time, little of each, and none during a pause.
//!
//! Only what is far behind is throttled. A partition whose last answer brought all that its leader had committed is about to be in sync, and is
//! fetched as those that are. What is far behind is flushed when much of it is not durable, or when it is far behind no more: nobody waits for
//! it before. Must never: hold back a partition that producers wait for.

use std::sync::Arc;

use super::{Beside, Followed, FollowedPartitions, Standing};
use crate::replica::partition::Partition;

/// Partitions that catch up at the same time.
const AT_ONCE: usize = 4;
/// Bytes that partitions which are far behind may have unflushed, all together.
const UNFLUSHED: u64 = 32 << 20;
/// Unflushed bytes of one that is near: more are flushed beside the requests.
const SMALL: u64 = 256 << 10;
/// Bytes that a partition asks for in a session that begins.
const FIRST: i32 = 64 << 10;

/// What [`FollowedPartitions::take_far`] took.
#[derive(Debug, Default)]
pub(in super::super) struct Taken {
    /// Whether any of them has fetched.
    pub has_fetched: bool,
    /// To be flushed; they are not fetched until [`FollowedPartitions::note_flushed`].
    pub due: Vec<Arc<Partition>>,
}

impl Followed {
    /// Whether the last answer left records that its leader had committed.
    fn is_far(&self) -> bool {
        self.leader_end > self.partition.log().log_end_offset()
    }

    fn has_fetched(&self) -> bool {
        self.sent.is_some_and(|sent| sent.offset < self.partition.log().log_end_offset())
    }
}

impl FollowedPartitions {
    /// Takes what is far behind out of the session, once it has fetched; what has much unflushed, too.
    pub(in super::super) fn take_far(&mut self, own: i32) -> Taken {
        let is_throttled = |followed: &Followed| followed.partition.role().gives_way(own);
        let changed: Vec<_> = self.changed.iter().copied().collect();
        let share = UNFLUSHED / u64::try_from(self.waiting.len() + self.admitted.len() + 1).unwrap_or(u64::MAX);
        let mut taken = Taken::default();
        for id in changed {
            let Some(followed) = self.by_id.get(&id).filter(|followed| is_throttled(followed)) else { continue };
            let (is_far, has_fetched) = (followed.is_far(), followed.has_fetched());
            if followed.sent.is_none() && self.admitted.contains(&id) {
                continue;
            }
            taken.has_fetched |= is_far && has_fetched;
            let unflushed = if followed.must_flush() { followed.partition.log().unsynced_bytes() } else { 0 };
            if unflushed > if is_far { share } else { SMALL } {
                taken.due.push(Arc::clone(&followed.partition));
                self.stop_fetching(id, Standing::Flushing);
            } else if is_far && (has_fetched || followed.sent.is_none()) {
                self.stop_fetching(id, Standing::Waiting);
                self.waiting.insert(id);
            } else if !is_far {
                self.admitted.remove(&id);
            }
        }
        taken
    }

    /// An attempt to flush them has ended: they are fetched again.
    pub(in super::super) fn note_flushed(&mut self, partitions: &[Arc<Partition>]) {
        for id in partitions.iter().map(|partition| partition.id()) {
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            if followed.standing != Standing::Flushing {
                continue;
            }
            if followed.is_far() {
                followed.standing = Standing::Waiting;
                self.waiting.insert(id);
            } else {
                followed.standing = Standing::Fetching;
                self.changed.insert(id);
            }
        }
    }

    /// Lets partitions that wait be fetched again: some of them; all of them where no producer waits.
    pub(in super::super) fn admit(&mut self, beside: Option<&Beside>) {
        let room = match beside {
            Some(beside) if beside.is_pausing => 0,
            Some(_) => AT_ONCE.saturating_sub(self.admitted.len()),
            None => {
                self.admitted.clear();
                usize::MAX
            }
        };
        for _ in 0..room {
            let Some(id) = self.waiting.pop_first() else { break };
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            followed.standing = Standing::Fetching;
            self.changed.insert(id);
            if beside.is_some() {
                self.admitted.insert(id);
            }
        }
    }

    /// Whether partitions wait to be admitted.
    pub(in super::super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many bytes a partition may bring.
    pub(super) fn bytes_for(&self, followed: &Followed, beside: Option<&Beside>, most: i32) -> i32 {
        let Some(beside) = beside.filter(|beside| followed.partition.role().gives_way(beside.own)) else { return most };
        let bytes = if self.admitted.contains(&followed.partition.id()) {
            beside.bytes / i32::try_from(self.admitted.len().max(1)).unwrap_or(i32::MAX)
        } else if followed.leader_end < 0 || followed.is_far() {
            FIRST
        } else {
            most
        };
        bytes.min(most)
    }
}

#[cfg(test)]
mod tests;
