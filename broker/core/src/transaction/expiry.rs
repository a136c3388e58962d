//! What time does: transactions that last too long are aborted, ids that nobody uses are forgotten.

use super::shard::{Action, Effects, TransactionRecord, TransactionShard};

/// Changes in one batch; what is left comes with the next.
const MAX_AT_ONCE: usize = 500;
/// How soon the next batch comes.
const NEXT_BATCH_MS: i64 = 100;

/// When a look counts as having been, so that the next one is due an interval later; soon if not `all` was done.
fn looked_at(now: i64, interval_ms: i64, all: bool) -> i64 {
    if all { now } else { now.saturating_sub(interval_ms).saturating_add(NEXT_BATCH_MS.min(interval_ms)) }
}

impl TransactionShard {
    pub(super) fn pass_time(&mut self, now: i64) -> Effects {
        let mut effects = Effects::default();
        if now >= self.aborted_at.saturating_add(self.limits.abort_interval_ms) {
            let late = self.ongoing.iter().take_while(|(at, _)| *at <= now).take(MAX_AT_ONCE);
            for (_, id) in late {
                let Some(known) = self.transactions.get(id) else { continue };
                let Some(next) = self.fenced(known, None, now) else {
                    effects.actions.push(Action::AbortLate(id.clone()));
                    continue;
                };
                let change = self.abort_timed_out(id, next);
                effects.records.extend(change.records);
                effects.actions.extend(change.actions);
                effects.events.extend(change.events);
            }
            self.aborted_at = looked_at(now, self.limits.abort_interval_ms, effects.records.len() < MAX_AT_ONCE);
        }
        if now >= self.expired_at.saturating_add(self.limits.expiry_interval_ms) {
            let room = MAX_AT_ONCE.saturating_sub(effects.records.len());
            let mut expired: Vec<TransactionRecord> = Vec::new();
            for (_, id) in self.idle.iter().take_while(|(at, _)| *at <= now).take(room) {
                expired.push(TransactionRecord { id: id.clone(), transaction: None, version: 0 });
            }
            self.expired_at = looked_at(now, self.limits.expiry_interval_ms, expired.len() < room);
            effects.records.extend(expired);
        }
        effects
    }
}
