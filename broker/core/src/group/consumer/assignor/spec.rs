//! What an assignor is given, and the owners that it works on: members, topics, subscriptions, and the last target.
//!
//! Every assignor imports this file; it must never import one of them.

use std::collections::BTreeMap;

use esker_protocol::primitives::{Str, Uuid};

use crate::group::consumer::member::Partitions;

/// A topic that a member subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group::consumer) struct Topic {
    pub id: Uuid,
    pub partitions: i32,
}

/// A member to assign to.
#[derive(Debug, Clone, Copy)]
pub(in crate::group::consumer) struct Candidate<'a> {
    pub id: &'a Str,
    pub instance_id: Option<&'a Str>,
    /// What it is to have by the last target.
    pub current: Option<&'a Partitions>,
}

/// Which topics (by place) each member (by place) subscribes to.
#[derive(Debug, Clone)]
pub(in crate::group::consumer) enum Subscriptions {
    /// All members subscribe to all topics.
    Same,
    /// Each to its own.
    Each(Vec<Vec<usize>>),
}

/// What an assignor is given.
#[derive(Debug, Clone)]
pub(in crate::group::consumer) struct Spec<'a> {
    /// By id.
    pub members: Vec<Candidate<'a>>,
    pub topics: Vec<Topic>,
    pub subscriptions: Subscriptions,
}

impl Spec<'_> {
    pub fn topics_of(&self, member: usize) -> impl Iterator<Item = usize> {
        let (all, own) = match &self.subscriptions {
            Subscriptions::Same => (0..self.topics.len(), &[][..]),
            Subscriptions::Each(lists) => (0..0, lists.get(member).map_or(&[][..], Vec::as_slice)),
        };
        all.chain(own.iter().copied())
    }

    /// The owners in the last target, for topics that exist; a partition that two members claim belongs to the first.
    pub(super) fn owners(&self) -> Owners {
        let places: BTreeMap<Uuid, usize> = self.topics.iter().enumerate().map(|(at, t)| (t.id, at)).collect();
        let mut owners = Owners::new(&self.topics);
        let mut subscribed = vec![false; self.topics.len()];
        for (member, candidate) in self.members.iter().enumerate() {
            let each = matches!(self.subscriptions, Subscriptions::Each(_));
            let mark = |subscribed: &mut Vec<bool>, value| {
                for topic in self.topics_of(member).filter(|_| each) {
                    if let Some(place) = subscribed.get_mut(topic) {
                        *place = value;
                    }
                }
            };
            mark(&mut subscribed, true);
            for (topic, partitions) in candidate.current.into_iter().flatten() {
                let Some(topic) = places.get(topic).copied() else { continue };
                if !each || subscribed.get(topic) == Some(&true) {
                    partitions.iter().for_each(|partition| owners.claim(topic, *partition, member));
                }
            }
            mark(&mut subscribed, false);
        }
        owners
    }
}

/// Owners by topic and partition.
#[derive(Debug, Clone)]
pub(super) struct Owners(pub Vec<Vec<Option<u32>>>);

impl Owners {
    fn new(topics: &[Topic]) -> Self {
        Self(topics.iter().map(|t| vec![None; usize::try_from(t.partitions).unwrap_or_default()]).collect())
    }

    fn claim(&mut self, topic: usize, partition: i32, member: usize) {
        let place = usize::try_from(partition).ok().and_then(|p| self.0.get_mut(topic)?.get_mut(p));
        if let Some(place @ None) = place {
            *place = u32::try_from(member).ok();
        }
    }

    /// Each member's partitions.
    pub fn into_assignment(self, topics: &[Topic], members: usize) -> Vec<Partitions> {
        let mut assignment = vec![Partitions::new(); members];
        for (owners, topic) in self.0.into_iter().zip(topics) {
            // By member first: one look-up of the topic for a run of partitions.
            let mut pairs: Vec<(u32, i32)> =
                (0..).zip(owners).filter_map(|(partition, owner)| Some((owner?, partition))).collect();
            pairs.sort_unstable();
            for run in pairs.chunk_by(|a, b| a.0 == b.0) {
                let member = run.first().and_then(|(member, _)| assignment.get_mut(*member as usize));
                if let Some(member) = member {
                    member.insert(topic.id, run.iter().map(|(_, partition)| *partition).collect());
                }
            }
        }
        assignment
    }
}
