//! Scripts of the requests of members and their responses.

mod history;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};
use proptest::prelude::*;

use super::*;
use crate::coordinator::{Applied, StateMachine as _};

const SESSION: i32 = 10_000;
const REBALANCE: i32 = 60_000;

fn limits() -> GroupLimits {
    GroupLimits {
        initial_rebalance_delay_ms: 3000,
        min_session_timeout_ms: 6000,
        max_session_timeout_ms: 1_800_000,
        max_size: 5,
        offset_metadata_max_bytes: 4096,
        offsets_retention_ms: 1_000_000,
    }
}

/// A group "g" and a clock; appended records commit at once unless a test says otherwise.
struct Script {
    shard: GroupShard,
    now: i64,
    tokens: Token,
    log: Vec<GroupRecord>,
    answers: std::collections::BTreeMap<Token, Reply>,
    /// The log takes no records.
    full: bool,
}

impl Script {
    fn new() -> Self {
        Self {
            shard: GroupShard::new(limits()),
            now: 0,
            tokens: 0,
            log: vec![],
            answers: Default::default(),
            full: false,
        }
    }

    /// As the shell does: a decision that the log does not take is void, and `token` gets the error.
    fn take_for(&mut self, token: Token, effects: Effects) -> bool {
        if self.full && !effects.records.is_empty() {
            let none = Str::default();
            self.answers.insert(token, Reply::Join(JoinReply::failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, &none)));
            return false;
        }
        self.take(effects);
        true
    }

    fn take(&mut self, mut effects: Effects) {
        self.shard.apply(Applied::all(&mut effects));
        self.log.extend(effects.records);
        self.answers.extend(effects.replies);
        self.answers.extend(effects.on_commit);
        if let Some(stored) = effects.stored {
            let more = self.shard.committed(stored, Ok(()), self.now);
            self.take(more);
        }
    }

    fn request(&mut self, member: &str) -> JoinRequest {
        JoinRequest {
            group: "g".into(),
            member_id: Str::copy(member),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: SESSION,
            rebalance_timeout_ms: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"m") }],
            require_known_member_id: false,
            can_skip_assignment: false,
            fresh: Str::from(format!("{}", self.tokens + 1)),
        }
    }

    fn join_with(&mut self, request: JoinRequest) -> Token {
        self.tokens += 1;
        let effects = self.shard.join(request, self.tokens, self.now);
        self.take_for(self.tokens, effects);
        self.tokens
    }

    fn join(&mut self, member: &str) -> Token {
        let request = self.request(member);
        self.join_with(request)
    }

    fn joined(&self, token: Token) -> &JoinReply {
        match self.answers.get(&token) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("join {token} has {other:?}"),
        }
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Token {
        self.tokens += 1;
        let request = SyncRequest {
            group: "g".into(),
            identity: Identity { member_id: Str::copy(member), instance_id: None, generation },
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(|(m, a)| (Str::copy(m), Bytes::from_static(a.as_bytes()))).collect(),
        };
        let effects = self.shard.sync(request, self.tokens, self.now);
        self.take_for(self.tokens, effects);
        self.tokens
    }

    fn synced(&self, token: Token) -> (ErrorCode, &[u8]) {
        match self.answers.get(&token) {
            Some(Reply::Sync(reply)) => (reply.error, &reply.assignment),
            other => panic!("sync {token} has {other:?}"),
        }
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let identity = Identity { member_id: Str::copy(member), instance_id: None, generation };
        let (effects, code) = self.shard.heartbeat("g", &identity, self.now);
        self.take(effects);
        code
    }

    fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            let effects = self.shard.tick(self.now);
            if !self.take_for(0, effects) {
                self.shard.postpone(self.now + 500);
            }
        }
        self.now = until;
    }

    /// Two members, a stable generation 1.
    fn stable_pair() -> (Self, String, String) {
        let mut s = Self::new();
        let (a, b) = (s.join(""), s.join(""));
        s.pass(6000);
        let (a, b) = (s.joined(a).member_id.to_string(), s.joined(b).member_id.to_string());
        let (_, _) = (s.sync(&b, 1, &[]), s.sync(&a, 1, &[(&a, "A"), (&b, "B")]));
        assert_eq!(s.state(), "Stable");
        (s, a, b)
    }

    fn state(&self) -> &'static str {
        self.shard.describe("g").map_or("Dead", |d| d.state)
    }

    fn commit(&mut self, member: &str, generation: i32, offset: i64) -> ErrorCode {
        let request = offset_commit(member, generation, offset);
        match self.shard.commit(&request, self.now) {
            Ok((effects, codes)) => {
                self.take(effects);
                codes[0]
            }
            Err(code) => code,
        }
    }

    fn committed(&self) -> Option<i64> {
        let selection = OffsetSelection::Of(vec![("t".into(), vec![0])]);
        self.shard.fetch("g", &selection)[0].1[0].1.as_ref().map(|c| c.offset)
    }

    fn reloaded(&self) -> GroupShard {
        let mut shard = GroupShard::new(limits());
        for record in &self.log {
            let (key, value) = record.to_bytes().unwrap();
            shard.replay(key, value, None, self.now).unwrap();
        }
        shard.loaded(self.now);
        shard
    }
}

fn offset_commit(member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group: "g".into(),
        identity: Identity { member_id: Str::copy(member), instance_id: None, generation },
        retention_ms: None,
        not_found_code: false,
        offsets: vec![OffsetCommit {
            topic: "t".into(),
            topic_id: Uuid::ZERO,
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: None,
            committed_at: -1,
        }],
    }
}

#[test]
fn a_first_generation_waits_for_newcomers_and_the_first_joiner_leads() {
    let mut s = Script::new();
    let a = s.join("");
    s.pass(2999);
    assert!(!s.answers.contains_key(&a));
    let b = s.join("");
    s.pass(1);
    assert!(!s.answers.contains_key(&a), "the newcomer extends the wait");
    s.pass(3000);
    let (a, b) = (s.joined(a).clone(), s.joined(b).clone());
    assert_eq!((a.error, a.generation, a.members.len()), (ErrorCode::NONE, 1, 2));
    assert_eq!((b.leader, b.members.len()), (a.member_id.clone(), 0));
    let waits = s.sync(&b.member_id, 1, &[]);
    assert!(!s.answers.contains_key(&waits), "followers wait for the leader");
    let leads = s.sync(&a.member_id, 1, &[(&a.member_id, "A")]);
    assert_eq!(s.synced(leads), (ErrorCode::NONE, &b"A"[..]));
    assert_eq!(s.synced(waits), (ErrorCode::NONE, &b""[..]), "who is not assigned gets empty bytes");
    assert_eq!(s.heartbeat(&b.member_id, 1), ErrorCode::NONE);
}

#[test]
fn refusals() {
    let mut s = Script::new();
    let with = |s: &mut Script, change: fn(&mut JoinRequest)| {
        let mut request = s.request("");
        change(&mut request);
        let token = s.join_with(request);
        s.joined(token).error
    };
    assert_eq!(with(&mut s, |r| r.group = "".into()), ErrorCode::INVALID_GROUP_ID);
    assert_eq!(with(&mut s, |r| r.session_timeout_ms = 5999), ErrorCode::INVALID_SESSION_TIMEOUT);
    assert_eq!(with(&mut s, |r| r.member_id = "x".into()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(with(&mut s, |r| r.protocols.clear()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(s.heartbeat("x", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let (mut s, a, _) = Script::stable_pair();
    assert_eq!(with(&mut s, |r| r.protocol_type = "connect".into()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(with(&mut s, |r| r.protocols[0].name = "x".into()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(s.heartbeat(&a, 2), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(s.heartbeat("x", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let late = s.sync(&a, 7, &[]);
    assert_eq!(s.synced(late).0, ErrorCode::ILLEGAL_GENERATION);
    for _ in 0..3 {
        s.join("");
    }
    assert_eq!(with(&mut s, |_| ()), ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn a_newcomer_of_today_is_told_its_id_first() {
    let mut s = Script::new();
    let mut request = s.request("");
    request.require_known_member_id = true;
    let token = s.join_with(request.clone());
    let reply = s.joined(token).clone();
    assert_eq!(reply.error, ErrorCode::MEMBER_ID_REQUIRED);
    assert!(reply.member_id.starts_with("c-"));
    request.member_id = reply.member_id.clone();
    let token = s.join_with(request.clone());
    s.pass(3000);
    assert_eq!(s.joined(token).member_id, reply.member_id);
    request.member_id = Str::default();
    s.join_with(request);
    s.pass(i64::from(SESSION));
    assert!(s.shard.groups.get("g").is_none_or(|group| group.pending.is_empty()), "an id that nobody uses lapses");
}

#[test]
fn a_third_member_makes_the_others_rejoin() {
    let (mut s, a, b) = Script::stable_pair();
    let c = s.join("");
    assert_eq!(s.heartbeat(&a, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let (ja, jb) = (s.join(&a), s.join(&b));
    assert_eq!(s.joined(c).generation, 2);
    assert_eq!((s.joined(ja).members.len(), s.joined(jb).members.len()), (3, 0));
    assert_eq!(s.joined(jb).leader, *a);
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let (mut s, a, b) = Script::stable_pair();
    let c = s.join("");
    let ja = s.join(&a);
    for _ in 0..11 {
        assert_eq!(s.heartbeat(&b, 1), ErrorCode::REBALANCE_IN_PROGRESS, "its session lives");
        s.pass(5500);
    }
    assert_eq!((s.joined(ja).generation, s.joined(ja).members.len()), (2, 2));
    assert_eq!(s.joined(c).error, ErrorCode::NONE);
    assert_eq!(s.heartbeat(&b, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_silent_member_is_out_and_the_last_one_empties_the_group() {
    let (mut s, a, b) = Script::stable_pair();
    s.pass(5000);
    assert_eq!(s.heartbeat(&a, 1), ErrorCode::NONE);
    s.pass(5000);
    assert_eq!(s.state(), "PreparingRebalance");
    assert_eq!(s.heartbeat(&b, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    s.pass(i64::from(REBALANCE));
    assert_eq!(s.state(), "Empty");
}

#[test]
fn leaving_rebalances_at_once() {
    let (mut s, a, b) = Script::stable_pair();
    let (replies, effects) = s.shard.leave(&"g".into(), &[(Str::copy(&b), None), ("x".into(), None)], s.now);
    s.take(effects);
    let codes: Vec<_> = replies.unwrap().iter().map(|r| r.error).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(s.heartbeat(&a, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let ja = s.join(&a);
    assert_eq!(s.joined(ja).generation, 2);
}

#[test]
fn a_leader_that_never_syncs_is_removed() {
    let mut s = Script::new();
    let (a, b) = (s.join(""), s.join(""));
    s.pass(6000);
    let b = s.joined(b).member_id.to_string();
    let a = s.joined(a).member_id.to_string();
    let waiting = s.sync(&b, 1, &[]);
    for _ in 0..12 {
        s.heartbeat(&a, 1);
        s.pass(5000);
    }
    assert_eq!(s.synced(waiting).0, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(s.heartbeat(&a, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut s = Script::new();
    let mut request = s.request("");
    request.instance_id = Some("i".into());
    let first = s.join_with(request.clone());
    s.pass(3000);
    let old = s.joined(first).member_id.to_string();
    s.sync(&old, 1, &[(&old, "A")]);
    request.fresh = "again".into();
    let back = s.join_with(request.clone());
    let reply = s.joined(back).clone();
    assert_eq!((reply.error, reply.generation), (ErrorCode::NONE, 1));
    assert_ne!(reply.member_id, *old);
    assert_eq!(reply.leader, *old, "an old client must not think that it is to assign");
    assert_eq!(s.state(), "Stable");
    let synced = s.sync(&reply.member_id, 1, &[]);
    assert_eq!(s.synced(synced), (ErrorCode::NONE, &b"A"[..]));
    let identity = Identity { member_id: Str::copy(&old), instance_id: Some("i".into()), generation: 1 };
    assert_eq!(s.shard.heartbeat("g", &identity, s.now).1, ErrorCode::FENCED_INSTANCE_ID);
    // It may say other things, if only within the same protocol.
    request.protocols[0].metadata = Bytes::from_static(b"other");
    request.can_skip_assignment = true;
    request.fresh = "third".into();
    let back = s.join_with(request);
    assert!(s.joined(back).skip_assignment && s.joined(back).members.len() == 1);
}

#[test]
fn offsets_are_committed_by_members_or_by_nobody() {
    let mut s = Script::new();
    assert_eq!(s.commit("", -1, 5), ErrorCode::NONE, "a group of offsets alone");
    assert_eq!(s.committed(), Some(5));
    let mut s = Script::new();
    assert_eq!(s.commit("x", 1, 5), ErrorCode::ILLEGAL_GENERATION, "no such group");
    let (mut s, a, _) = Script::stable_pair();
    assert_eq!(s.commit("", -1, 5), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(s.commit(&a, 2, 5), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(s.commit("x", 1, 5), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(s.commit(&a, 1, 7), ErrorCode::NONE);
    s.join("");
    assert_eq!(s.commit(&a, 1, 8), ErrorCode::NONE, "while members are called to rejoin");
    assert_eq!(s.committed(), Some(8));
}

#[test]
fn offsets_lapse_after_the_group_is_empty() {
    let mut s = Script::new();
    s.commit("", -1, 5);
    s.now = 999_999;
    let effects = s.shard.expire(s.now);
    assert!(effects.records.is_empty());
    s.now = 1_000_000;
    let effects = s.shard.expire(s.now);
    assert_eq!(effects.records.len(), 2, "the offset and its group");
    s.take(effects);
    assert_eq!((s.committed(), s.state()), (None, "Dead"));
    let (mut s, a, _) = Script::stable_pair();
    s.commit(&a, 1, 7);
    s.now += 999_999;
    assert!(s.shard.expire(s.now).records.is_empty());
}

#[test]
fn groups_are_deleted_when_empty() {
    let (mut s, a, b) = Script::stable_pair();
    let mut effects = Effects::default();
    let ids: [Str; 2] = ["g".into(), "x".into()];
    let codes = |answers: Vec<(Str, ErrorCode)>| answers.into_iter().map(|a| a.1).collect::<Vec<_>>();
    let answers = s.shard.delete_groups(&ids, &mut effects);
    assert_eq!(codes(answers), [ErrorCode::NON_EMPTY_GROUP, ErrorCode::GROUP_ID_NOT_FOUND]);
    s.commit(&a, 1, 7);
    let (_, left) = s.shard.leave(&"g".into(), &[(Str::copy(&a), None), (Str::copy(&b), None)], s.now);
    s.take(left);
    assert_eq!(s.state(), "Empty");
    let answers = s.shard.delete_groups(&ids[..1], &mut effects);
    assert_eq!((codes(answers), effects.records.len()), (vec![ErrorCode::NONE], 2));
    assert_eq!((s.state(), s.committed()), ("Empty", Some(7)), "not before the records are written");
    s.take(effects);
    assert_eq!((s.state(), s.committed()), ("Dead", None));
}

#[test]
fn a_group_comes_back_from_its_log() {
    let (mut s, a, b) = Script::stable_pair();
    s.commit(&a, 1, 7);
    let shard = s.reloaded();
    let described = shard.describe("g").unwrap();
    assert_eq!((described.state, described.members.len()), ("Stable", 2));
    assert_eq!(described, s.shard.describe("g").unwrap());
    let identity = Identity { member_id: Str::copy(&b), instance_id: None, generation: 1 };
    assert_eq!(shard.heartbeat("g", &identity, s.now).1, ErrorCode::NONE);
    assert!(shard.next_deadline().is_some(), "sessions run again");
}

/// A subscription that cannot be read may be to any topic: its offsets are neither deleted nor do they lapse.
#[test]
fn what_a_member_may_subscribe_to_is_not_given_up() {
    // Version 0, one topic "t" (or "u"), no user data.
    const T: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
    const U: &[u8] = b"\0\0\0\0\0\x01\0\x01u\xff\xff\xff\xff";
    let cases: [(&[&'static [u8]], bool); 4] = [(&[T], true), (&[U], false), (&[b"m"], true), (&[U, b"m"], true)];
    for (subscriptions, kept) in cases {
        let mut s = Script::new();
        let tokens: Vec<Token> = subscriptions
            .iter()
            .map(|metadata| {
                let mut request = s.request("");
                request.protocols[0].metadata = Bytes::from_static(metadata);
                request.session_timeout_ms = 1_800_000;
                s.join_with(request)
            })
            .collect();
        let wanted = [(Str::from("t"), 0)];
        let deleted = |s: &Script| s.shard.delete_offsets(&"g".into(), &wanted).unwrap().1[0];
        assert_eq!(deleted(&s), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC, "there is no generation yet");
        s.pass(6000);
        let ids: Vec<String> = tokens.iter().map(|token| s.joined(*token).member_id.to_string()).collect();
        ids.iter().rev().for_each(|id| _ = s.sync(id, 1, &[]));
        assert_eq!(s.state(), "Stable");
        s.commit(&ids[0], 1, 5);
        let code = if kept { ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC } else { ErrorCode::NONE };
        assert_eq!(deleted(&s), code, "{subscriptions:?}");
        let lapsed = s.shard.expire(s.now + 1_000_000).records.len();
        assert_eq!(lapsed == 0, kept, "{subscriptions:?}");
    }
}

/// Ids that were given out and never joined: the group that they made goes when the last one lapses, and when groups expire.
#[test]
fn a_group_of_pending_members_alone_goes_when_their_sessions_end() {
    for leaves in [false, true] {
        let mut s = Script::new();
        let mut request = s.request("");
        request.require_known_member_id = true;
        let token = s.join_with(request);
        let id = s.joined(token).member_id.clone();
        assert_eq!(s.state(), "Empty");
        if leaves {
            let (_, effects) = s.shard.leave(&"g".into(), &[(id, None)], s.now);
            s.take(effects);
            assert_eq!(s.state(), "Empty", "as in Kafka, until groups are looked at");
            let effects = s.shard.expire(s.now);
            s.take(effects);
        } else {
            s.pass(i64::from(SESSION) - 1);
            assert_eq!(s.state(), "Empty");
            s.pass(1);
        }
        assert_eq!((s.state(), s.shard.next_deadline()), ("Dead", None));
    }
}

#[derive(Debug, Clone)]
enum Act {
    Join(usize),
    New,
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Commit(usize, i64),
    Delete,
    Expire,
    Pass(i64),
    /// The disk is full, or has room again.
    Full(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0usize..6).prop_map(Act::Join),
        Just(Act::New),
        (0usize..6).prop_map(Act::Sync),
        (0usize..6).prop_map(Act::Heartbeat),
        (0usize..6).prop_map(Act::Leave),
        (0usize..6, 0i64..9).prop_map(|(at, offset)| Act::Commit(at, offset)),
        Just(Act::Delete),
        Just(Act::Expire),
        any::<bool>().prop_map(Act::Full),
        (1i64..20_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_members_do_generations_rise_and_everybody_is_answered(acts in proptest::collection::vec(act(), 1..60)) {
        let mut s = Script::new();
        let mut ids: Vec<String> = Vec::new();
        let mut generation = 0;
        for act in acts {
            let id = |ids: &[String], at: usize| ids.get(at % ids.len().max(1)).cloned().unwrap_or_default();
            match act {
                Act::New => { s.join(""); }
                Act::Join(at) => { let id = id(&ids, at); s.join(&id); }
                Act::Sync(at) => {
                    let id = id(&ids, at);
                    let generation = s.shard.groups.get("g").map_or(0, |g| g.generation());
                    s.sync(&id, generation, &[(&id, "x")]);
                }
                Act::Heartbeat(at) => { let id = id(&ids, at); let _ = s.heartbeat(&id, generation); }
                Act::Leave(at) => {
                    let id = id(&ids, at);
                    let (_, effects) = s.shard.leave(&"g".into(), &[(Str::from(id), None)], s.now);
                    s.take_for(0, effects);
                }
                Act::Commit(at, offset) => {
                    let request = offset_commit(&id(&ids, at), if ids.is_empty() { -1 } else { generation }, offset);
                    if let Ok((effects, _)) = s.shard.commit(&request, s.now) {
                        s.take_for(0, effects);
                    }
                }
                Act::Delete => {
                    let mut effects = Effects::default();
                    s.shard.delete_groups(&["g".into()], &mut effects);
                    s.take_for(0, effects);
                }
                Act::Expire => {
                    let effects = s.shard.expire(s.now);
                    s.take_for(0, effects);
                }
                Act::Full(full) => s.full = full,
                Act::Pass(ms) => s.pass(ms),
            }
            let now = s.shard.groups.get("g").map_or(0, |g| g.generation());
            prop_assert!(now >= generation || now == 0, "generations never go back");
            generation = now;
            // What is answered from memory is what the log has, whatever could not be written.
            let reloaded = s.reloaded();
            let selection = OffsetSelection::All;
            prop_assert_eq!(reloaded.fetch("g", &selection), s.shard.fetch("g", &selection), "offsets are the log's");
            let members = |shard: &GroupShard| {
                let stable = shard.groups.get("g").filter(|g| g.state() == State::Stable);
                stable.map(|g| g.members().map(|m| (m.id.clone(), m.assignment.clone())).collect::<Vec<_>>())
            };
            if let Some(stable) = members(&s.shard) {
                prop_assert_eq!(members(&reloaded), Some(stable), "a stable group is the log's");
            }
            if !s.shard.groups.contains_key("g") {
                prop_assert!(!reloaded.groups.contains_key("g"), "a group that is gone does not come back");
            }
            ids = s.shard.groups.get("g").map(|g| g.members().map(|m| m.id.to_string()).collect()).unwrap_or_default();
        }
        s.full = false;
        s.pass(10_000_000);
        for token in 1..=s.tokens {
            prop_assert!(s.answers.contains_key(&token), "request {} was never answered", token);
        }
    }
}
