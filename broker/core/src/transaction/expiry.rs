//! Decisions that are due by time: transactions past their time-out are aborted, unused transactional ids expire.

use super::decision::{Action, Effects, TransactionRecord};
use super::state::TransactionShard;

/// Changes in one batch; what is left comes with the next.
const MAX_AT_ONCE: usize = 500;
/// Bytes that they may have, about: far below what a segment holds.
const MAX_BYTES: usize = 256 << 10;
/// How soon the next batch comes.
const NEXT_BATCH_MS: i64 = 100;

/// The time to record for a pass, so that the next pass is due an interval later; soon if the pass did not get to `all`.
fn last_pass_at(now: i64, interval_ms: i64, all: bool) -> i64 {
    if all { now } else { now.saturating_sub(interval_ms).saturating_add(NEXT_BATCH_MS.min(interval_ms)) }
}

/// What still goes into a batch.
struct BatchRoom {
    changes: usize,
    bytes: usize,
}

impl BatchRoom {
    /// Whether a change of about so many bytes fits. The first one always does.
    fn fits(&mut self, bytes: usize) -> bool {
        let fits = self.changes > 0 && (self.bytes >= bytes || self.bytes == MAX_BYTES);
        if fits {
            self.changes -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        fits
    }
}

impl TransactionShard {
    pub(super) fn decide_due(&self, now: i64) -> Effects {
        let mut effects = Effects::default();
        let mut room = BatchRoom { changes: MAX_AT_ONCE, bytes: MAX_BYTES };
        if now >= self.aborted_at.saturating_add(self.limits.abort_interval_ms) {
            let mut all = true;
            for (_, id) in self.ongoing.iter().take_while(|(at, _)| *at <= now) {
                let Some(known) = self.transactions.get(id) else { continue };
                all = room.fits(size(id) + known.partitions.iter().map(|(topic, _)| size(topic)).sum::<usize>());
                if !all {
                    break;
                }
                let Some(next) = self.fence_producer(known, None, now) else {
                    effects.actions.push(Action::AbortLate(id.clone()));
                    continue;
                };
                let change = self.abort_timed_out(id, next);
                effects.records.extend(change.records);
                effects.actions.extend(change.actions);
                effects.events.extend(change.events);
            }
            effects.update.aborted_at = Some(last_pass_at(now, self.limits.abort_interval_ms, all));
        }
        if now >= self.expired_at.saturating_add(self.limits.expiry_interval_ms) {
            let mut all = true;
            for (_, id) in self.idle.iter().take_while(|(at, _)| *at <= now) {
                all = room.fits(size(id));
                if !all {
                    break;
                }
                effects.records.push(TransactionRecord { id: id.clone(), transaction: None, version: 0 });
            }
            effects.update.expired_at = Some(last_pass_at(now, self.limits.expiry_interval_ms, all));
        }
        effects
    }
}

/// About what a name takes in a record.
fn size(name: &str) -> usize {
    name.len().saturating_add(64)
}
