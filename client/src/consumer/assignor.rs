//! How the members of a classic group share partitions. Pure; the group's leader runs it.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::primitives::Str;

use crate::metadata::TopicPartition;

/// A way to share partitions, by the names of Java's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic by itself, in runs: the first members get one more where it does not divide.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
}

impl Assignor {
    /// Its name in the group protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// By its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin].into_iter().find(|assignor| assignor.name() == name)
    }
}

/// A member and the topics it wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscribed {
    /// Name that orders members: the instance id of static ones, so that restarts change nothing.
    pub order: Str,
    /// Member id.
    pub member_id: Str,
    /// Topics.
    pub topics: BTreeSet<Str>,
}

/// Assigns the partitions; `counts` has the number of partitions of each topic. Every member is in the result.
#[must_use]
pub fn assign(
    assignor: Assignor,
    members: &[Subscribed],
    counts: &BTreeMap<Str, usize>,
) -> BTreeMap<Str, Vec<TopicPartition>> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort();
    let mut shares: BTreeMap<Str, Vec<TopicPartition>> =
        members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect();
    let mut give = |member: &Subscribed, topic: &Str, partition: usize| {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        shares.entry(member.member_id.clone()).or_default().push(TopicPartition { topic: topic.clone(), partition });
    };
    match assignor {
        Assignor::Range => {
            for (topic, count) in counts {
                let takers: Vec<_> = members.iter().filter(|member| member.topics.contains(topic)).collect();
                if takers.is_empty() {
                    continue;
                }
                let (each, extra) = (count / takers.len(), count % takers.len());
                let mut next = 0;
                for (i, member) in takers.iter().enumerate() {
                    let end = next + each + usize::from(i < extra);
                    (next..end).for_each(|partition| give(member, topic, partition));
                    next = end;
                }
            }
        }
        Assignor::RoundRobin => {
            let wanted = |topic: &Str| members.iter().any(|member| member.topics.contains(topic));
            let mut turn = members.iter().cycle();
            for (topic, count) in counts.iter().filter(|(topic, _)| wanted(topic)) {
                for partition in 0..*count {
                    if let Some(member) = turn.find(|member| member.topics.contains(topic)) {
                        give(member, topic, partition);
                    }
                }
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(
        assignor: Assignor,
        members: &[(&'static str, &[&'static str])],
        counts: &[(&'static str, usize)],
    ) -> String {
        let members: Vec<_> = members
            .iter()
            .map(|(id, topics)| Subscribed {
                order: (*id).into(),
                member_id: (*id).into(),
                topics: topics.iter().map(|t| Str::from(*t)).collect(),
            })
            .collect();
        let counts = counts.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect();
        let shares = assign(assignor, &members, &counts);
        let text = shares.iter().map(|(member, share)| {
            let share: Vec<_> = share.iter().map(ToString::to_string).collect();
            format!("{member}: {}", share.join(" "))
        });
        text.collect::<Vec<_>>().join("; ")
    }

    /// The examples in the documentation of Java's assignors.
    #[test]
    fn as_java() {
        let both: &[(&str, &[&str])] = &[("C0", &["t0", "t1"]), ("C1", &["t0", "t1"])];
        let counts = &[("t0", 3), ("t1", 3)];
        assert_eq!(share(Assignor::Range, both, counts), "C0: t0-0 t0-1 t1-0 t1-1; C1: t0-2 t1-2");
        assert_eq!(share(Assignor::RoundRobin, both, counts), "C0: t0-0 t0-2 t1-1; C1: t0-1 t1-0 t1-2");
        let uneven: &[(&str, &[&str])] = &[("C0", &["t0"]), ("C1", &["t0", "t1"]), ("C2", &["t0", "t1", "t2"])];
        let counts = &[("t0", 1), ("t1", 2), ("t2", 3)];
        assert_eq!(share(Assignor::RoundRobin, uneven, counts), "C0: t0-0; C1: t1-0; C2: t1-1 t2-0 t2-1 t2-2");
        assert_eq!(share(Assignor::Range, &[("a", &[]), ("b", &["x"])], &[("x", 1)]), "a: ; b: x-0");
    }
}
