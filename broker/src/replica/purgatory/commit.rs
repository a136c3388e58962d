//! Produces that wait until their offsets are committed or flushed, in the order of these offsets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The gate of a produce that waits for several partitions: opens when each has committed or failed.
#[derive(Debug)]
pub struct CommitGate {
    remaining: AtomicUsize,
    notify: Notify,
}

impl CommitGate {
    /// A gate that opens after `partitions` calls of [`CommitGate::release`].
    pub fn new(partitions: usize) -> Arc<Self> {
        Arc::new(Self { remaining: AtomicUsize::new(partitions), notify: Notify::new() })
    }

    /// Requires one more [`CommitGate::release`].
    pub fn require_release(&self) {
        self.remaining.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that one partition has committed (or can no longer do so).
    pub fn release(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.notify.notify_one();
        }
    }

    /// Whether every partition released the gate: it is in no list then.
    pub fn is_open(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// Resolves when every partition released the gate.
    pub async fn wait(&self) {
        if !self.is_open() {
            self.notify.notified().await;
        }
    }
}

/// The produces parked on one partition, in the order of the offsets they wait for.
#[derive(Debug)]
pub(in super::super) struct CommitWaiters {
    /// The lowest high watermark that a gate waits for; `i64::MAX` when there is no gate.
    lowest: AtomicI64,
    queue: Mutex<VecDeque<(i64, Arc<CommitGate>)>>,
}

impl Default for CommitWaiters {
    fn default() -> Self {
        Self { lowest: AtomicI64::new(i64::MAX), queue: Mutex::new(VecDeque::new()) }
    }
}

impl CommitWaiters {
    /// `gate` is released when the high watermark reaches `offset`. Afterwards the caller calls [`CommitWaiters::release_up_to`]
    /// with the current high watermark, and [`CommitWaiters::leave`] if it stops waiting earlier.
    pub(in super::super) fn register(&self, offset: i64, gate: Arc<CommitGate>) {
        let mut queue = self.queue.lock();
        let at = queue.partition_point(|(o, _)| *o <= offset);
        queue.insert(at, (offset, gate));
        self.publish_lowest(&queue);
        drop(queue);
        fence(Ordering::SeqCst);
    }

    /// Removes a gate that was registered for `offset`; false if it was released before.
    pub(in super::super) fn leave(&self, offset: i64, gate: &Arc<CommitGate>) -> bool {
        let mut queue = self.queue.lock();
        let from = queue.partition_point(|(o, _)| *o < offset);
        let mut of_offset = queue.range(from..).take_while(|(o, _)| *o == offset);
        let Some(at) = of_offset.position(|(_, other)| Arc::ptr_eq(other, gate)) else { return false };
        queue.remove(from + at);
        self.publish_lowest(&queue);
        true
    }

    /// Releases all gates that wait for an offset of at most `high_watermark`.
    pub(in super::super) fn release_up_to(&self, high_watermark: i64) {
        fence(Ordering::SeqCst);
        if self.lowest.load(Ordering::Acquire) > high_watermark {
            return;
        }
        let mut queue = self.queue.lock();
        while queue.front().is_some_and(|(offset, _)| *offset <= high_watermark) {
            if let Some((_, gate)) = queue.pop_front() {
                gate.release();
            }
        }
        self.publish_lowest(&queue);
    }

    /// Releases all gates: leadership has ended, and this replica commits no offset any more.
    pub(in super::super) fn release_all(&self) {
        self.release_up_to(i64::MAX - 1);
    }

    /// Takes all gates out, each with its offset: the caller releases them.
    pub(in super::super) fn take_all(&self) -> VecDeque<(i64, Arc<CommitGate>)> {
        let mut queue = self.queue.lock();
        let taken = std::mem::take(&mut *queue);
        self.publish_lowest(&queue);
        taken
    }

    /// Number of waiting gates.
    pub(in super::super) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    fn publish_lowest(&self, queue: &VecDeque<(i64, Arc<CommitGate>)>) {
        self.lowest.store(queue.front().map_or(i64::MAX, |(offset, _)| *offset), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_gate_opens_when_the_last_partition_commits() {
        let (a, b) = (CommitWaiters::default(), CommitWaiters::default());
        let gate = CommitGate::new(2);
        a.register(10, Arc::clone(&gate));
        b.register(5, Arc::clone(&gate));
        a.release_up_to(9);
        b.release_up_to(7);
        assert!(gate.wait().now_or_never().is_none(), "the first partition stands at 9 of 10");
        a.release_up_to(10);
        assert!(gate.wait().now_or_never().is_some());
    }

    #[test]
    fn commits_are_released_in_offset_order_whatever_the_order_of_registration() {
        let waiters = CommitWaiters::default();
        let gates: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|offset| {
                let gate = CommitGate::new(1);
                waiters.register(offset, Arc::clone(&gate));
                (offset, gate)
            })
            .collect();
        waiters.release_up_to(20);
        for (offset, gate) in gates {
            assert_eq!(gate.wait().now_or_never().is_some(), offset <= 20, "{offset}");
        }
    }

    #[test]
    fn a_gate_leaves_alone_among_its_offset() {
        let waiters = CommitWaiters::default();
        let gates: Vec<_> = (0..9).map(|_| CommitGate::new(1)).collect();
        for (offset, gate) in [10, 20, 20, 20, 30, 20, 10, 30, 20].into_iter().zip(&gates) {
            waiters.register(offset, Arc::clone(gate));
        }
        waiters.leave(20, &gates[2]);
        waiters.leave(20, &gates[0]);
        assert_eq!(waiters.len(), 8, "a gate of another offset stays");
        waiters.leave(10, &gates[0]);
        waiters.leave(10, &gates[6]);
        assert_eq!((waiters.len(), waiters.lowest.load(Ordering::Acquire)), (6, 20));
        waiters.release_all();
        let open: Vec<_> = gates.iter().map(|gate| gate.is_open()).collect();
        assert_eq!(open, [false, true, false, true, true, true, false, true, true]);
    }
}
