//! `uniform` for members that subscribe to different topics: an unassigned partition goes to the subscriber with the fewest
//! partitions. Then topic by topic partitions move from the member with the most to the one with the fewest, until no move helps.
//!
//! The rounds are bounded: what is left unbalanced then is evened out at the next assignment.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::spec::{Owners, Spec};
use crate::group::consumer::member::Partitions;

const MAX_ROUNDS: usize = 16;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Partitions> {
    let mut work = Work::new(spec);
    let order = work.topic_order(spec);
    for topic in &order {
        work.fill(*topic);
    }
    for _ in 0..MAX_ROUNDS {
        let moved = order.iter().filter(|topic| work.balance(**topic)).count();
        if moved == 0 {
            break;
        }
    }
    work.owners.into_assignment(&spec.topics, spec.members.len())
}

struct Work {
    owners: Owners,
    /// How many partitions each member has.
    loads: Vec<usize>,
    /// By topic.
    subscribers: Vec<Vec<u32>>,
}

impl Work {
    fn new(spec: &Spec<'_>) -> Self {
        let owners = spec.owners();
        let mut loads = vec![0; spec.members.len()];
        for owner in owners.0.iter().flatten().flatten() {
            if let Some(load) = loads.get_mut(*owner as usize) {
                *load += 1;
            }
        }
        let mut subscribers = vec![Vec::new(); spec.topics.len()];
        for (number, member) in (0u32..).zip(0..spec.members.len()) {
            for topic in spec.topics_of(member) {
                if let Some(subscribers) = subscribers.get_mut(topic) {
                    subscribers.push(number);
                }
            }
        }
        Self { owners, loads, subscribers }
    }

    /// Topics with the most partitions a subscriber first, of those the ones with fewer subscribers: what leaves the
    /// least choice comes first.
    fn topic_order(&self, spec: &Spec<'_>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..spec.topics.len()).collect();
        let facts = |topic: &usize| {
            let partitions = self.owners.0.get(*topic).map_or(0, Vec::len);
            let subscribers = self.subscribers.get(*topic).map_or(0, Vec::len);
            (partitions, subscribers)
        };
        order.sort_by(|a, b| {
            let ((pa, sa), (pb, sb)) = (facts(a), facts(b));
            // pb / sb against pa / sa, in whole numbers.
            (pb * sa).cmp(&(pa * sb)).then(sa.cmp(&sb)).then(a.cmp(b))
        });
        order
    }

    fn load(&self, member: u32) -> usize {
        self.loads.get(member as usize).copied().unwrap_or_default()
    }

    fn add(&mut self, member: u32, by: isize) {
        if let Some(load) = self.loads.get_mut(member as usize) {
            *load = load.saturating_add_signed(by);
        }
    }

    /// Assigns the unassigned partitions.
    fn fill(&mut self, topic: usize) {
        let Some(subscribers) = self.subscribers.get(topic) else { return };
        let Some(mut owners) = self.owners.0.get_mut(topic).map(std::mem::take) else { return };
        if owners.iter().any(Option::is_none) {
            let mut least: BinaryHeap<_> = subscribers.iter().map(|m| Reverse((self.load(*m), *m))).collect();
            for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
                let Some(mut top) = least.peek_mut() else { break };
                let Reverse((load, member)) = &mut *top;
                *owner = Some(*member);
                *load += 1;
                if let Some(place) = self.loads.get_mut(*member as usize) {
                    *place = *load;
                }
            }
        }
        if let Some(place) = self.owners.0.get_mut(topic) {
            *place = owners;
        }
    }

    /// Moves partitions of one topic from the member with the most to the one with the fewest; returns whether any moved.
    fn balance(&mut self, topic: usize) -> bool {
        let Some(subscribers) = self.subscribers.get(topic) else { return false };
        let loads = subscribers.iter().map(|m| self.load(*m));
        let (Some(least), Some(most)) = (loads.clone().min(), loads.max()) else { return false };
        if most - least <= 1 {
            return false;
        }
        let mut least: BTreeSet<(usize, u32)> = subscribers.iter().map(|m| (self.load(*m), *m)).collect();
        let Some(mut owners) = self.owners.0.get_mut(topic).map(std::mem::take) else { return false };
        // Partitions of this topic by owner; the last goes first.
        let mut of: std::collections::HashMap<u32, Vec<usize>> = std::collections::HashMap::new();
        for (partition, owner) in owners.iter().enumerate() {
            if let Some(owner) = owner {
                of.entry(*owner).or_default().push(partition);
            }
        }
        let mut givers: BinaryHeap<(usize, Reverse<u32>)> =
            of.keys().map(|member| (self.load(*member), Reverse(*member))).collect();
        let mut moved = false;
        while let Some((load, Reverse(giver))) = givers.pop() {
            let Some((low, taker)) = least.first().copied() else { break };
            if load <= low + 1 {
                break;
            }
            // What it was given meanwhile is in `loads`, not in the heap.
            if load != self.load(giver) {
                givers.push((self.load(giver), Reverse(giver)));
                continue;
            }
            let Some(partition) = of.get_mut(&giver).and_then(Vec::pop) else { continue };
            if let Some(owner) = owners.get_mut(partition) {
                *owner = Some(taker);
            }
            least.remove(&(low, taker));
            least.remove(&(load, giver));
            self.add(giver, -1);
            self.add(taker, 1);
            least.insert((self.load(taker), taker));
            least.insert((self.load(giver), giver));
            givers.push((self.load(giver), Reverse(giver)));
            moved = true;
        }
        if let Some(place) = self.owners.0.get_mut(topic) {
            *place = owners;
        }
        moved
    }
}
