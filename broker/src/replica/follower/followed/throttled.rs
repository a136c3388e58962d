//! Partitions that catch up while producers wait for others: few at a time, little of each, and none during a pause.
//!
//! Only what is far behind is throttled. A partition whose last answer brought all that its leader had committed is about to be in sync, and is
//! fetched as those that are. What is far behind is flushed when much of it is not durable, or when it is far behind no more: nobody waits for
//! it before. Must never: hold back a partition that producers wait for, or keep a place for one that brings nothing.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_core::metadata::PartitionId;
use tokio::time::Instant;

use super::{Beside, Followed, FollowedPartitions, Standing};
use crate::replica::partition::Partition;

/// Partitions that catch up at the same time.
const AT_ONCE: usize = 4;
/// Bytes that partitions which are far behind may have unflushed, all together.
const UNFLUSHED: u64 = 32 << 20;
/// Unflushed bytes of one that was far behind: more are flushed beside the requests.
const SMALL: u64 = 256 << 10;
/// Unflushed bytes of one that was far behind with which it waits for a flush of its own.
const MUCH: u64 = 1 << 20;
/// How long a partition that brings nothing keeps its place.
const PLACE: Duration = Duration::from_secs(1);
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
    /// Whether a partition is throttled while producers wait for others. It is followed anew when that changes.
    pub(in super::super) fn note_catching_up(&mut self, id: PartitionId, is_catching_up: bool) {
        if is_catching_up {
            self.catching_up.insert(id);
        } else {
            self.catching_up.remove(&id);
        }
    }

    /// Whether any partition is.
    pub(in super::super) fn has_catching_up(&self) -> bool {
        !self.catching_up.is_empty()
    }

    /// Producers begin to wait: those of them that are fetched are looked at.
    pub(in super::super) fn look_at_catching_up(&mut self) {
        let is_fetching = |id: &&PartitionId| self.by_id.get(id).is_some_and(|f| f.standing == Standing::Fetching);
        self.changed.extend(self.catching_up.iter().filter(is_fetching).copied());
    }

    /// Takes what is far behind out of the session, once it has fetched. A few partitions with much unflushed are taken, too, unless they lie in
    /// a log dir that is busy; and those with very much that would be in sync.
    pub(in super::super) fn take_far(&mut self, own: i32, is_busy: impl Fn(&Path) -> bool) -> Taken {
        let changed: Vec<_> = self.changed.iter().copied().collect();
        let share = UNFLUSHED / u64::try_from(self.waiting.len() + self.admitted.len() + 1).unwrap_or(u64::MAX);
        let share = share.max(SMALL);
        let mut taken = Taken::default();
        for id in changed {
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            if !followed.partition.role().is_catching_up(own) {
                self.admitted.remove(&id);
                continue;
            }
            let (is_far, has_fetched) = (followed.is_far(), followed.has_fetched());
            let is_admitted = self.admitted.contains_key(&id);
            if is_far && followed.sent.is_none() && is_admitted {
                continue;
            }
            taken.has_fetched |= is_far && has_fetched;
            let due_from = if is_far { share } else { SMALL };
            let was_far = std::mem::replace(&mut followed.was_far, is_far);
            let counts = (is_far || was_far) && followed.must_flush();
            let unflushed = if counts { followed.partition.log().unsynced_bytes() } else { 0 };
            let has_room = taken.due.len() < AT_ONCE && !is_busy(followed.partition.log().log_dir());
            // The producers' flushes would wait for so much.
            let must_wait = !is_far && unflushed > MUCH;
            if unflushed > due_from && (has_room || must_wait) {
                taken.due.push(Arc::clone(&followed.partition));
                self.stop_fetching(id, Standing::Flushing);
            } else if is_far && (has_fetched || !is_admitted) {
                self.stop_fetching(id, Standing::Waiting);
                self.waiting.insert(id);
            } else if !is_far {
                self.admitted.remove(&id);
            }
        }
        taken
    }

    /// An attempt to flush it has ended: it is fetched again.
    pub(in super::super) fn note_flushed(&mut self, partition: &Partition) {
        let id = partition.id();
        let Some(followed) = self.by_id.get_mut(&id).filter(|followed| followed.standing == Standing::Flushing) else {
            return;
        };
        if followed.is_far() {
            followed.standing = Standing::Waiting;
            self.waiting.insert(id);
        } else {
            followed.standing = Standing::Fetching;
            self.changed.insert(id);
        }
    }

    /// Lets partitions that wait be fetched again, in turn: some of them; all of them where no producer waits. Returns how many.
    pub(in super::super) fn admit(&mut self, beside: Option<&Beside>, now: Instant) -> usize {
        let room = match beside {
            Some(beside) if beside.pause_end.is_some() => 0,
            Some(_) => {
                self.free_places(now);
                AT_ONCE.saturating_sub(self.admitted.len())
            }
            None => {
                // What is unflushed of them is flushed with the next request.
                let admitted = std::mem::take(&mut self.admitted);
                admitted.into_keys().for_each(|id| self.note_change(id));
                usize::MAX
            }
        };
        let mut count = 0;
        while count < room
            && let Some(id) = self.next_waiting()
        {
            self.waiting.remove(&id);
            let Some(followed) = self.by_id.get_mut(&id) else { continue };
            followed.standing = Standing::Fetching;
            self.changed.insert(id);
            self.last_admitted = Some(id);
            if beside.is_some() {
                self.admitted.insert(id, now);
            }
            count += 1;
        }
        count
    }

    /// The partition whose turn it is.
    fn next_waiting(&self) -> Option<PartitionId> {
        let after = self.last_admitted.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((after, Bound::Unbounded)).next().or_else(|| self.waiting.first()).copied()
    }

    /// Partitions that have brought nothing for a while give their places to others: their leader may throttle them.
    fn free_places(&mut self, now: Instant) {
        if self.admitted.len() < AT_ONCE || !self.has_waiting() {
            return;
        }
        let is_answered = |id: &PartitionId| self.by_id.get(id).is_some_and(|found| found.named_in <= self.answers);
        let is_long = |since: Instant| now.saturating_duration_since(since) >= PLACE;
        let silent = self.admitted.iter().filter(|(id, since)| is_long(**since) && is_answered(id));
        for id in silent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop_fetching(id, Standing::Waiting);
            self.waiting.insert(id);
        }
    }

    /// Whether partitions wait to be admitted.
    pub(in super::super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many bytes a partition may bring.
    pub(super) fn bytes_for(&self, followed: &Followed, beside: Option<&Beside>, most: i32) -> i32 {
        let Some(beside) = beside.filter(|beside| followed.partition.role().is_catching_up(beside.own)) else {
            return most;
        };
        let bytes = if self.admitted.contains_key(&followed.partition.id()) {
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
