//! Whatever members do, and whenever another leader takes over: the invariants of [`World`] hold (they are looked at after
//! each step), and once nothing more happens each member owns its target assignment.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;
use proptest::prelude::*;

use super::classic;
use super::world::{World, beat};
use crate::group::consumer::{ConsumerState, MigrationPolicy, Partitions};
use crate::group::{Identity, JoinRequest, Leaving};

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A client that follows the coordinator's responses, sooner or later.
#[derive(Debug, Clone, Default)]
struct Client {
    epoch: i32,
    told: Partitions,
    owns: Partitions,
    topics: Vec<&'static str>,
    regex: Option<&'static str>,
    instance: Option<Str>,
    /// A response was lost: the next request is a full one, so that its response is full too.
    missed: bool,
    /// The client uses the classic protocol: it joins again on REBALANCE_IN_PROGRESS, or after it revoked partitions.
    classic: bool,
}

#[derive(Debug, Clone)]
enum Act {
    Join {
        who: usize,
        topics: Vec<&'static str>,
        regex: Option<&'static str>,
        instance: bool,
        range: bool,
    },
    /// A member of the classic protocol comes, if there is a consumer group to come to.
    JoinClassic {
        who: usize,
        topics: Vec<&'static str>,
        instance: bool,
    },
    /// A heartbeat; `done` reports the assigned partitions as owned; `lost` is a response that never arrives.
    Beat {
        who: usize,
        done: bool,
        lost: bool,
    },
    Subscribe {
        who: usize,
        topics: Vec<&'static str>,
    },
    Leave {
        who: usize,
    },
    Away {
        who: usize,
    },
    Pass(i64),
    Grow(usize),
    DeleteTopic(usize),
    LookUp,
    FailOver,
    /// The disk is full, or has room again.
    Full(bool),
}

fn topics() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(TOPICS.to_vec(), 0..=3)
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0usize..5;
    prop_oneof![
        3 => (who.clone(), topics(), proptest::option::of(Just("[ab]")), any::<bool>(), any::<bool>())
            .prop_map(|(who, topics, regex, instance, range)| Act::Join { who, topics, regex, instance, range }),
        2 => (who.clone(), topics(), any::<bool>())
            .prop_map(|(who, topics, instance)| Act::JoinClassic { who, topics, instance }),
        12 => (who.clone(), any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(who, done, lost)| Act::Beat { who, done, lost }),
        2 => (who.clone(), topics()).prop_map(|(who, topics)| Act::Subscribe { who, topics }),
        1 => who.clone().prop_map(|who| Act::Leave { who }),
        1 => who.prop_map(|who| Act::Away { who }),
        2 => (1i64..30_000).prop_map(Act::Pass),
        1 => (0usize..3).prop_map(Act::Grow),
        1 => (0usize..3).prop_map(Act::DeleteTopic),
        1 => Just(Act::LookUp),
        1 => Just(Act::FailOver),
        1 => proptest::bool::weighted(0.3).prop_map(Act::Full),
    ]
}

struct Play {
    world: World,
    clients: BTreeMap<usize, Client>,
    /// Ids of instances that come back are new ones.
    joined: usize,
    ids: BTreeMap<usize, String>,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new();
        world.topic("a", 3);
        world.topic("b", 2);
        // Else the group is no longer one of ours when the last member of the new protocol leaves.
        world.set_limits(|limits| limits.migration = MigrationPolicy::Upgrade);
        Self { world, clients: BTreeMap::new(), joined: 0, ids: BTreeMap::new() }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join { who, topics, regex, instance, range } => self.join(who, topics, regex, instance, range),
            Act::JoinClassic { who, topics, instance } => self.join_classic(who, topics, instance),
            Act::Beat { who, done, lost } => self.beat(who, done, lost, None),
            Act::Subscribe { who, topics } => self.beat(who, false, false, Some(topics)),
            Act::Leave { who } => self.leave(who, -1),
            Act::Away { who } => self.leave(who, -2),
            Act::Pass(ms) => self.world.pass(ms),
            Act::Grow(at) => {
                let have = self.world.image.topic(TOPICS[at]).map_or(0, |topic| topic.partitions.len());
                self.world.topic(TOPICS[at], (have + 1).min(8));
            }
            Act::DeleteTopic(at) => self.world.delete_topic(TOPICS[at]),
            Act::LookUp => self.world.look_up(),
            Act::FailOver => self.world.fail_over(),
            Act::Full(full) => self.world.full = full,
        }
    }

    fn join(
        &mut self,
        who: usize,
        topics: Vec<&'static str>,
        regex: Option<&'static str>,
        instance: bool,
        range: bool,
    ) {
        self.joined += 1;
        // A dynamic client may join again under its id; an instance comes under a new one.
        let id =
            if instance || !self.ids.contains_key(&who) { format!("m{}", self.joined) } else { self.ids[&who].clone() };
        let mut request = beat("g", &id, 0);
        request.topics = Some(topics.iter().copied().map(Str::copy).collect());
        request.regex = Some(regex.map(Str::copy).unwrap_or_default());
        request.assignor = Some(if range { "range" } else { "uniform" }.into());
        request.instance_id = instance.then(|| Str::from(format!("i{who}")));
        if let Ok(reply) = self.world.heartbeat(&request) {
            let told = reply.assignment.unwrap();
            let instance = request.instance_id;
            let client = Client { epoch: reply.epoch, told, topics, regex, instance, ..Client::default() };
            self.clients.insert(who, client);
            self.ids.insert(who, id);
        }
    }

    fn beat(&mut self, who: usize, done: bool, lost: bool, topics: Option<Vec<&'static str>>) {
        let (Some(mut client), Some(id)) = (self.clients.get(&who).cloned(), self.ids.get(&who).cloned()) else {
            return;
        };
        if client.classic {
            return self.beat_classic(who, &id, client, done, lost, topics);
        }
        if done {
            client.owns = client.told.clone();
        }
        let mut request = beat("g", &id, client.epoch);
        request.instance_id = client.instance.clone();
        request.owned = Some(client.owns.clone());
        if std::mem::take(&mut client.missed) {
            request.rebalance_timeout_ms = Some(60_000);
            request.topics = Some(client.topics.iter().copied().map(Str::copy).collect());
            request.regex = Some(client.regex.map(Str::copy).unwrap_or_default());
        }
        if let Some(topics) = topics {
            request.topics = Some(topics.iter().copied().map(Str::copy).collect());
            client.topics = topics;
        }
        match self.world.heartbeat(&request) {
            // The member revokes its partitions, and joins on REBALANCE_IN_PROGRESS.
            Err(_) => {
                self.clients.remove(&who);
                self.ids.remove(&who);
            }
            Ok(_) if lost => {
                client.missed = true;
                self.clients.insert(who, client);
            }
            Ok(reply) => {
                client.epoch = reply.epoch;
                client.told = reply.assignment.unwrap_or(client.told);
                self.clients.insert(who, client);
            }
        }
    }

    fn join_classic(&mut self, who: usize, topics: Vec<&'static str>, instance: bool) {
        // To no group, or an empty one, it would come as the first member of a classic one.
        if self.world.group("g").is_none_or(|group| group.members().next().is_none()) {
            return;
        }
        self.joined += 1;
        let id = format!("c{}", self.joined);
        let request = classic::join(&self.world, "g", &topics, &Partitions::new());
        let request = match instance {
            true => JoinRequest { instance_id: Some(Str::from(format!("i{who}"))), fresh: Str::copy(&id), ..request },
            false => JoinRequest { member_id: Str::copy(&id), ..request },
        };
        let client =
            Client { topics, instance: request.instance_id.clone(), classic: true, missed: true, ..Client::default() };
        self.joined_classic(who, &id, client, request);
    }

    fn joined_classic(&mut self, who: usize, id: &str, mut client: Client, request: JoinRequest) {
        let reply = self.world.classic_join(request).unwrap();
        if reply.error.is_error() {
            self.clients.remove(&who);
            self.ids.remove(&who);
            return;
        }
        client.epoch = reply.generation;
        self.clients.insert(who, client);
        self.ids.insert(who, id.to_owned());
    }

    /// A heartbeat; then, on REBALANCE_IN_PROGRESS or after a revocation, a join and a sync. With `done` the member revokes
    /// first what is no longer meant for it; a `lost` answer is that to the join.
    fn beat_classic(
        &mut self,
        who: usize,
        id: &str,
        mut client: Client,
        done: bool,
        lost: bool,
        topics: Option<Vec<&'static str>>,
    ) {
        let identity = |client: &Client| Identity {
            member_id: Str::copy(id),
            instance_id: client.instance.clone(),
            generation: client.epoch,
        };
        if done && client.owns != client.told {
            client.owns = client.told.clone();
            client.missed = true;
        }
        if let Some(topics) = topics {
            (client.topics, client.missed) = (topics, true);
        }
        let (effects, code) = self.world.shard.heartbeat("g", &identity(&client), self.world.now);
        self.world.take(effects);
        if code.is_error() && code != ErrorCode::REBALANCE_IN_PROGRESS {
            self.clients.remove(&who);
            self.ids.remove(&who);
            return;
        }
        if !code.is_error() && !std::mem::take(&mut client.missed) {
            self.clients.insert(who, client);
            return;
        }
        let request = JoinRequest {
            member_id: Str::copy(id),
            instance_id: client.instance.clone(),
            ..classic::join(&self.world, "g", &client.topics, &client.owns)
        };
        client.missed = lost;
        self.joined_classic(who, id, client, request);
        let Some(client) = self.clients.get(&who).filter(|_| !lost).cloned() else { return };
        let reply = self.world.classic_sync("g", identity(&client)).unwrap();
        let told = self.world.classic_assignment(reply.assignment);
        let client = match reply.error {
            ErrorCode::NONE => {
                // New partitions are read at once, others are given back when it comes to it.
                let mut owns = client.owns.clone();
                for (topic, partitions) in &told {
                    let mine = owns.entry(*topic).or_default();
                    mine.extend(
                        partitions.iter().filter(|p| !client.owns.get(topic).is_some_and(|own| own.contains(p))),
                    );
                    mine.sort_unstable();
                }
                Client { owns, told, ..client }
            }
            _ => Client { missed: true, ..client },
        };
        self.clients.insert(who, client);
    }

    fn leave(&mut self, who: usize, epoch: i32) {
        let (Some(client), Some(id)) = (self.clients.remove(&who), self.ids.remove(&who)) else { return };
        if client.classic {
            let leaving = [Leaving { member_id: Str::copy(&id), instance_id: client.instance, client_reason: None }];
            let (_, effects) = self.world.shard.leave_with_reasons(&"g".into(), &leaving, self.world.now);
            self.world.take_if_written(effects);
            return;
        }
        let mut request = beat("g", &id, if client.instance.is_some() { epoch } else { -1 });
        request.instance_id = client.instance;
        let _ = self.world.heartbeat(&request);
    }

    /// Nothing more happens but heartbeats; a member that vanished is removed in time.
    fn settle(&mut self) {
        self.world.full = false;
        for _ in 0..40 {
            for who in 0..5 {
                self.beat(who, true, false, None);
            }
            self.world.look_up();
            self.world.pass(5_000);
        }
    }

    fn converged(&self) {
        let Some(group) = self.world.group("g") else { return };
        assert!(matches!(group.state(), ConsumerState::Stable | ConsumerState::Empty), "{group:#?}");
        let mut wanted = BTreeSet::new();
        for (who, client) in &self.clients {
            let member = group.member(&self.ids[who]).unwrap();
            assert_eq!(super::super::member::without_epochs(&member.assigned), client.owns);
            let topics = self.world.image.topics();
            let mine = topics.filter(|t| {
                client.topics.contains(&t.name.as_str())
                    || client.regex.is_some() && ["a", "b"].contains(&t.name.as_str())
            });
            wanted.extend(mine.flat_map(|t| (0..t.partitions.len()).map(|p| (t.id, i32::try_from(p).unwrap()))));
        }
        let owned: BTreeSet<_> = self
            .clients
            .values()
            .flat_map(|client| client.owns.iter().flat_map(|(topic, list)| list.iter().map(|p| (*topic, *p))))
            .collect();
        assert_eq!(owned, wanted, "somebody reads each partition");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_members_do(acts in proptest::collection::vec(act(), 1..60)) {
        let mut play = Play::new();
        acts.into_iter().for_each(|act| play.act(act));
        play.settle();
        play.converged();
    }
}
