//! `range`: each topic is cut into runs, one a member. Members stand in one order for all topics, so that partitions of topics with
//! the same partition count go to the same member.

use super::spec::{Candidate, Spec, Topic};
use crate::group::consumer::member::Partitions;

/// Static members first, by instance id; the rest by member id.
fn order(spec: &Spec<'_>) -> Vec<usize> {
    let mut order: Vec<(Key<'_>, usize)> = spec.members.iter().map(key).zip(0..).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, member)| member).collect()
}

type Key<'a> = (bool, &'a str);

fn key<'a>(member: &Candidate<'a>) -> Key<'a> {
    match member.instance_id {
        Some(instance) => (false, instance),
        None => (true, member.id),
    }
}

/// How far a topic is given away.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    subscribers: i32,
    next: i32,
    extra: i32,
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Partitions> {
    let mut progress = vec![Progress::default(); spec.topics.len()];
    for member in 0..spec.members.len() {
        for topic in spec.topics_of(member) {
            if let Some(progress) = progress.get_mut(topic) {
                progress.subscribers += 1;
            }
        }
    }
    for (progress, topic) in progress.iter_mut().zip(&spec.topics) {
        progress.extra = topic.partitions.checked_rem(progress.subscribers).unwrap_or_default();
    }
    let mut assignment = vec![Partitions::new(); spec.members.len()];
    for member in order(spec) {
        let Some(own) = assignment.get_mut(member) else { continue };
        for topic in spec.topics_of(member) {
            if let (Some(progress), Some(topic)) = (progress.get_mut(topic), spec.topics.get(topic)) {
                let run = take_next_range(progress, topic);
                if !run.is_empty() {
                    own.insert(topic.id, run.collect());
                }
            }
        }
    }
    assignment
}

fn take_next_range(progress: &mut Progress, topic: &Topic) -> std::ops::Range<i32> {
    let quota = topic.partitions.checked_div(progress.subscribers).unwrap_or_default() + progress.extra.min(1);
    progress.extra = progress.extra.saturating_sub(1).max(0);
    let begin = progress.next;
    progress.next = begin.saturating_add(quota).min(topic.partitions);
    begin..progress.next
}
