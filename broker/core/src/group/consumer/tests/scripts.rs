//! Plays `scripts/*.txt`: a line that says what happens, `----`, and what is answered or to be seen. All is about one group.
//!
//! - `topic NAME PARTITIONS`, `delete-topic NAME`, `set policy|max-size|interval VALUE`
//! - `join MEMBER TOPIC... [instance=I] [assignor=A] [regex=R]`: a heartbeat with epoch 0
//! - `beat MEMBER [epoch=N] [owns=a:0-1;b:2] [topics=a,b] [regex=R] [instance=I]`: in the epoch of the last response
//! - `done MEMBER`: a heartbeat of a member that reports exactly its assignment as owned
//! - `leave MEMBER`, `away MEMBER instance=I`: epochs -1 and -2
//! - `classic-join MEMBER TOPIC... [owns=..] [instance=I]`, `classic-sync MEMBER`, `classic-beat MEMBER`, `classic-leave MEMBER [saying=some_words]`
//! - `commit MEMBER [epoch=N] TOPIC:PARTITION`
//! - `look-up`: regular expressions; `pass MS`: time; `fail-over`: another leader loads the log
//! - `group`: the group; `why`: its last rebalances; `settle`: members of the new protocol send heartbeats until nothing changes
//!
//! `ESKER_REWRITE_SCRIPTS=1` writes what is answered into the files, to be read before it is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use esker_protocol::primitives::Str;

use super::classic;
use super::world::{World, beat, name};
use crate::group::consumer::{HeartbeatReply, MemberState, MigrationPolicy, Partitions};
use crate::group::{Identity, JoinRequest, OffsetCommit, OffsetCommitRequest};
use crate::group::{Leaving, Rebalance};

const GROUP: &str = "g";

/// The last response to a member.
#[derive(Debug, Clone, Default)]
struct Told {
    epoch: i32,
    assignment: Partitions,
    instance: Option<Str>,
}

struct Script {
    world: World,
    told: BTreeMap<String, Told>,
}

impl Script {
    fn run(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let (command, words): (_, Vec<&str>) = (words.next().unwrap(), words.collect());
        let plain: Vec<&str> = words.iter().copied().filter(|word| !word.contains('=')).collect();
        let options: BTreeMap<&str, &str> = words.iter().filter_map(|word| word.split_once('=')).collect();
        let who = plain.first().copied().unwrap_or_default();
        match command {
            "topic" => self.world.topic(who, plain[1].parse().unwrap()),
            "delete-topic" => self.world.delete_topic(who),
            "set" => self.set(who, plain[1]),
            "join" => return self.join(who, &plain[1..], &options),
            "beat" | "done" => return self.beat(command == "done", who, &options),
            "leave" => return self.leave(who, -1, &options),
            "away" => return self.leave(who, -2, &options),
            "classic-join" => return self.classic_join(who, &plain[1..], &options),
            "classic-sync" => return self.classic_sync(who),
            "classic-beat" => {
                let who = self.identity(who);
                let (effects, code) = self.world.shard.heartbeat(GROUP, &who, self.world.now);
                self.world.take(effects);
                return name(code);
            }
            "classic-leave" => {
                let said = options.get("saying").map(|text| Str::from(text.replace('_', " ")));
                let members = [Leaving { member_id: Str::copy(who), instance_id: None, client_reason: said }];
                let (replies, effects) = self.world.shard.leave_with_reasons(&GROUP.into(), &members, self.world.now);
                self.world.take(effects);
                return name(replies.unwrap()[0].error);
            }
            "commit" => return self.commit(who, plain[1], &options),
            "look-up" => self.world.look_up(),
            "pass" => self.world.pass(who.parse().unwrap()),
            "fail-over" => self.world.fail_over(),
            "group" => return self.group(),
            "why" => return self.why(),
            "settle" => return self.settle(),
            _ => panic!("unknown: {line}"),
        }
        "ok".to_owned()
    }

    fn set(&mut self, what: &str, value: &str) {
        self.world.set_limits(|limits| match what {
            "policy" => limits.migration = MigrationPolicy::of_name(value).unwrap(),
            "max-size" => limits.max_size = value.parse().unwrap(),
            "interval" => limits.assignment_interval_ms.default = value.parse().unwrap(),
            _ => panic!("unknown: {what}"),
        });
    }

    fn tell(&mut self, member: &str, reply: &HeartbeatReply) -> String {
        let told = self.told.entry(member.to_owned()).or_default();
        told.epoch = reply.epoch;
        match &reply.assignment {
            None => format!("epoch {}", reply.epoch),
            Some(assignment) => {
                told.assignment = assignment.clone();
                format!("epoch {}: {}", reply.epoch, self.world.text(assignment))
            }
        }
    }

    fn join(&mut self, member: &str, topics: &[&str], options: &BTreeMap<&str, &str>) -> String {
        let mut request = beat(GROUP, member, 0);
        request.topics = Some(topics.iter().map(|topic| Str::copy(topic)).collect());
        request.instance_id = options.get("instance").map(|text| Str::copy(text));
        request.assignor = options.get("assignor").map(|text| Str::copy(text));
        request.regex = options.get("regex").map(|text| Str::copy(text));
        self.told.entry(member.to_owned()).or_default().instance = request.instance_id.clone();
        match self.world.heartbeat(&request) {
            Ok(reply) => self.tell(member, &reply),
            Err(refusal) => name(refusal.code),
        }
    }

    fn beat(&mut self, done: bool, member: &str, options: &BTreeMap<&str, &str>) -> String {
        let told = self.told.entry(member.to_owned()).or_default().clone();
        let epoch = options.get("epoch").map_or(told.epoch, |epoch| epoch.parse().unwrap());
        let mut request = beat(GROUP, member, epoch);
        request.instance_id = options.get("instance").map(|text| Str::copy(text)).or(told.instance);
        request.regex = options.get("regex").map(|text| Str::copy(text));
        request.topics = options.get("topics").map(|list| list.split(',').map(Str::copy).collect());
        request.owned = options.get("owns").map(|text| self.world.partitions(text));
        if done {
            request.owned = Some(told.assignment);
        }
        match self.world.heartbeat(&request) {
            Ok(reply) => self.tell(member, &reply),
            Err(refusal) => name(refusal.code),
        }
    }

    fn leave(&mut self, member: &str, epoch: i32, options: &BTreeMap<&str, &str>) -> String {
        let mut request = beat(GROUP, member, epoch);
        request.instance_id = options.get("instance").map(|text| Str::copy(text));
        match self.world.heartbeat(&request) {
            Ok(reply) => format!("epoch {}", reply.epoch),
            Err(refusal) => name(refusal.code),
        }
    }

    fn identity(&self, member: &str) -> Identity {
        let told = self.told.get(member).cloned().unwrap_or_default();
        Identity { member_id: Str::copy(member), instance_id: told.instance, generation: told.epoch }
    }

    fn classic_join(&mut self, member: &str, topics: &[&str], options: &BTreeMap<&str, &str>) -> String {
        let owned = options.get("owns").map(|text| self.world.partitions(text)).unwrap_or_default();
        let known = self.told.contains_key(member);
        let instance = options.get("instance").map(|text| Str::copy(text));
        let request = JoinRequest {
            // The shard makes ids of dynamic members; a script's are known before, as if given out already.
            member_id: if options.contains_key("id") {
                Str::default()
            } else if known || instance.is_none() && self.world.group(GROUP).is_some() {
                Str::copy(member)
            } else {
                Str::default()
            },
            instance_id: instance.clone(),
            client_id: Str::copy(member.split('-').next().unwrap()),
            fresh: Str::copy(member.split_once('-').map_or(member, |(_, fresh)| fresh)),
            ..classic::join(&self.world, GROUP, topics, &owned)
        };
        match self.world.classic_join(request) {
            None => "waits".to_owned(),
            Some(reply) if reply.error.is_error() => name(reply.error),
            Some(reply) => {
                let told = self.told.entry(reply.member_id.to_string()).or_default();
                (told.epoch, told.instance) = (reply.generation, instance);
                format!(
                    "{} generation {} {}",
                    reply.member_id,
                    reply.generation,
                    reply.protocol.clone().unwrap_or_default()
                )
            }
        }
    }

    fn classic_sync(&mut self, member: &str) -> String {
        match self.world.classic_sync(GROUP, self.identity(member)) {
            None => "waits".to_owned(),
            Some(reply) if reply.error.is_error() => name(reply.error),
            Some(reply) => self.assignment(reply.assignment),
        }
    }

    fn assignment(&self, bytes: Bytes) -> String {
        if bytes.is_empty() {
            return "nothing".to_owned();
        }
        self.world.text(&self.world.classic_assignment(bytes))
    }

    fn commit(&mut self, member: &str, partition: &str, options: &BTreeMap<&str, &str>) -> String {
        let mut who = self.identity(if member == "nobody" { "" } else { member });
        who.generation = options.get("epoch").map_or(who.generation, |epoch| epoch.parse().unwrap());
        if member == "nobody" {
            who.generation = -1;
        }
        let (topic, partition) = partition.split_once(':').unwrap();
        let request = OffsetCommitRequest {
            group: GROUP.into(),
            identity: who,
            retention_ms: None,
            not_found_code: true,
            offsets: vec![OffsetCommit {
                topic: Str::copy(topic),
                topic_id: self.world.image.topic(topic).unwrap().id,
                partition: partition.parse().unwrap(),
                offset: 7,
                leader_epoch: -1,
                metadata: None,
                committed_at: -1,
            }],
        };
        match self.world.shard.commit(&request, self.world.now) {
            Ok((_, codes)) => name(codes[0]),
            Err(code) => name(code),
        }
    }

    fn group(&self) -> String {
        let Some(group) = self.world.group(GROUP) else {
            return match self.world.shard.describe(GROUP) {
                None => "no group".to_owned(),
                Some(classic) => {
                    let mut text = format!("classic {}", classic.state);
                    for member in classic.members {
                        write!(text, "\n  {}: {}", member.member_id, self.assignment(member.assignment)).unwrap();
                    }
                    text
                }
            };
        };
        let mut text = format!("{} epoch {} target {}", group.state().name(), group.epoch, group.assignment_epoch);
        for member in group.members() {
            let state = match member.state {
                MemberState::Stable => "stable",
                MemberState::UnrevokedPartitions => "unrevoked",
                MemberState::UnreleasedPartitions => "unreleased",
                MemberState::Unknown => "unknown",
            };
            let kind = if member.is_classic() { "classic " } else { "" };
            let own = self.world.text(&super::super::member::without_epochs(&member.assigned));
            write!(text, "\n  {} {kind}epoch {} {state}: {own}", member.id, member.epoch).unwrap();
            if !member.revoking.is_empty() {
                let back = self.world.text(&super::super::member::without_epochs(&member.revoking));
                write!(text, " | gives back {back}").unwrap();
            }
            let target = group.target_of(&member.id).map(|target| self.world.text(target)).unwrap_or_default();
            if target != own {
                write!(text, " | is to have {target}").unwrap();
            }
        }
        text
    }

    /// Why it rebalanced: a line a rebalance, with its causes.
    fn why(&self) -> String {
        let line = |rebalance: &Rebalance| {
            let causes: Vec<String> = rebalance
                .causes
                .iter()
                .map(|(_, cause)| {
                    let who = cause.member.as_ref().map(|who| format!(" {}", who.member_id)).unwrap_or_default();
                    let topic = cause.topic.as_ref().map(|topic| format!(" {topic}")).unwrap_or_default();
                    let said = cause.client_reason.as_ref().map(|said| format!(" {said:?}")).unwrap_or_default();
                    format!("{}{who}{topic}{said}", cause.reason.name())
                })
                .collect();
            format!("{} {} to {}: {}", rebalance.kind.name(), rebalance.from, rebalance.to, causes.join(", "))
        };
        let kept = self.world.shard.rebalances(GROUP).unwrap_or_default();
        kept.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn settle(&mut self) -> String {
        for _ in 0..20 {
            let members: Vec<String> = self
                .world
                .group(GROUP)
                .unwrap()
                .members()
                .filter(|member| !member.is_classic())
                .map(|member| member.id.to_string())
                .collect();
            for member in members {
                self.beat(true, &member, &BTreeMap::new());
            }
            self.world.look_up();
            // The next target may be made now.
            let until = self.world.now + 1001;
            self.world.now = until;
        }
        self.group()
    }
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/group/consumer/tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8);
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut script = Script { world: World::new(), told: BTreeMap::new() };
        let mut out = String::new();
        for block in text.split("\n\n") {
            let lines = block.lines().take_while(|line| *line != "----");
            let (mut said, mut answer) = (String::new(), String::new());
            for line in lines {
                writeln!(said, "{line}").unwrap();
                if !line.starts_with('#') && !line.is_empty() {
                    let told = script.run(line);
                    if told != "ok" {
                        writeln!(answer, "{told}").unwrap();
                    }
                }
            }
            out.push_str(&said);
            if !answer.is_empty() {
                write!(out, "----\n{answer}").unwrap();
            }
            out.push('\n');
        }
        let out = format!("{}\n", out.trim_end());
        if std::env::var_os("ESKER_REWRITE_SCRIPTS").is_some() {
            std::fs::write(&file, &out).unwrap();
        } else if out != text {
            let at = out.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or_default();
            wrong.push(format!(
                "{}:{}\nexpected {:?}\n     got {:?}",
                file.display(),
                at + 1,
                text.lines().nth(at),
                out.lines().nth(at)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
