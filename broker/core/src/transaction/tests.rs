//! The requests of producers, and the outcome of their transactions.

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::*;
use crate::coordinator::{Applied, StateMachine as _, Token};

mod properties;

const TIMEOUT: i32 = 60_000;
const FRESH: i64 = 1000;

pub(super) fn limits() -> Limits {
    Limits {
        max_timeout_ms: 900_000,
        id_expiration_ms: 7_000_000,
        abort_interval_ms: 10_000,
        expiry_interval_ms: 100_000,
    }
}

/// A shard and a clock. Records commit at once; markers are written when a test says so.
pub(super) struct Script {
    pub shard: TransactionShard,
    pub now: i64,
    pub log: Vec<TransactionRecord>,
    pub markers: Vec<Markers>,
    tokens: Token,
    answers: std::collections::BTreeMap<Token, Reply>,
    fresh: i64,
}

impl Script {
    pub fn new(version: i16) -> Self {
        Self {
            shard: TransactionShard::new(limits(), version),
            now: 1,
            log: Vec::new(),
            markers: Vec::new(),
            tokens: 0,
            answers: Default::default(),
            fresh: FRESH,
        }
    }

    pub fn take(&mut self, mut effects: Effects) {
        self.shard.apply(Applied::all(&mut effects));
        self.log.extend(effects.records);
        self.answers.extend(effects.replies);
        self.answers.extend(effects.on_commit);
        for action in effects.actions {
            match action {
                Action::WriteMarkers(markers) => self.markers.push(markers),
                Action::AbortLate(id) => {
                    self.fresh += 1;
                    let effects = self.shard.abort_late(&id, self.fresh - 1, self.now);
                    self.take(effects);
                }
            }
        }
    }

    /// Gives an id a producer whose epoch is `epoch` now.
    pub fn at_epoch(&mut self, id: &str, epoch: i16) -> Producer {
        self.init(id, None).unwrap();
        self.age(id, epoch)
    }

    /// The producer of an id, as if it had used up the epochs before `epoch`.
    pub fn age(&mut self, id: &str, epoch: i16) -> Producer {
        let mut known = self.shard.transactions[id].clone();
        known.epoch = epoch;
        let producer = Producer { id: known.producer_id, epoch };
        let effects = self.shard.change(&Str::copy(id), known, None);
        self.take(effects);
        producer
    }

    /// As the shell does: with a fresh producer id where one is needed.
    fn ask(&mut self, ask: impl Fn(&TransactionShard, Option<i64>, Token, i64) -> Effects) -> Reply {
        let mut fresh = None;
        loop {
            self.tokens += 1;
            let effects = ask(&self.shard, fresh, self.tokens, self.now);
            self.take(effects);
            match self.answers.remove(&self.tokens).unwrap() {
                Reply::NeedsProducerId => {
                    assert_eq!(fresh, None, "a fresh id was given already");
                    fresh = Some(self.fresh);
                    self.fresh += 1;
                }
                reply => return reply,
            }
        }
    }

    pub fn init(&mut self, id: &str, current: Option<Producer>) -> Result<Producer, ErrorCode> {
        let request = InitRequest { id: Str::copy(id), timeout_ms: TIMEOUT, current };
        match self.ask(|shard, fresh, token, now| shard.init(&request, fresh, token, now)) {
            Reply::Producer(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn add(&mut self, id: &str, producer: Producer, partition: i32, version: i16) -> ErrorCode {
        let request = request(id, producer, &[partition], version);
        match self.ask(|shard, _, token, now| shard.add(&request, token, now)) {
            Reply::Added(code) => code,
            other => panic!("{other:?}"),
        }
    }

    fn verify(&mut self, id: &str, producer: Producer, partitions: &[i32]) -> VerificationResult {
        let request = request(id, producer, partitions, 0);
        match self.ask(|shard, _, token, _| shard.verify(&request, token)) {
            Reply::Verified(verdicts) => verdicts,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(&mut self, id: &str, producer: Producer, commit: bool, version: i16) -> Result<Producer, ErrorCode> {
        let request = EndRequest { id: Str::copy(id), producer, commit, client_version: version };
        match self.ask(|shard, fresh, token, now| shard.end(&request, fresh, token, now)) {
            Reply::Producer(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The oldest markers are written.
    pub fn write_markers(&mut self) -> Markers {
        let markers = self.markers.remove(0);
        let producer = Producer { id: markers.producer_id, epoch: markers.epoch };
        let effects = self.shard.markers_written(&markers.id, producer, self.now);
        self.take(effects);
        markers
    }

    pub fn pass(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            let effects = self.shard.tick(self.now);
            self.take(effects);
        }
        self.now = until;
    }

    pub fn state(&self, id: &str) -> &'static str {
        self.shard.describe(id).map_or("gone", |d| d.state)
    }

    /// What a broker that takes over loads from the log.
    pub fn reloaded(&self) -> TransactionShard {
        let mut shard = TransactionShard::new(limits(), self.shard.version);
        for record in &self.log {
            let (key, value) = TransactionShard::encode(record).unwrap();
            shard.replay(key, value, None, self.now).unwrap();
        }
        shard
    }

    /// Brings "t" into a state, with a producer of epoch 5.
    fn in_state(state: &str, version: i16) -> (Self, Producer) {
        let mut s = Self::new(version.clamp(1, 2));
        let first = s.init("t", None).unwrap();
        for _ in 0..5 {
            s.init("t", None).unwrap();
        }
        let producer = Producer { id: first.id, epoch: 5 };
        if state != "Empty" {
            assert_eq!(s.add("t", producer, 0, version), ErrorCode::NONE);
        }
        if state.starts_with("Prepare") || state.starts_with("Complete") {
            s.end("t", producer, state.ends_with("Commit"), version).unwrap();
        }
        if state.starts_with("Complete") {
            s.write_markers();
        }
        assert_eq!(s.state("t"), state);
        (s, producer)
    }
}

fn request(id: &str, producer: Producer, partitions: &[i32], version: i16) -> AddRequest {
    let partitions = partitions.iter().map(|partition| (Str::copy("topic"), *partition)).collect();
    AddRequest { id: Str::copy(id), producer, partitions, client_version: version }
}

/// The code of an answer.
fn code<T>(outcome: Result<T, ErrorCode>) -> i16 {
    outcome.err().map_or(0, |code| code.0)
}

#[test]
fn the_way_of_a_transaction() {
    let mut s = Script::new(2);
    let producer = s.init("t", None).unwrap();
    assert_eq!((producer.id, producer.epoch), (FRESH, 0));
    assert_eq!((s.add("t", producer, 3, 0), s.add("t", producer, 4, 0)), (ErrorCode::NONE, ErrorCode::NONE));
    let written = s.log.len();
    assert_eq!(s.add("t", producer, 4, 0), ErrorCode::NONE);
    assert_eq!(s.log.len(), written, "what is in already is not written again");
    assert_eq!(s.end("t", producer, true, 0), Ok(producer));
    assert_eq!(s.state("t"), "PrepareCommit");
    let markers = s.write_markers();
    assert_eq!((markers.commit, markers.epoch), (true, 0));
    assert_eq!(markers.topics, [(Str::from("topic"), vec![3, 4])]);
    assert_eq!(s.state("t"), "CompleteCommit");
    assert!(s.shard.describe("t").unwrap().topics.is_empty());
}

/// The transaction of a producer with the last epoch is ended by the coordinator: the producer that continues gets a new id, epoch 0.
#[test]
fn the_epoch_above_the_last_is_given_to_none() {
    type GoesOn = fn(&mut Script, Producer) -> Result<Producer, ErrorCode>;
    let last = i16::MAX - 1;
    let goes_on: &[(&str, GoesOn)] = &[
        ("late abort", |s, producer| s.end("t", producer, false, 2)),
        ("init of the same producer", |s, producer| s.init("t", Some(producer))),
        ("init of another", |s, _| s.init("t", None)),
    ];
    for version in [0, 1, 2] {
        for (what, goes_on) in goes_on {
            for timed_out in [true, false] {
                let mut s = Script::new(version);
                let producer = s.at_epoch("t", last);
                assert_eq!(s.add("t", producer, 0, version.clamp(0, 2)), ErrorCode::NONE);
                if timed_out {
                    s.pass(200_000);
                } else {
                    assert_eq!(s.init("t", None), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
                }
                let markers = s.write_markers();
                assert_eq!((markers.producer_id, markers.epoch, markers.commit), (producer.id, i16::MAX, false));
                match goes_on(&mut s, producer) {
                    Ok(next) => {
                        // Another producer fences the one that the new id was for.
                        let fences = what.ends_with("another") && version == 2;
                        assert_eq!(next.epoch, i16::from(fences), "{version} {what} {timed_out}");
                        assert_ne!(next.id, producer.id);
                        assert_eq!(s.add("t", next, 0, version), ErrorCode::NONE);
                        s.end("t", next, true, version).unwrap();
                        assert_eq!(s.write_markers().producer_id, next.id);
                    }
                    // Before version 2 the producer is fenced for good; only another producer continues.
                    Err(code) => assert!(version < 2 && !what.ends_with("another"), "{version} {what} {code}"),
                }
            }
        }
    }
}

/// A log of a broker that gave the epoch above the last: the marker is written all the same, and the producer gets a new id.
#[test]
fn a_transaction_of_the_epoch_above_the_last_ends() {
    let mut s = Script::new(2);
    let producer = s.at_epoch("t", i16::MAX);
    assert_eq!(s.add("t", producer, 0, 2), ErrorCode::NONE);
    let next = s.end("t", producer, true, 2).unwrap();
    let markers = s.write_markers();
    assert_eq!((markers.epoch, markers.version), (i16::MAX, 1), "its epoch cannot be a newer one");
    assert_eq!(next.epoch, 0);
    assert_eq!(s.add("t", next, 0, 2), ErrorCode::NONE);
}

/// EndTxn in every state: of the epoch before (a retry in version 2), of the epoch as it was, and of the next.
#[test]
fn ends() {
    const COMMIT: bool = true;
    const ABORT: bool = false;
    // State, outcome, then the codes for the epochs 4, 5, 6. The producer had epoch 5 when the state was made.
    let version_1: &[(&str, bool, [i16; 3])] = &[
        ("Empty", COMMIT, [90, 48, 90]),
        ("Empty", ABORT, [90, 48, 90]),
        ("Ongoing", COMMIT, [90, 0, 90]),
        ("Ongoing", ABORT, [90, 0, 90]),
        ("PrepareCommit", COMMIT, [90, 51, 90]),
        ("PrepareCommit", ABORT, [90, 51, 90]),
        ("PrepareAbort", COMMIT, [90, 51, 90]),
        ("PrepareAbort", ABORT, [90, 51, 90]),
        ("CompleteCommit", COMMIT, [90, 0, 90]),
        ("CompleteCommit", ABORT, [90, 48, 90]),
        ("CompleteAbort", COMMIT, [90, 48, 90]),
        ("CompleteAbort", ABORT, [90, 0, 90]),
    ];
    // The same for version 2, which bumped the epoch to 6 with the end: 5 is a retry now, 6 the next transaction. While markers are
    // written any producer must retry.
    let version_2: &[(&str, bool, [i16; 3])] = &[
        ("Empty", COMMIT, [90, 48, 90]),
        ("Empty", ABORT, [90, 0, 90]),
        ("Ongoing", COMMIT, [90, 0, 90]),
        ("Ongoing", ABORT, [90, 0, 90]),
        ("PrepareCommit", COMMIT, [51, 51, 51]),
        ("PrepareCommit", ABORT, [51, 51, 51]),
        ("PrepareAbort", COMMIT, [51, 51, 51]),
        ("PrepareAbort", ABORT, [51, 51, 51]),
        ("CompleteCommit", COMMIT, [90, 0, 48]),
        ("CompleteCommit", ABORT, [90, 48, 0]),
        ("CompleteAbort", COMMIT, [90, 48, 48]),
        ("CompleteAbort", ABORT, [90, 0, 0]),
    ];
    for (version, table) in [(0, version_1), (2, version_2)] {
        for (state, commit, codes) in table {
            for (epoch, expected) in [4, 5, 6].into_iter().zip(codes) {
                let (mut s, producer) = Script::in_state(state, version);
                let found = code(s.end("t", Producer { epoch, ..producer }, *commit, version));
                assert_eq!(found, *expected, "version {version}, {state}, commit {commit}, epoch {epoch}");
                let (mut s, _) = Script::in_state(state, version);
                let other = if version == 2 && state.starts_with("Prepare") { 51 } else { 49 };
                assert_eq!(code(s.end("t", Producer { id: 77, epoch }, *commit, version)), other, "another producer");
            }
        }
    }
    let mut s = Script::new(2);
    let nobody = Producer { id: 1, epoch: 0 };
    assert_eq!((code(s.end("none", nobody, true, 2)), code(s.end("", nobody, true, 2))), (49, 42));
}

#[test]
fn partitions_are_added_and_asked_about() {
    // State, then the codes of adding and of asking, for an epoch too old, the right one, and one too new.
    let table: &[(&str, [i16; 3], [i16; 3])] = &[
        ("Empty", [90, 0, 90], [90, 120, 90]),
        ("Ongoing", [90, 0, 90], [90, 0, 90]),
        ("PrepareCommit", [51, 51, 51], [90, 51, 90]),
        ("PrepareAbort", [51, 51, 51], [90, 51, 90]),
        ("CompleteCommit", [90, 0, 90], [90, 120, 90]),
        ("CompleteAbort", [90, 0, 90], [90, 120, 90]),
    ];
    for (state, adds, asks) in table {
        for (at, epoch) in [4, 5, 6].into_iter().enumerate() {
            let (mut s, producer) = Script::in_state(state, 0);
            let of_epoch = Producer { epoch, ..producer };
            let verdict = s.verify("t", of_epoch, &[0]).map_or_else(|code| code.0, |codes| codes[0].0);
            assert_eq!(verdict, asks[at], "{state}, epoch {epoch}, asks");
            assert_eq!(s.add("t", of_epoch, 0, 0).0, adds[at], "{state}, epoch {epoch}, adds");
        }
    }
    let (mut s, producer) = Script::in_state("Ongoing", 0);
    assert_eq!(s.verify("t", producer, &[0, 1]), Ok(vec![ErrorCode::NONE, ErrorCode::TRANSACTION_ABORTABLE]));
    assert_eq!(s.add("t", Producer { id: 77, epoch: 5 }, 0, 0).0, 49);
    assert_eq!((s.add("none", producer, 0, 0).0, s.add("", producer, 0, 0).0), (49, 42));
}

#[test]
fn producers_come_and_go_on() {
    let epoch = |outcome: Result<Producer, ErrorCode>| outcome.map(|p| p.epoch).map_err(|code| code.0);
    for state in ["Empty", "CompleteCommit", "CompleteAbort"] {
        let with = |epoch: Option<i16>| {
            let (mut s, producer) = Script::in_state(state, 0);
            s.init("t", epoch.map(|epoch| Producer { epoch, ..producer }))
        };
        assert_eq!(epoch(with(None)), Ok(6), "{state}: a new one fences");
        assert_eq!(epoch(with(Some(5))), Ok(6), "{state}: goes on");
        assert_eq!(epoch(with(Some(4))), Err(90), "{state}: fenced");
        assert_eq!(epoch(with(Some(6))), Err(90), "{state}: from nowhere");
    }
    for (state, expected) in [("PrepareCommit", 51), ("PrepareAbort", 51)] {
        let (mut s, producer) = Script::in_state(state, 0);
        assert_eq!((epoch(s.init("t", None)), epoch(s.init("t", Some(producer)))), (Err(expected), Err(expected)));
    }
    // The producer continues, and retries as it lost the response; a new producer in between fences it.
    let (mut s, producer) = Script::in_state("Empty", 0);
    assert_eq!(epoch(s.init("t", Some(producer))), Ok(6));
    assert_eq!(epoch(s.init("t", Some(producer))), Ok(6));
    assert_eq!(epoch(s.init("t", None)), Ok(7));
    assert_eq!(epoch(s.init("t", Some(producer))), Err(90));
    assert_eq!(epoch(s.init("t", Some(Producer { id: 77, epoch: 7 }))), Err(90));
    let mut s = Script::new(2);
    assert_eq!(epoch(s.init("t", Some(Producer { id: 77, epoch: 7 }))), Ok(0), "its id expired: it begins anew");
    assert_eq!(epoch(s.init("", None)), Err(42));
    for (timeout_ms, expected) in [(0, 50), (-1, 50), (900_001, 50), (900_000, 0)] {
        let request = InitRequest { id: "u".into(), timeout_ms, current: None };
        let reply = s.ask(|shard, fresh, token, now| shard.init(&request, fresh, token, now));
        let Reply::Producer(outcome) = reply else { panic!("{reply:?}") };
        assert_eq!(code(outcome), expected, "{timeout_ms}");
    }
}

#[test]
fn a_new_producer_ends_the_old_ones_transaction() {
    for version in [0, 1, 2] {
        let (mut s, old) = Script::in_state("Ongoing", version);
        s.shard.set_version(version);
        assert_eq!(code(s.init("t", None)), 51);
        assert_eq!((s.state("t"), s.markers[0].epoch, s.markers[0].commit), ("PrepareAbort", 6, false));
        assert_eq!(code(s.init("t", None)), 51);
        let outcome = code(s.end("t", old, true, version));
        assert_ne!(outcome, 0, "version {version}: the old one may not commit");
        s.write_markers();
        assert_eq!(s.init("t", None), Ok(Producer { epoch: 7, ..old }));
        assert_eq!((s.add("t", old, 0, version).0, code(s.end("t", old, true, version))), (90, 90));
    }
}

#[test]
fn epochs_run_out() {
    let last = Producer { id: FRESH, epoch: i16::MAX - 1 };
    let with_last_epoch = || {
        let mut s = Script::new(2);
        while s.init("t", None).unwrap() != last {}
        s
    };
    let mut s = with_last_epoch();
    assert_eq!(s.init("t", Some(last)), Ok(Producer { id: FRESH + 1, epoch: 0 }));
    assert_eq!(s.init("t", Some(last)), Ok(Producer { id: FRESH + 1, epoch: 0 }), "it did not hear of it");
    let mut s = with_last_epoch();
    assert_eq!(s.init("t", None), Ok(Producer { id: FRESH + 1, epoch: 0 }));
    assert_eq!(code(s.init("t", Some(last))), 90);
    // Version 2 gives the next id with the end of a transaction; the markers carry the old one.
    let mut s = with_last_epoch();
    s.add("t", last, 0, 2);
    let next = Producer { id: FRESH + 1, epoch: 0 };
    assert_eq!(s.end("t", last, true, 2), Ok(next));
    assert_eq!((s.markers[0].producer_id, s.markers[0].epoch), (FRESH, i16::MAX));
    assert_eq!(code(s.end("t", last, true, 2)), 51);
    assert_eq!(s.reloaded().describe("t"), s.shard.describe("t"));
    s.write_markers();
    assert_eq!(s.end("t", last, true, 2), Ok(next), "a retry");
    assert_eq!(s.add("t", next, 0, 2), ErrorCode::NONE);
    // Fencing uses the one epoch that no producer is given.
    let mut s = with_last_epoch();
    s.add("t", last, 0, 2);
    assert_eq!(code(s.init("t", None)), 51);
    assert_eq!(s.write_markers().epoch, i16::MAX);
    assert_eq!(s.init("t", None), Ok(Producer { id: FRESH + 1, epoch: 1 }));
}

#[test]
fn what_lasts_too_long_is_aborted() {
    for version in [0, 2] {
        let (mut s, producer) = Script::in_state("Ongoing", version);
        s.shard.set_version(version);
        s.pass(i64::from(TIMEOUT) - 2);
        assert_eq!(s.state("t"), "Ongoing");
        s.pass(2);
        assert_eq!((s.state("t"), s.markers[0].epoch), ("PrepareAbort", 6));
        s.write_markers();
        let found = code(s.end("t", producer, true, version));
        assert_eq!(found, if version == 2 { 48 } else { 90 }, "version {version}: it may not commit");
    }
    // They are looked at every ten seconds at most.
    let (mut s, _) = Script::in_state("Ongoing", 0);
    let second = s.init("u", None).unwrap();
    s.now += 1000;
    s.add("u", second, 0, 0);
    s.pass(i64::from(TIMEOUT) - 1000);
    assert_eq!((s.state("t"), s.state("u")), ("PrepareAbort", "Ongoing"));
    s.pass(9_000);
    assert_eq!(s.state("u"), "Ongoing");
    s.pass(1_000);
    assert_eq!(s.state("u"), "PrepareAbort");
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    for (state, expires) in [
        ("Empty", true),
        ("CompleteCommit", true),
        ("CompleteAbort", true),
        ("PrepareCommit", false),
        ("Ongoing", false),
    ] {
        let (mut s, producer) = Script::in_state(state, 0);
        s.shard.limits.abort_interval_ms = i64::MAX;
        s.shard.aborted_at = s.now;
        s.pass(limits().id_expiration_ms + 1);
        assert_eq!(s.state("t") == "gone", expires, "{state}");
        assert_eq!(s.reloaded().describe("t"), s.shard.describe("t"), "{state}");
        if expires {
            assert_eq!(s.add("t", producer, 0, 0).0, 49);
        }
    }
}

#[test]
fn a_coordinator_that_takes_over_finishes_what_is_decided() {
    for (state, expected) in [("PrepareCommit", Some(true)), ("PrepareAbort", Some(false)), ("Ongoing", None)] {
        let (s, producer) = Script::in_state(state, 2);
        let mut next = Script { shard: s.reloaded(), log: s.log.clone(), ..Script::new(2) };
        let effects = next.shard.loaded(s.now);
        next.take(effects);
        assert_eq!(next.markers.first().map(|markers| markers.commit), expected, "{state}");
        if expected.is_some() {
            assert_eq!(next.markers, s.markers, "the same as the one before would write");
            next.write_markers();
            assert_eq!(next.add("t", Producer { epoch: 6, ..producer }, 0, 2), ErrorCode::NONE);
        }
    }
    // A coordinator that does not know that markers are written writes them again: the transaction stays ended.
    let (s, producer) = Script::in_state("CompleteCommit", 2);
    let stale = s.shard.markers_written(&"t".into(), Producer { epoch: 6, ..producer }, s.now);
    assert_eq!(stale, Effects::default());
}

#[test]
fn lists() {
    let (mut s, producer) = Script::in_state("Ongoing", 0);
    s.init("u", None).unwrap();
    s.now += 100;
    let all = ListFilter { states: None, producer_ids: Vec::new(), longer_than_ms: -1 };
    let list = |filter: &ListFilter, prefix: &str| {
        let mut ids: Vec<_> = s
            .shard
            .list(filter, |id| id.starts_with(prefix), s.now)
            .into_iter()
            .map(|row| row.id.to_string())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(list(&all, ""), ["t", "u"]);
    assert_eq!(list(&all, "u"), ["u"]);
    assert_eq!(list(&ListFilter { states: Some(vec![State::Ongoing]), ..all.clone() }, ""), ["t"]);
    assert!(list(&ListFilter { states: Some(vec![]), ..all.clone() }, "").is_empty());
    assert_eq!(list(&ListFilter { producer_ids: vec![producer.id], ..all.clone() }, ""), ["t"]);
    assert_eq!(list(&ListFilter { longer_than_ms: 99, states: Some(vec![State::Ongoing]), ..all.clone() }, ""), ["t"]);
    assert!(list(&ListFilter { longer_than_ms: 100, states: Some(vec![State::Ongoing]), ..all }, "").is_empty());
}
