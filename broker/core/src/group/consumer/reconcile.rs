//! Reconciliation: how one member moves from its current to its target assignment, without two owners of a partition at any time.
//!
//! First the member revokes partitions outside its target, and stays at its epoch until it has confirmed that. Then it moves to
//! the epoch of the target and gets the free partitions. It waits for partitions that other members still own.

use std::collections::BTreeSet;

use esker_protocol::primitives::Uuid;

use super::group::ConsumerGroup;
use super::member::{ConsumerMember, MemberState, Owned, Partitions};
use crate::metadata::MetadataImage;

/// What one step of a member hangs on.
pub(super) struct Step<'a> {
    /// The group.
    pub group: &'a ConsumerGroup,
    /// The topics that there are.
    pub image: &'a MetadataImage,
    /// The epoch of the target assignment, and the member's part in it.
    pub target_epoch: i32,
    /// See above.
    pub target: &'a Partitions,
    /// Its subscription is another than before.
    pub subscription_changed: bool,
    /// The partitions that the member reports as owned, if it reports them.
    pub owned: Option<&'a Partitions>,
}

/// A member in an unknown state must begin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MustRejoin;

impl Step<'_> {
    /// Takes a member one step further; the same member if there is nothing to do.
    pub fn advance(&self, member: &ConsumerMember) -> Result<ConsumerMember, MustRejoin> {
        Ok(match member.state {
            MemberState::Stable if member.epoch != self.target_epoch => self.next(member, member.epoch),
            MemberState::Stable if self.subscription_changed => self.revoke_unsubscribed(member),
            MemberState::Stable => member.clone(),
            MemberState::UnrevokedPartitions if self.owns_any(&member.revoking) => {
                if self.subscription_changed {
                    self.revoke_unsubscribed(member)
                } else {
                    member.clone()
                }
            }
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => self.next(member, member.epoch),
            MemberState::Unknown if self.owned.is_some_and(|owned| owned.is_empty()) => {
                self.next(member, self.target_epoch)
            }
            MemberState::Unknown => return Err(MustRejoin),
        })
    }

    /// A member that does not report its partitions may own any.
    fn owns_any(&self, partitions: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, list)| {
            partitions.get(topic).is_some_and(|wanted| list.iter().any(|partition| wanted.contains_key(partition)))
        })
    }

    fn subscribes(&self, member: &ConsumerMember, topic: Uuid) -> bool {
        self.image.topic_by_id(topic).is_some_and(|topic| self.group.subscribes(member, &topic.name))
    }

    /// Topics that the member does not subscribe to any more are revoked at once; the other partitions wait for a target.
    fn revoke_unsubscribed(&self, member: &ConsumerMember) -> ConsumerMember {
        let gone: Vec<Uuid> =
            member.assigned.keys().copied().filter(|topic| !self.subscribes(member, *topic)).collect();
        if gone.is_empty() {
            return member.clone();
        }
        let mut next = member.clone();
        for topic in gone {
            if let Some(partitions) = next.assigned.remove(&topic) {
                next.revoking.entry(topic).or_default().extend(partitions);
            }
        }
        next.advance(member.epoch);
        if self.owns_any(&next.revoking) {
            next.state = MemberState::UnrevokedPartitions;
        } else {
            next.revoking.clone_from(&member.revoking);
        }
        next
    }

    fn next(&self, member: &ConsumerMember, epoch: i32) -> ConsumerMember {
        let (mut assigned, mut revoking, mut pending) = (Owned::new(), Owned::new(), Vec::new());
        let mut unreleased = false;
        let topics: BTreeSet<Uuid> = self.target.keys().chain(member.assigned.keys()).copied().collect();
        for topic in topics {
            let target = self.target.get(&topic).filter(|_| self.subscribes(member, topic));
            let target = target.map_or(&[][..], Vec::as_slice);
            let has = member.assigned.get(&topic);
            for (partition, since) in has.into_iter().flatten() {
                let place = if target.binary_search(partition).is_ok() { &mut assigned } else { &mut revoking };
                place.entry(topic).or_default().insert(*partition, *since);
            }
            for partition in target.iter().filter(|p| has.is_none_or(|has| !has.contains_key(p))) {
                let own = member.revoking.get(&topic).is_some_and(|revoking| revoking.contains_key(partition));
                if own || self.group.owner(topic, *partition).is_none() {
                    pending.push((topic, *partition));
                } else {
                    unreleased = true;
                }
            }
        }
        let mut next = member.clone();
        next.assigned = assigned;
        if !revoking.is_empty() && self.owns_any(&revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
            next.advance(epoch);
            return next;
        }
        for (topic, partition) in pending {
            next.assigned.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        next.state = if unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        next.revoking.clear();
        next.advance(self.target_epoch);
        next
    }
}
