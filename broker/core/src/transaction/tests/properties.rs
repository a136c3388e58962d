//! Whatever producers do, in whatever order, and whenever another coordinator takes over: transactions are atomic, isolated and fenced.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const IDS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Step {
    /// A new producer takes an id.
    New {
        id: usize,
    },
    /// A producer that has an id continues with it.
    GoesOn {
        who: usize,
    },
    Adds {
        who: usize,
        partition: i32,
        version: i16,
    },
    Ends {
        who: usize,
        commit: bool,
        version: i16,
    },
    MarkersWritten,
    Passes {
        ms: i64,
    },
    TakenOver,
    /// Its producers used up epochs.
    Ages {
        id: usize,
    },
    Version {
        level: i16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let version = prop_oneof![Just(0i16), Just(2)];
    prop_oneof![
        3 => (0..IDS.len()).prop_map(|id| Step::New { id }),
        2 => (0..8usize).prop_map(|who| Step::GoesOn { who }),
        8 => (0..8usize, 0..4i32, version.clone()).prop_map(|(who, partition, version)| Step::Adds { who, partition, version }),
        6 => (0..8usize, any::<bool>(), version).prop_map(|(who, commit, version)| Step::Ends { who, commit, version }),
        6 => Just(Step::MarkersWritten),
        1 => (1..90_000i64).prop_map(|ms| Step::Passes { ms }),
        1 => Just(Step::TakenOver),
        1 => (0..IDS.len()).prop_map(|id| Step::Ages { id }),
        1 => (0..3i16).prop_map(|level| Step::Version { level }),
    ]
}

/// A producer as it knows itself.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: usize,
    producer: Producer,
}

#[derive(Default)]
struct World {
    producers: Vec<Known>,
    /// By id: the producer that got it in the last response.
    owner: BTreeMap<usize, Producer>,
    /// By id: partitions that were added to the open transaction.
    added: BTreeMap<usize, BTreeSet<i32>>,
    /// By producer id and partition: the highest epoch that the partition has seen.
    epochs: BTreeMap<(i64, i32), i16>,
    /// By id: the outcome of the ending transaction, as its producer knows it.
    told: BTreeMap<usize, bool>,
}

impl World {
    fn who(&self, who: usize) -> Option<Known> {
        self.producers.get(who % self.producers.len().max(1)).copied()
    }

    fn learn(&mut self, id: usize, producer: Producer) {
        assert!(producer.epoch < i16::MAX, "the epoch above the last is given to none");
        if let Some(before) = self.owner.insert(id, producer) {
            let newer = producer.id > before.id || producer.id == before.id && producer.epoch >= before.epoch;
            assert!(newer, "{before:?} then {producer:?}: an epoch went back");
        }
        self.producers.push(Known { id, producer });
        if self.producers.len() > 8 {
            self.producers.remove(0);
        }
    }

    /// Markers go to exactly the partitions that were added, with the outcome that the producer got.
    fn ended(&mut self, markers: &Markers) {
        let id = IDS.iter().position(|id| *markers.id == **id).unwrap();
        let to: BTreeSet<i32> = markers.topics.iter().flat_map(|(_, partitions)| partitions.iter().copied()).collect();
        assert_eq!(to, self.added.remove(&id).unwrap_or_default(), "markers go where the transaction wrote");
        // As a partition's log checks it: a marker that it refuses leaves the transaction open for good.
        for partition in to {
            let seen = self.epochs.entry((markers.producer_id, partition)).or_insert(-1);
            let newer = if markers.version >= 2 { markers.epoch > *seen } else { markers.epoch >= *seen };
            assert!(newer, "a partition at epoch {seen} refuses the marker {markers:?}");
            *seen = markers.epoch;
        }
        if let Some(commit) = self.told.remove(&id) {
            assert_eq!(markers.commit, commit, "what was answered is what happens");
        } else {
            assert!(!markers.commit, "nobody asked for this commit");
        }
    }
}

fn run(steps: &[Step]) {
    let (mut s, mut world) = (Script::new(2), World::default());
    for step in steps {
        match step.clone() {
            Step::New { id } => {
                if let Ok(producer) = s.init(IDS[id], None) {
                    world.learn(id, producer);
                }
            }
            Step::GoesOn { who } => {
                let Some(known) = world.who(who) else { continue };
                if let Ok(producer) = s.init(IDS[known.id], Some(known.producer)) {
                    world.learn(known.id, producer);
                }
            }
            Step::Adds { who, partition, version } => {
                let Some(known) = world.who(who) else { continue };
                let code = s.add(IDS[known.id], known.producer, partition, version);
                if code == ErrorCode::NONE {
                    assert_eq!(known.producer, world.owner[&known.id], "a producer that is fenced may write");
                    assert!(!world.told.contains_key(&known.id), "a transaction that is ending takes no more");
                    world.added.entry(known.id).or_default().insert(partition);
                    let seen = world.epochs.entry((known.producer.id, partition)).or_insert(-1);
                    assert!(known.producer.epoch >= *seen, "a partition refuses the producer's records");
                    *seen = known.producer.epoch;
                }
            }
            Step::Ends { who, commit, version } => {
                let Some(known) = world.who(who) else { continue };
                let (before, open) = (s.markers.len(), world.added.contains_key(&known.id));
                if let Ok(next) = s.end(IDS[known.id], known.producer, commit, version) {
                    if s.markers.len() > before {
                        assert_eq!(
                            known.producer, world.owner[&known.id],
                            "a producer that is fenced ends a transaction"
                        );
                        assert!(open || !commit, "there is nothing to commit");
                        world.told.insert(known.id, commit);
                    }
                    world.learn(known.id, next);
                }
            }
            Step::MarkersWritten => {
                if !s.markers.is_empty() {
                    let markers = s.write_markers();
                    world.ended(&markers);
                }
            }
            Step::Passes { ms } => s.pass(ms),
            Step::TakenOver => {
                let mut shard = s.reloaded();
                let effects = shard.loaded(s.now);
                s.shard = shard;
                let known = std::mem::take(&mut s.markers);
                s.take(effects);
                let by_id = |markers: &Markers| markers.id.to_string();
                let (mut before, mut after) = (known, s.markers.clone());
                before.sort_by_key(by_id);
                after.sort_by_key(by_id);
                assert_eq!(before, after, "the next coordinator writes the same markers");
            }
            Step::Ages { id } => {
                let settled = matches!(s.state(IDS[id]), "Empty" | "CompleteCommit" | "CompleteAbort");
                if let Some(owner) = world.owner.get(&id).copied().filter(|owner| settled && owner.epoch < i16::MAX - 4)
                {
                    let aged = s.age(IDS[id], i16::MAX - 4);
                    if aged.id == owner.id {
                        world.learn(id, aged);
                    }
                }
            }
            Step::Version { level } => s.shard.set_version(level),
        }
        let reloaded = s.reloaded();
        for id in IDS {
            assert_eq!(reloaded.describe(id), s.shard.describe(id), "replay gives the state");
            assert!(s.markers.iter().filter(|markers| *markers.id == *id).count() <= 1, "one end at a time");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn transactions_are_atomic_isolated_and_fenced(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps);
    }
}
