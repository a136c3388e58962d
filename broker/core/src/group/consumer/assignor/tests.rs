//! Tables of assignments, and properties of every assignment.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::primitives::{Str, Uuid};
use proptest::prelude::*;

use super::*;

fn id(topic: usize) -> Uuid {
    Uuid([u8::try_from(topic).unwrap() + 1; 16])
}

/// A group of members with names, instances and subscriptions, in the order of their names.
#[derive(Debug, Clone, Default)]
struct Group {
    topics: Vec<i32>,
    members: BTreeMap<Str, (Option<Str>, Vec<usize>)>,
    current: BTreeMap<Str, Partitions>,
}

impl Group {
    fn assign(&mut self, assignor: Assignor) {
        let all: Vec<usize> = (0..self.topics.len()).collect();
        let same = self.members.values().all(|(_, topics)| *topics == all);
        let spec = Spec {
            members: self
                .members
                .iter()
                .map(|(id, (instance, _))| Candidate {
                    id,
                    instance_id: instance.as_ref(),
                    current: self.current.get(id),
                })
                .collect(),
            topics: self.topics.iter().enumerate().map(|(at, n)| Topic { id: id(at), partitions: *n }).collect(),
            subscriptions: if same {
                Subscriptions::Same
            } else {
                Subscriptions::Each(self.members.values().map(|(_, topics)| topics.clone()).collect())
            },
        };
        let assignment = assign(assignor, &spec);
        self.current = self.members.keys().cloned().zip(assignment).collect();
    }

    fn partitions(&self, topic: usize) -> BTreeSet<(Uuid, i32)> {
        (0..self.topics[topic]).map(|partition| (id(topic), partition)).collect()
    }

    fn of(&self, member: &str) -> BTreeSet<(Uuid, i32)> {
        let assigned = self.current.get(member);
        assigned.into_iter().flatten().flat_map(|(topic, list)| list.iter().map(|p| (*topic, *p))).collect()
    }

    /// Every partition with a subscriber has one owner, and the owner is a subscriber.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for (member, (_, topics)) in &self.members {
            let may: BTreeSet<_> = topics.iter().flat_map(|topic| self.partitions(*topic)).collect();
            for partition in self.of(member) {
                assert!(may.contains(&partition), "{member} has {partition:?}");
                assert!(seen.insert(partition), "{partition:?} is given twice");
            }
        }
        let wanted: BTreeSet<usize> = self.members.values().flat_map(|(_, topics)| topics.clone()).collect();
        let wanted: BTreeSet<_> = wanted.into_iter().flat_map(|topic| self.partitions(topic)).collect();
        assert_eq!(seen, wanted);
    }

    /// `m1 0:0-2 1:0`: topics by number.
    fn text(&self) -> String {
        let runs = |list: &[i32]| list.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let member = |(name, partitions): (&Str, &Partitions)| {
            let topics = partitions.iter().map(|(topic, list)| format!(" {}:{}", topic.0[0] - 1, runs(list)));
            format!("{name}{}", topics.collect::<String>())
        };
        self.current.iter().map(member).collect::<Vec<_>>().join(" | ")
    }
}

fn group(topics: &[i32], members: &[(&'static str, Option<&'static str>, &[usize])]) -> Group {
    let member = |(name, instance, topics): &(&'static str, Option<&'static str>, &[usize])| {
        (Str::from(*name), (instance.map(Str::from), topics.to_vec()))
    };
    Group { topics: topics.to_vec(), members: members.iter().map(member).collect(), ..Group::default() }
}

#[test]
fn range_table() {
    let cases: &[(Group, &str)] = &[
        (group(&[3], &[("a", None, &[0])]), "a 0:0,1,2"),
        // Topics with as many partitions go together, the first members get what does not divide.
        (group(&[3, 3], &[("a", None, &[0, 1]), ("b", None, &[0, 1])]), "a 0:0,1 1:0,1 | b 0:2 1:2"),
        // Static members stand in the order of their instance ids, before the rest.
        (group(&[3], &[("a", None, &[0]), ("b", Some("i2"), &[0]), ("c", Some("i1"), &[0])]), "a 0:2 | b 0:1 | c 0:0"),
        // Only subscribers count.
        (group(&[2, 3], &[("a", None, &[0]), ("b", None, &[0, 1]), ("c", None, &[1])]), "a 0:0 | b 0:1 1:0,1 | c 1:2"),
        (group(&[1], &[("a", None, &[0]), ("b", None, &[0])]), "a 0:0 | b"),
        (group(&[0], &[("a", None, &[0])]), "a"),
    ];
    for (group, expected) in cases {
        let mut group = group.clone();
        group.assign(Assignor::Range);
        group.check();
        assert_eq!(group.text(), *expected);
    }
}

#[test]
fn uniform_table() {
    let mut g = group(&[4, 2], &[("a", None, &[0, 1])]);
    g.assign(Assignor::Uniform);
    assert_eq!(g.text(), "a 0:0,1,2,3 1:0,1");
    g.members.insert("b".into(), (None, vec![0, 1]));
    g.assign(Assignor::Uniform);
    assert_eq!(g.text(), "a 0:0,1,2 | b 0:3 1:0,1", "a keeps as many as it may");
    g.members.remove("a");
    g.current.remove("a");
    g.members.insert("c".into(), (None, vec![0, 1]));
    g.assign(Assignor::Uniform);
    assert_eq!(g.text(), "b 0:3 1:0,1 | c 0:0,1,2", "b moves nothing");
    // Different subscriptions: a member with fewer topics gets fewer partitions, the others share the rest evenly.
    let mut g = group(&[2, 4], &[("a", None, &[0]), ("b", None, &[0, 1]), ("c", None, &[1])]);
    g.assign(Assignor::Uniform);
    g.check();
    let sizes: Vec<usize> = ["a", "b", "c"].iter().map(|m| g.of(m).len()).collect();
    assert_eq!(sizes, [2, 2, 2], "{}", g.text());
}

fn groups() -> impl Strategy<Value = Group> {
    let topics = proptest::collection::vec(0i32..9, 1..6);
    (topics, proptest::collection::btree_map(0u8..12, proptest::collection::vec(any::<bool>(), 6), 1..8), any::<bool>())
        .prop_map(|(topics, members, same)| {
            let count = topics.len();
            let member = |(name, bits): (u8, Vec<bool>)| {
                let own = (0..count).filter(|at| same || bits[*at]).collect();
                (Str::from(format!("m{name:02}")), (bits[5].then(|| Str::from(format!("i{name}"))), own))
            };
            Group { topics, members: members.into_iter().map(member).collect(), ..Group::default() }
        })
}

proptest! {
    #[test]
    fn every_assignment_is_whole(first in groups(), second in groups()) {
        for assignor in [Assignor::Range, Assignor::Uniform] {
            let mut g = first.clone();
            g.assign(assignor);
            g.check();
            // The same again moves nothing.
            let before = g.current.clone();
            g.assign(assignor);
            prop_assert_eq!(&g.current, &before);
            // Other members and topics with what was assigned before.
            let mut next = Group { current: g.current, ..second.clone() };
            next.current.retain(|member, _| next.members.contains_key(member));
            next.assign(assignor);
            next.check();
        }
    }

    #[test]
    fn uniform_is_even_and_moves_no_more_than_it_must(first in groups(), second in groups()) {
        let same = |g: &mut Group| {
            let all: Vec<usize> = (0..g.topics.len()).collect();
            g.members.values_mut().for_each(|(_, topics)| topics.clone_from(&all));
        };
        let (mut g, mut other) = (first, second);
        same(&mut g);
        g.assign(Assignor::Uniform);
        other.topics.clone_from(&g.topics);
        same(&mut other);
        let before = g.clone();
        let mut next = Group { current: g.current, ..other };
        next.current.retain(|member, _| next.members.contains_key(member));
        next.assign(Assignor::Uniform);
        let sizes: Vec<usize> = next.members.keys().map(|member| next.of(member).len()).collect();
        let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{}", next.text());
        // Each member keeps its partitions up to the even share; a member that had more than the least keeps the extra one if there is one.
        let total: usize = sizes.iter().sum();
        let extra = total % sizes.len();
        let held: Vec<usize> = next.members.keys().map(|member| before.of(member).len()).collect();
        let above = held.iter().filter(|held| **held > total / sizes.len()).count();
        let must_keep: usize = held.iter().map(|held| (*held).min(total / sizes.len())).sum::<usize>() + above.min(extra);
        let kept: usize = next.members.keys().map(|m| next.of(m).intersection(&before.of(m)).count()).sum();
        prop_assert_eq!(kept, must_keep);
    }

    #[test]
    fn with_different_subscriptions_no_single_move_would_even_it_out(mut g in groups()) {
        g.assign(Assignor::Uniform);
        let size = |g: &Group, member: &str| g.of(member).len();
        for giver in g.members.keys() {
            for (taker, (_, topics)) in &g.members {
                let may: BTreeSet<_> = topics.iter().flat_map(|topic| g.partitions(*topic)).collect();
                if g.of(giver).intersection(&may).next().is_some() {
                    prop_assert!(size(&g, giver) <= size(&g, taker) + 1, "{giver} to {taker}: {}", g.text());
                }
            }
        }
    }
}

/// Prints the times, too (`--nocapture`).
#[test]
fn a_thousand_members_get_all_of_ten_thousand_partitions() {
    let names: Vec<Str> = (0..1000).map(|n| Str::from(format!("member-{n:04}"))).collect();
    let topics: Vec<Topic> = (0..100).map(|t| Topic { id: Uuid([t + 1; 16]), partitions: 100 }).collect();
    let half: Vec<Vec<usize>> = (0..1000).map(|m| (0..100).filter(|t| (t + m) % 2 == 0).collect()).collect();
    for (what, assignor, subscriptions) in [
        ("range, same", Assignor::Range, Subscriptions::Same),
        ("uniform, same", Assignor::Uniform, Subscriptions::Same),
        ("range, different", Assignor::Range, Subscriptions::Each(half.clone())),
        ("uniform, different", Assignor::Uniform, Subscriptions::Each(half)),
    ] {
        let mut current: Vec<Partitions> = Vec::new();
        for (round, count) in [("first", 1000), ("one left", 999)] {
            let members =
                (0..count).map(|at| Candidate { id: &names[at], instance_id: None, current: current.get(at) });
            let subscriptions = match &subscriptions {
                Subscriptions::Same => Subscriptions::Same,
                Subscriptions::Each(lists) => Subscriptions::Each(lists[..count].to_vec()),
            };
            let spec = Spec { members: members.collect(), topics: topics.clone(), subscriptions };
            let began = std::time::Instant::now();
            let assignment = assign(assignor, &spec);
            println!("{what}, {round}: 1,000 members, 10,000 partitions: {:?}", began.elapsed());
            let mut all: Vec<_> = assignment
                .iter()
                .flatten()
                .flat_map(|(topic, parts)| parts.iter().map(move |part| (*topic, *part)))
                .collect();
            all.sort_unstable();
            let wanted = topics.iter().flat_map(|topic| (0..100).map(move |part| (topic.id, part)));
            assert!(all.into_iter().eq(wanted), "{what}, {round}: each partition is one member's");
            if let (Assignor::Uniform, Subscriptions::Same) = (assignor, &spec.subscriptions) {
                let size = |of: &Partitions| of.values().map(Vec::len).sum::<usize>();
                assert!(assignment.iter().all(|of| (10..=11).contains(&size(of))), "{what}, {round}");
                for (had, has) in current.iter().zip(&assignment) {
                    let keeps = had.iter().all(|(topic, parts)| parts.iter().all(|part| has[topic].contains(part)));
                    assert!(keeps, "{what}, {round}: nobody who stays gives anything up");
                }
            }
            current = assignment;
        }
    }
}
