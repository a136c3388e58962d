//! Offsets and groups lapse: `offsets.retention.minutes` after a group became empty, or after the last commit of a group
//! that never had members; in a live consumer group, for topics that no member subscribes to any more. What an open transaction is
//! about to commit to stays.

use std::collections::HashSet;

use esker_protocol::messages::internal::OffsetCommitKey;
use esker_protocol::primitives::Str;

use super::classic::{CONSUMER, ClassicGroup, State};
use super::committed_offset::Committed;
use super::decision::Effects;
use super::offsets::Subscribed;
use super::record::GroupRecord;
use super::state::GroupShard;

impl GroupShard {
    /// What has lapsed by `now`: offsets, and groups of which nothing is left.
    pub fn expire(&self, now: i64) -> Effects {
        let mut effects = Effects { divisible: true, ..Effects::default() };
        let mut gone = Vec::new();
        let in_transaction: HashSet<Str> = self.pending.groups().cloned().collect();
        for (id, group) in self.groups.iter().filter(|(id, _)| !in_transaction.contains(*id)) {
            let offsets = self.offsets.get(id);
            let subscribed = group.subscribed();
            let keep = self.limits.offsets_retention_ms;
            let lapsed_keys: Vec<_> = offsets
                .into_iter()
                .flatten()
                .filter(|((topic, _), committed)| is_expired(group, &subscribed, topic, committed, keep, now))
                .map(|((topic, partition), _)| OffsetCommitKey {
                    group: id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                })
                .collect();
            let unused = group.state == State::Empty && group.pending.is_empty();
            let nothing_left = lapsed_keys.len() == offsets.map_or(0, |o| o.len());
            let long_empty = now.saturating_sub(group.state_since) >= keep || group.is_unused();
            if unused && nothing_left && (offsets.is_some() || group.generation > 0 || long_empty) {
                gone.push(id.clone());
            } else {
                effects.records.extend(lapsed_keys.into_iter().map(|key| GroupRecord::Offset(key, None)));
            }
        }
        gone.iter().for_each(|id| self.remove_group(id, &mut effects));
        self.expire_consumers(now, &mut effects);
        effects
    }
}

fn is_expired(
    group: &ClassicGroup,
    subscribed: &Subscribed,
    topic: &Str,
    committed: &Committed,
    retention_ms: i64,
    now: i64,
) -> bool {
    let base = match (group.state, group.protocol_type.as_deref()) {
        (State::Empty, None) => committed.committed_at,
        (State::Empty, Some(_)) => group.state_since.max(committed.committed_at),
        (State::Stable, Some(CONSUMER)) if !subscribed.may_contain(topic) => committed.committed_at,
        _ => return false,
    };
    match committed.expires_at {
        Some(at) => now >= at,
        None => now.saturating_sub(base) >= retention_ms,
    }
}
