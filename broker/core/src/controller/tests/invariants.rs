//! Whatever happens to brokers, and in whatever order: what must hold of every partition then.
//!
//! Beside the image runs a model of what the replicas hold: with every step each partition that can commit a record does, and the
//! replicas that are in sync have it. A clean election must give a leader that holds all that was committed.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::messages::alter_partition::{AlterPartitionRequest, PartitionData, TopicData};
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::metadata::{
    ConfigRecord, ConfigResource, NO_LEADER, PartitionId, PartitionImage, PartitionRecord, TopicRecord,
    snapshot_records,
};

const BROKERS: std::ops::RangeInclusive<i32> = 1..=4;
/// Name, replicas, `min.insync.replicas`, `durability`, `unclean.leader.election.enable`.
const TOPICS: [(&str, &[i32], &str, &str, &str); 4] = [
    ("cache", &[3, 1, 2], "2", "page-cache", "false"),
    ("flush", &[1, 2, 3], "2", "flush", "false"),
    ("small", &[4, 2], "1", "page-cache", "false"),
    ("unclean", &[2, 3], "1", "page-cache", "true"),
];

#[derive(Debug, Clone)]
enum Step {
    /// A new process of a broker registers; the one before ended cleanly or not, with or without its disk.
    Join {
        broker: i32,
        clean: bool,
        wiped: bool,
    },
    Unfence(i32),
    Fence(i32),
    ShutDown(i32),
    Unregister(i32),
    FailDirectory(i32),
    Assign {
        broker: i32,
        topic: usize,
        second: bool,
    },
    Propose {
        topic: usize,
        isr: Vec<i32>,
    },
    Elect {
        topic: usize,
        unclean: bool,
    },
    Reassign {
        topic: usize,
        replicas: Vec<i32>,
    },
    Cancel {
        topic: usize,
    },
    MinIsr {
        topic: usize,
        min: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let broker = || BROKERS;
    let topic = || 0..TOPICS.len();
    let some = |at_least: usize| subsequence(BROKERS.collect::<Vec<_>>(), at_least..=4).prop_shuffle();
    prop_oneof![
        3 => (broker(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(broker, clean, wiped)| Step::Join { broker, clean, wiped }),
        5 => broker().prop_map(Step::Unfence),
        3 => broker().prop_map(Step::Fence),
        1 => broker().prop_map(Step::ShutDown),
        1 => broker().prop_map(Step::Unregister),
        1 => broker().prop_map(Step::FailDirectory),
        1 => (broker(), topic(), any::<bool>())
            .prop_map(|(broker, topic, second)| Step::Assign { broker, topic, second }),
        6 => (topic(), some(0)).prop_map(|(topic, isr)| Step::Propose { topic, isr }),
        2 => (topic(), prop::bool::weighted(0.2)).prop_map(|(topic, unclean)| Step::Elect { topic, unclean }),
        2 => (topic(), some(1)).prop_map(|(topic, replicas)| Step::Reassign { topic, replicas }),
        1 => topic().prop_map(|topic| Step::Cancel { topic }),
        1 => (topic(), 1..4usize).prop_map(|(topic, min)| Step::MinIsr { topic, min }),
    ]
}

struct Cluster {
    image: MetadataImage,
    /// Disks of each broker: changes when one is replaced.
    disks: BTreeMap<i32, u8>,
    incarnations: u8,
    /// Replicas that hold all committed records.
    holders: BTreeMap<PartitionId, BTreeSet<i32>>,
    /// An unclean election was requested in this step.
    unclean: bool,
    /// The leader proposed replicas that have all that it has.
    proposed: bool,
}

type Checked = Result<(), TestCaseError>;

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            image: MetadataImage::default(),
            disks: BROKERS.map(|id| (id, id as u8)).collect(),
            incarnations: 100,
            holders: BTreeMap::new(),
            unclean: false,
            proposed: false,
        };
        cluster.image.apply(&MetadataRecord::newest_level());
        for broker in BROKERS {
            cluster.run(Step::Join { broker, clean: false, wiped: false }).unwrap();
            cluster.run(Step::Unfence(broker)).unwrap();
        }
        for (at, (name, replicas, min, durability, unclean)) in TOPICS.iter().enumerate() {
            let topic_id = Uuid([200 + at as u8; 16]);
            cluster.image.apply(&MetadataRecord::Topic(TopicRecord { name: (*name).into(), id: topic_id }));
            cluster.image.apply(&MetadataRecord::Partition(PartitionRecord {
                topic_id,
                replicas: replicas.to_vec(),
                isr: replicas.to_vec(),
                leader: replicas[0],
                ..PartitionRecord::default()
            }));
            for (config, value) in
                [("min.insync.replicas", min), ("durability", durability), ("unclean.leader.election.enable", unclean)]
            {
                cluster.image.apply(&MetadataRecord::Config(ConfigRecord {
                    resource_type: ResourceKind::Topic.id(),
                    resource_name: (*name).into(),
                    name: config.into(),
                    value: Some((*value).into()),
                }));
            }
        }
        cluster.write();
        cluster
    }

    fn dirs(&self, broker: i32) -> [Uuid; 2] {
        let disk = self.disks[&broker];
        [Uuid([disk; 16]), Uuid([disk + 100; 16])]
    }

    fn partition(&self, topic: usize) -> &PartitionImage {
        self.image.topic(TOPICS[topic].0).unwrap().partitions.first().unwrap()
    }

    fn config(&self, topic: &str, name: &str) -> String {
        self.image.config(&ConfigResource::topic(topic), name).unwrap().to_string()
    }

    /// The next step; what is refused changes nothing.
    fn run(&mut self, step: Step) -> Checked {
        self.unclean = matches!(step, Step::Elect { unclean: true, .. });
        self.proposed = matches!(step, Step::Propose { .. });
        let before = self.image.clone();
        let records = self.decide(step);
        prop_assert!(MetadataRecord::encode_all(&records, self.image.level()).is_ok());
        for record in &records {
            let id = match record {
                MetadataRecord::PartitionChange(change) => PartitionId { topic: change.topic_id, partition: 0 },
                _ => PartitionId { topic: Uuid::ZERO, partition: 0 },
            };
            let old = self.image.partition(id).cloned();
            self.image.apply(record);
            if let Some(old) = old {
                self.changed(&old, &self.image.partition(id).unwrap().clone())?;
            }
        }
        self.image.set_offset(before.offset() + 1);
        self.check()?;
        self.write();
        Ok(())
    }

    fn decide(&mut self, step: Step) -> Vec<MetadataRecord> {
        match step {
            Step::Join { broker, clean, wiped } => return self.join(broker, clean, wiped),
            // What it holds leaves the cluster with it.
            Step::Unregister(id) if self.image.broker(id).is_some() => {
                self.holders.values_mut().for_each(|holders| holders.retain(|holder| *holder != id));
            }
            _ => {}
        }
        let (image, rules) = (&self.image, RULES);
        let epoch = |broker| image.broker(broker).map_or(-1, |broker| broker.epoch);
        match step {
            Step::Join { .. } => Vec::new(),
            Step::Unfence(id) => {
                unfence_broker(image, rules, id, epoch(id), image.offset()).map_or(vec![], |d| d.records)
            }
            Step::Fence(id) => fence_broker(image, rules, id, epoch(id)).map_or(vec![], |d| d.records),
            Step::ShutDown(id) => shut_down_broker(image, rules, id, epoch(id)).map_or(vec![], |d| d.records),
            Step::Unregister(id) => unregister_broker(image, rules, id).map_or(vec![], |d| d.records),
            Step::FailDirectory(id) => {
                let failed = [self.dirs(id)[0]];
                fail_directories(image, rules, id, epoch(id), &failed).map_or(vec![], |d| d.records)
            }
            Step::Assign { broker, topic, second } => {
                let (id, dir) = (self.partition(topic).id(), self.dirs(broker)[usize::from(second)]);
                assign_directory(image, rules, broker, epoch(broker), id, dir).map_or(vec![], |d| d.records)
            }
            Step::Propose { topic, isr } => {
                let partition = self.partition(topic);
                let fits = |id: &i32| {
                    partition.replicas.contains(id)
                        && image.broker(*id).is_some_and(|broker| broker.is_active())
                        && *id != partition.leader
                };
                let data = PartitionData {
                    leader_epoch: partition.leader_epoch,
                    partition_epoch: partition.partition_epoch,
                    new_isr: std::iter::once(partition.leader).chain(isr.into_iter().filter(fits)).collect(),
                    ..PartitionData::default()
                };
                let request = AlterPartitionRequest {
                    broker_id: partition.leader,
                    broker_epoch: epoch(partition.leader),
                    topics: vec![TopicData { topic_id: partition.topic_id, partitions: vec![data] }],
                };
                alter_partition(image, rules, &request).records
            }
            Step::Elect { topic, unclean } => {
                let partitions = vec![TopicPartitions { topic: TOPICS[topic].0.into(), partitions: vec![0] }];
                let request = ElectLeadersRequest {
                    election_type: i8::from(unclean),
                    topic_partitions: Some(partitions),
                    ..ElectLeadersRequest::default()
                };
                elect_leaders(image, rules, &request).records
            }
            Step::Reassign { topic, replicas } => self.reassign(topic, Some(replicas)),
            Step::Cancel { topic } => self.reassign(topic, None),
            Step::MinIsr { topic, min } => {
                let change = ConfigChange {
                    name: "min.insync.replicas".into(),
                    op: ConfigOp::of_id(0),
                    value: Some(min.to_string().into()),
                };
                let target = ConfigTarget {
                    resource_type: ResourceKind::Topic.id(),
                    resource_name: TOPICS[topic].0.into(),
                    replace_all: false,
                    changes: vec![change],
                };
                alter_configs(image, 1, RULES.statics, &[target]).0
            }
        }
    }

    fn join(&mut self, broker: i32, clean: bool, wiped: bool) -> Vec<MetadataRecord> {
        let known = self.image.broker(broker).map_or(-1, |broker| broker.epoch);
        self.incarnations = self.incarnations.wrapping_add(1);
        if wiped {
            *self.disks.get_mut(&broker).unwrap() += 4;
        }
        let registration = Registration {
            node_id: broker,
            incarnation: Uuid([self.incarnations; 16]),
            listeners: vec![],
            rack: None,
            log_dirs: self.dirs(broker).to_vec(),
            cordoned_log_dirs: vec![],
        };
        let previous_epoch = if clean { known } else { -1 };
        let request =
            JoinRequest { registration, features: vec![], record_level: RecordLevel::NEWEST.0, previous_epoch };
        // What the end of the process before took with it.
        for (id, holders) in &mut self.holders {
            let topic = self.image.topic_by_id(id.topic).unwrap();
            let flushed = self.image.config(&ConfigResource::topic(&topic.name), "durability").unwrap() == "flush";
            if wiped || !clean && !flushed {
                holders.remove(&broker);
            }
        }
        let rules = RULES;
        join_broker(&self.image, rules, &request, false).unwrap().records
    }

    fn reassign(&self, topic: usize, replicas: Option<Vec<i32>>) -> Vec<MetadataRecord> {
        let partition = ReassignablePartition { partition_index: 0, replicas };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic { name: TOPICS[topic].0.into(), partitions: vec![partition] }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        alter_partition_reassignments(&self.image, RULES, &request).records
    }

    /// A partition has gone from one state to another.
    fn changed(&mut self, old: &PartitionImage, new: &PartitionImage) -> Checked {
        let took_out = old.replicas.iter().any(|id| !new.replicas.contains(id));
        let rises = i32::from(old.leader != new.leader || took_out);
        prop_assert_eq!(new.partition_epoch, old.partition_epoch + 1);
        prop_assert_eq!(new.leader_epoch, old.leader_epoch + rises, "{:?} -> {:?}", old, new);
        let holders = self.holders.entry(new.id()).or_default();
        if self.proposed && holders.contains(&old.leader) {
            holders.extend(&new.isr);
        }
        if new.leader == NO_LEADER || new.leader == old.leader {
            return Ok(());
        }
        if [&old.isr, &old.elr].iter().any(|ids| ids.contains(&new.leader)) || self.proposed {
            prop_assert!(holders.contains(&new.leader), "{:?} -> {:?}: of {:?}", old, new, holders);
            return Ok(());
        }
        let topic = self.image.topic_by_id(new.topic_id).unwrap();
        let allowed = self.image.config(&ConfigResource::topic(&topic.name), "unclean.leader.election.enable");
        let asked = self.unclean || allowed.is_some_and(|value| value == "true");
        let none_left = !old.isr.iter().chain(&old.elr).any(|id| holders.contains(id));
        let last = none_left && old.last_known_elr == [new.leader];
        prop_assert!(asked || last, "{:?} -> {:?}", old, new);
        prop_assert!(new.recovering && new.isr == [new.leader] && new.elr.is_empty(), "{:?} -> {:?}", old, new);
        *holders = BTreeSet::from([new.leader]);
        Ok(())
    }

    fn check(&self) -> Checked {
        let (mut led, mut replicated) = (BTreeMap::<i32, usize>::new(), BTreeMap::<i32, usize>::new());
        for topic in self.image.topics() {
            for partition in topic.partitions.iter() {
                self.check_partition(partition)?;
                *led.entry(partition.leader).or_default() += 1;
                partition.replicas.iter().for_each(|id| *replicated.entry(*id).or_default() += 1);
            }
        }
        for broker in std::iter::once(NO_LEADER).chain(BROKERS) {
            prop_assert_eq!(self.image.led_count(broker), led.get(&broker).copied().unwrap_or_default());
            prop_assert_eq!(self.image.replicated_count(broker), replicated.get(&broker).copied().unwrap_or_default());
            prop_assert!(self.image.led_by(broker).all(|partition| partition.leader == broker));
            prop_assert!(self.image.replicated_by(broker).all(|partition| partition.replicas.contains(&broker)));
        }
        let mut back = MetadataImage::default();
        snapshot_records(&self.image).iter().for_each(|record| back.apply(record));
        back.set_offset(self.image.offset());
        prop_assert_eq!(&back, &self.image);
        Ok(())
    }

    fn check_partition(&self, p: &PartitionImage) -> Checked {
        let distinct = |ids: &[i32]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        for ids in [&p.replicas, &p.isr, &p.elr, &p.adding, &p.removing] {
            prop_assert!(distinct(ids) && ids.iter().all(|id| p.replicas.contains(id)), "{:?}", p);
        }
        prop_assert!(!p.elr.iter().any(|id| p.isr.contains(id)), "{:?}", p);
        prop_assert!(p.leader == NO_LEADER || p.isr.contains(&p.leader), "{:?}", p);
        prop_assert!(!p.replicas.is_empty());
        prop_assert!(p.directories.is_empty() || p.directories.len() == p.replicas.len(), "{:?}", p);
        if p.leader != NO_LEADER {
            prop_assert!(self.image.broker(p.leader).is_some_and(|broker| broker.is_active()), "{:?}", p);
            prop_assert!(p.last_known_elr.is_empty(), "{:?}", p);
        }
        for id in &p.isr {
            prop_assert!(self.image.broker(*id).is_some_and(|broker| broker.is_active()), "{:?}", p);
        }
        Ok(())
    }

    /// Each partition that can commits a record: the replicas in sync have it, the others do not.
    fn write(&mut self) {
        for topic in self.image.topics() {
            let min: usize = self.config(&topic.name, "min.insync.replicas").parse().unwrap();
            for partition in topic.partitions.iter() {
                let holders = self.holders.entry(partition.id()).or_default();
                let isr: BTreeSet<i32> = partition.isr.iter().copied().collect();
                if partition.leader == NO_LEADER {
                    continue;
                }
                if isr.len() >= min.min(partition.replicas.len()) {
                    *holders = isr;
                } else if holders.contains(&partition.leader) {
                    holders.extend(isr);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_happens_to_brokers(steps in vec(step(), 1..60)) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.run(step)?;
        }
    }
}
