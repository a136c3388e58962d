//! A shard, a clock, topics and members that speak to it. After everything that happens the invariants are looked at: a
//! partition has one owner, epochs never go back, and replay of the log gives the same groups.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};

use crate::controller::Refusal;
use crate::coordinator::{Applied, StateMachine as _, Token};
use crate::group::consumer::{
    ConsumerGroup, ConsumerLimits, HeartbeatReply, HeartbeatRequest, Partitions, RegexJob, resolve_regexes,
};
use crate::group::{Effects, GroupLimits, GroupShard, Reply};
use crate::metadata::{MetadataImage, MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};

pub(super) fn limits() -> GroupLimits {
    GroupLimits {
        initial_rebalance_delay_ms: 0,
        min_session_timeout_ms: 6000,
        max_session_timeout_ms: 1_800_000,
        max_size: 1000,
        offset_metadata_max_bytes: 4096,
        offsets_retention_ms: 1_000_000,
    }
}

pub(super) struct World {
    pub shard: GroupShard,
    pub now: i64,
    pub image: MetadataImage,
    pub limits: ConsumerLimits,
    log: Vec<(Bytes, Option<Bytes>)>,
    next_topic: u128,
    pub tokens: Token,
    pub answers: BTreeMap<Token, Reply>,
    /// Lookups of regular expressions that wait.
    pub jobs: Vec<RegexJob>,
    /// The log takes no records.
    pub full: bool,
    /// The epochs seen last: of groups, and of members.
    epochs: BTreeMap<String, (i32, i32)>,
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            shard: GroupShard::new(limits()),
            now: 1000,
            image: MetadataImage::default(),
            limits: ConsumerLimits::default(),
            log: Vec::new(),
            next_topic: 1,
            tokens: 0,
            answers: BTreeMap::new(),
            jobs: Vec::new(),
            full: false,
            epochs: BTreeMap::new(),
        };
        world.show();
        world
    }

    fn show(&mut self) {
        self.image.set_offset(self.image.offset() + 1);
        let limits = self.limits.clone();
        self.shard.update_image(&self.image, || limits);
    }

    /// A topic is made, or gets more partitions.
    pub fn topic(&mut self, name: &str, partitions: usize) {
        let id = match self.image.topic(name) {
            Some(topic) => topic.id,
            None => {
                // Each byte counts up, as far as bytes go.
                let id = u8::try_from(self.next_topic).map_or(Uuid(self.next_topic.to_be_bytes()), |n| Uuid([n; 16]));
                self.next_topic += 1;
                self.image.apply(&MetadataRecord::Topic(TopicRecord { name: Str::copy(name), id }));
                id
            }
        };
        let have = self.image.topic(name).map_or(0, |topic| topic.partitions.len());
        for partition in have..partitions {
            let partition = i32::try_from(partition).unwrap();
            let record = PartitionRecord { topic_id: id, partition, replicas: vec![1], ..PartitionRecord::default() };
            self.image.apply(&MetadataRecord::Partition(record));
        }
        self.show();
    }

    pub fn delete_topic(&mut self, name: &str) {
        if let Some(id) = self.image.topic(name).map(|topic| topic.id) {
            self.image.apply(&MetadataRecord::RemoveTopic(RemoveTopicRecord { id }));
        }
        self.show();
    }

    pub fn set_limits(&mut self, change: impl FnOnce(&mut ConsumerLimits)) {
        change(&mut self.limits);
        self.show();
    }

    /// As the shell does: carries out what the shard decided, or leaves it void if the log does not take it.
    pub fn take_if_written(&mut self, effects: Effects) -> bool {
        if self.full && !effects.records.is_empty() {
            self.check();
            return false;
        }
        self.take(effects);
        true
    }

    /// Carries out what the shard decided; the log takes it at once.
    pub fn take(&mut self, mut effects: Effects) {
        self.log.extend(effects.records.iter().map(|record| record.to_bytes().unwrap()));
        self.answers.extend(std::mem::take(&mut effects.replies));
        self.shard.apply(Applied::all(&mut effects));
        self.answers.extend(effects.on_commit);
        self.jobs.extend(effects.actions);
        if let Some(stored) = effects.stored {
            let more = self.shard.committed(stored, Ok(()), self.now);
            self.take(more);
        }
        self.check();
    }

    pub fn heartbeat(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatReply, Refusal> {
        let (effects, reply) = self.shard.consumer_heartbeat(request, self.now)?;
        match self.take_if_written(effects) {
            true => Ok(reply),
            false => Err(Refusal::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "")),
        }
    }

    /// Expressions are looked up.
    pub fn look_up(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            let found = resolve_regexes(&job, &self.image);
            let effects = self.shard.regexes_resolved(&job.group, &found, self.image.offset(), self.now);
            if !self.take_if_written(effects) {
                let effects = self.shard.regexes_not_resolved(&job.group);
                self.take(effects);
            }
        }
    }

    pub fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            let effects = self.shard.tick(self.now);
            if !self.take_if_written(effects) {
                self.shard.postpone(self.now + 500);
            }
        }
        self.now = until;
    }

    pub fn group(&self, id: &str) -> Option<&ConsumerGroup> {
        self.shard.consumers.group(id)
    }

    /// The shard as a new leader would have it.
    pub fn reloaded(&self) -> GroupShard {
        let mut shard = GroupShard::new(limits());
        let limits = self.limits.clone();
        shard.update_image(&self.image, || limits);
        for (key, value) in &self.log {
            shard.replay(key.clone(), value.clone(), None, self.now).unwrap();
        }
        let effects = shard.loaded(self.now);
        assert!(effects.records.is_empty());
        shard
    }

    /// The new leader takes over.
    pub fn fail_over(&mut self) {
        self.shard = self.reloaded();
    }

    fn check(&mut self) {
        let reloaded = self.reloaded();
        for (id, live) in &self.shard.consumers.groups {
            let group = &live.group;
            let mut owned = BTreeSet::new();
            for member in group.members() {
                for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
                    for partition in partitions.keys() {
                        assert!(
                            owned.insert((*topic, *partition)),
                            "{partition} of {topic} has two owners: {group:#?}"
                        );
                        assert_eq!(group.owner(*topic, *partition), Some(&member.id), "{group:#?}");
                    }
                }
            }
            let mut targets = BTreeSet::new();
            for (topic, partitions) in group.target.values().flat_map(|target| target.iter()) {
                for partition in partitions {
                    assert!(targets.insert((*topic, *partition)), "the target gives {partition} twice: {group:#?}");
                }
            }
            let (epoch, assignment) = self.epochs.entry(id.to_string()).or_insert((0, 0));
            assert!(group.epoch >= *epoch && group.assignment_epoch >= *assignment, "an epoch went back: {group:#?}");
            (*epoch, *assignment) = (group.epoch, group.assignment_epoch);
            let again = reloaded.consumers.group(id);
            assert_eq!(again, Some(group), "replay gives another group");
        }
        assert_eq!(reloaded.consumers.groups.len(), self.shard.consumers.groups.len(), "replay gives other groups");
        let epochs = &self.shard.consumers.groups;
        self.epochs.retain(|id, _| epochs.contains_key(id.as_str()));
    }

    /// Bytes of the largest record that was written.
    pub fn largest_record(&self) -> usize {
        let bytes = |(key, value): &(Bytes, Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len);
        self.log.iter().map(bytes).max().unwrap_or_default()
    }

    /// `a:0-2,5 b:1`; `-` for none.
    pub fn text(&self, partitions: &Partitions) -> String {
        let mut topics: Vec<(String, &Vec<i32>)> = partitions
            .iter()
            .map(|(id, list)| (self.image.topic_by_id(*id).map_or("gone".to_owned(), |t| t.name.to_string()), list))
            .collect();
        topics.sort();
        let runs = |list: &[i32]| {
            let run = |run: &[i32]| match run {
                [one] => one.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => String::new(),
            };
            list.chunk_by(|a, b| a + 1 == *b).map(run).collect::<Vec<_>>().join(",")
        };
        let text: Vec<String> = topics.iter().map(|(name, list)| format!("{name}:{}", runs(list))).collect();
        if text.is_empty() { "-".to_owned() } else { text.join(" ") }
    }

    /// The other way round.
    pub fn partitions(&self, text: &str) -> Partitions {
        let mut partitions = Partitions::new();
        for part in text.split([' ', ';']).filter(|part| !part.is_empty() && *part != "-") {
            let (name, runs) = part.split_once(':').unwrap();
            let list = runs.split(',').flat_map(|run| {
                let (first, last) = run.split_once('-').unwrap_or((run, run));
                first.parse().unwrap()..=last.parse::<i32>().unwrap()
            });
            partitions.insert(self.image.topic(name).unwrap().id, list.collect());
        }
        partitions
    }
}

/// A heartbeat with nothing but the member's identity.
pub(super) fn beat(group: &str, member: &str, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        version: 1,
        group: Str::copy(group),
        member_id: Str::copy(member),
        epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: (epoch == 0).then_some(60_000),
        topics: None,
        regex: None,
        assignor: None,
        owned: (epoch == 0).then(Partitions::new),
        client_id: "client".into(),
        client_host: "/host".into(),
        fresh: "fresh".into(),
    }
}

/// For people.
pub(super) fn name(code: ErrorCode) -> String {
    code.to_string()
}
