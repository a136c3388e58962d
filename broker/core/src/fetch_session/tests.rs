//! The rules in a table, and two properties: the answers are those of a session that reads all of its partitions at each
//! fetch; and no partition is off the ready-list while a read of it could change the answer, whatever overlaps.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn target(partition: i32) -> FetchTarget {
    FetchTarget { topic: "t".into(), topic_id: Uuid::ZERO, partition }
}

fn wanted(offset: i64) -> PartitionRequest {
    let (current_leader_epoch, last_fetched_epoch, log_start_offset) = (-1, -1, -1);
    PartitionRequest { offset, max_bytes: 100, current_leader_epoch, last_fetched_epoch, log_start_offset }
}

fn request(epoch: i32, partitions: &[i32], forgotten: &[i32]) -> SessionRequest {
    let partitions = partitions.iter().map(|p| (target(*p), wanted(0))).collect();
    SessionRequest {
        id: 7,
        epoch,
        by_id: false,
        repeats: false,
        partitions,
        forgotten: forgotten.iter().map(|p| target(*p)).collect(),
    }
}

fn order(fetch: &SessionFetch) -> Vec<i32> {
    fetch.partitions.iter().map(|(t, _)| t.partition).collect()
}

fn status(must_report: bool, high_watermark: i64) -> PartitionStatus {
    PartitionStatus { must_report, is_caught_up: !must_report, high_watermark, log_start_offset: 0 }
}

#[test]
fn a_session_from_begin_to_end() {
    let (mut session, first) = FetchSession::<()>::create(request(0, &[0, 1, 2], &[]));
    assert_eq!((first.incremental, first.has_others, order(&first)), (false, false, vec![0, 1, 2]));
    assert_eq!(session.finish(&first, &[status(true, 5), status(false, 5), status(false, 5)]), [true; 3]);

    session.resume(&request(1, &[], &[])).unwrap();
    session.mark_moved(first.slots[1]);
    let second = session.list_ready();
    assert_eq!((second.incremental, second.has_others), (true, true));
    assert_eq!(order(&second), [1, 0], "0 had records: it is at the end, and may have more");
    assert_eq!(session.finish(&second, &[status(false, 6), status(false, 5)]), [true, false]);

    session.resume(&request(2, &[3], &[1])).unwrap();
    session.mark_moved(first.slots[1]);
    let third = session.list_ready();
    assert_eq!(order(&third), [3], "nothing moved, one is new, one is gone");
    assert_eq!(session.resume(&request(2, &[], &[])), Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
    let by_id = SessionRequest { by_id: true, ..request(3, &[], &[]) };
    assert_eq!(session.resume(&by_id), Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR));
    session.mark_all();
    assert_eq!(order(&session.list_ready()), [2, 0, 3]);

    session.resume(&request(3, &[4], &[0, 2, 3, 4])).unwrap();
    assert!(session.is_empty(), "what is named and forgotten in one request is forgotten");
}

/// A follower's request that overtakes another: what the answer to the other says of a partition that both name is said again.
#[test]
fn what_a_follower_ignores_is_said_again() {
    for repeats in [true, false] {
        let request = |epoch, partitions: &[i32]| SessionRequest { repeats, ..request(epoch, partitions, &[]) };
        let (mut session, first) = FetchSession::<()>::create(request(0, &[0, 1]));
        session.finish(&first, &[status(false, 5), status(false, 5)]);
        session.resume(&request(1, &[0, 1])).unwrap();
        let overtaken = session.list_ready();
        session.resume(&request(2, &[0])).unwrap();
        let second = session.list_ready();
        assert_eq!((order(&overtaken), order(&second)), (vec![0, 1], vec![0, 1]));
        assert_eq!(session.finish(&overtaken, &[status(false, 9), status(false, 9)]), [true, true]);
        assert_eq!(session.finish(&second, &[status(false, 9), status(false, 9)]), [repeats, false]);
        session.resume(&request(3, &[])).unwrap();
        [0, 1].into_iter().for_each(|at| session.mark_moved(first.slots[at]));
        let third = session.list_ready();
        assert_eq!(session.finish(&third, &[status(false, 9), status(false, 9)]), [false, false], "once is enough");
    }
}

#[test]
fn an_epoch_is_what_kip_227_says() {
    let action = |epoch| request(epoch, &[], &[]).action();
    assert_eq!((action(-1), action(0)), (SessionAction::Close, SessionAction::Create));
    assert_eq!([1, i32::MAX, -2].map(action), [SessionAction::Resume; 3]);
    let (mut session, _) = FetchSession::<()>::create(request(0, &[0], &[]));
    session.next_epoch = i32::MAX;
    session.resume(&request(i32::MAX, &[], &[])).unwrap();
    session.resume(&request(1, &[], &[])).unwrap();
}

#[test]
fn a_slot_that_is_used_again_is_another() {
    let (mut session, first) = FetchSession::create(request(0, &[0, 1], &[]));
    session.set_watch(first.slots[0], Some("old"));
    session.resume(&request(1, &[2], &[])).unwrap();
    session.resume(&request(2, &[], &[0])).unwrap();
    assert_eq!(session.watch(first.slots[0]), None);
    session.resume(&request(3, &[3], &[])).unwrap();
    session.set_watch(first.slots[0], Some("late"));
    let listed = session.list_ready();
    assert_eq!(order(&listed), [1, 2, 3]);
    assert!(
        listed.slots.iter().all(|slot| session.watch(*slot).is_none()),
        "a late registration is no other partition's"
    );
    assert_eq!(session.finish(&first, &[status(true, 1), status(false, 1)]), [true, true]);
    assert_eq!(order(&session.list_ready()), [1, 2, 3], "a late fetch settles nothing of another partition");
    session.clear();
    assert!(session.is_empty() && session.list_ready().partitions.is_empty());
}

/// Partitions as a broker has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    log_start: i64,
    end: i64,
    fails: bool,
}

const PARTITIONS: i32 = 6;
type World = [Model; PARTITIONS as usize];

fn at(world: &World, target: &FetchTarget) -> Model {
    world[usize::try_from(target.partition).unwrap()]
}

fn read_one(model: Model, wanted: &PartitionRequest, left: &mut i64) -> (PartitionStatus, i64) {
    if model.fails || wanted.offset < model.log_start || wanted.offset > model.end {
        let failed =
            PartitionStatus { must_report: true, is_caught_up: false, high_watermark: -1, log_start_offset: 0 };
        return (failed, 0);
    }
    let records = (model.end - wanted.offset).min(*left);
    *left -= records;
    let status = PartitionStatus {
        must_report: records > 0,
        is_caught_up: wanted.offset == model.end,
        high_watermark: model.end,
        log_start_offset: model.log_start,
    };
    (status, records)
}

fn read(world: &World, partitions: &[(FetchTarget, PartitionRequest)], mut left: i64) -> Vec<(PartitionStatus, i64)> {
    partitions.iter().map(|(target, wanted)| read_one(at(world, target), wanted, &mut left)).collect()
}

/// The oracle: a session that reads all of its partitions at each fetch.
#[derive(Debug, Default)]
struct FullScan {
    entries: BTreeMap<FetchTarget, (PartitionRequest, (i64, i64), u64)>,
    turns: u64,
}

impl FullScan {
    fn update(&mut self, request: &SessionRequest) {
        for (target, wanted) in &request.partitions {
            let turn = self.turns;
            self.turns += 1;
            self.entries.entry(target.clone()).and_modify(|entry| entry.0 = *wanted).or_insert((
                *wanted,
                (-1, -1),
                turn,
            ));
        }
        for target in &request.forgotten {
            self.entries.remove(target);
        }
    }

    fn list(&self) -> Vec<(FetchTarget, PartitionRequest)> {
        let mut all: Vec<_> = self.entries.iter().map(|(target, entry)| (entry.2, target.clone(), entry.0)).collect();
        all.sort_unstable_by_key(|(turn, ..)| *turn);
        all.into_iter().map(|(_, target, wanted)| (target, wanted)).collect()
    }

    fn finish(&mut self, target: &FetchTarget, status: &PartitionStatus) -> bool {
        let entry = self.entries.get_mut(target).unwrap();
        let now = (status.high_watermark, status.log_start_offset);
        let moved = std::mem::replace(&mut entry.1, now) != now;
        if status.must_report {
            entry.2 = self.turns;
            self.turns += 1;
        }
        moved || status.must_report
    }
}

#[derive(Debug, Clone)]
enum Event {
    Append(i32, i64),
    DeleteRecords(i32),
    Fail(i32, bool),
}

impl Event {
    /// The partition that moved.
    fn happen(&self, world: &mut World) -> i32 {
        let (Self::Append(partition, _) | Self::DeleteRecords(partition) | Self::Fail(partition, _)) = *self;
        let model = &mut world[usize::try_from(partition).unwrap()];
        match *self {
            Self::Append(_, count) => model.end += count,
            Self::DeleteRecords(_) => model.log_start = model.end,
            Self::Fail(_, fails) => model.fails = fails,
        }
        partition
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..PARTITIONS, 1..20i64).prop_map(|(partition, count)| Event::Append(partition, count)),
        1 => (0..PARTITIONS).prop_map(Event::DeleteRecords),
        1 => (0..PARTITIONS, any::<bool>()).prop_map(|(partition, fails)| Event::Fail(partition, fails)),
    ]
}

/// One incremental fetch of a client.
#[derive(Debug, Clone)]
struct Step {
    before: Vec<Event>,
    named: Vec<(i32, i64)>,
    forgotten: Vec<i32>,
    /// Moves while the fetch waits; then it reads again.
    meanwhile: Vec<Event>,
    budget: i64,
    /// The client continues behind the records that it got.
    advances: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let named = vec((0..PARTITIONS, 0..30i64), 0..2);
    (vec(event(), 0..4), named, vec(0..PARTITIONS, 0..2), vec(event(), 0..3), 0..40i64, prop::bool::weighted(0.8))
        .prop_map(|(before, named, forgotten, meanwhile, budget, advances)| Step {
            before,
            named,
            forgotten,
            meanwhile,
            budget,
            advances,
        })
}

/// Marks a partition as its watch would.
fn mark<W>(session: &mut FetchSession<W>, partition: i32) {
    if let Some(slot) = session.slots.get(&target(partition)).copied() {
        session.mark_moved(slot);
    }
}

proptest! {
    #[test]
    fn the_ready_list_gives_the_answers_of_a_full_scan(steps in vec(step(), 1..60)) {
        let mut world = [Model { log_start: 0, end: 0, fails: false }; PARTITIONS as usize];
        let full = request(0, &[0, 1, 2, 3], &[]);
        let mut oracle = FullScan::default();
        oracle.update(&full);
        let (mut session, first) = FetchSession::<()>::create(full);
        let found: Vec<_> = read(&world, &first.partitions, 100).into_iter().map(|(status, _)| status).collect();
        for ((target, _), status) in first.partitions.iter().zip(&found) {
            oracle.finish(target, status);
        }
        session.finish(&first, &found);
        let mut next = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            for event in &step.before {
                mark(&mut session, event.happen(&mut world));
            }
            next.extend(step.named.iter().map(|(partition, offset)| (target(*partition), wanted(*offset))));
            let request = SessionRequest {
                partitions: std::mem::take(&mut next),
                ..request(i32::try_from(number + 1).unwrap(), &[], &step.forgotten)
            };
            oracle.update(&request);
            session.resume(&request).unwrap();
            let mut listed = session.list_ready();
            for event in &step.meanwhile {
                mark(&mut session, event.happen(&mut world));
                listed = session.list_ready();
            }
            prop_assert_eq!(listed.has_others, listed.partitions.len() < oracle.entries.len());
            let all = oracle.list();
            let expected: Vec<_> = all.iter().zip(read(&world, &all, step.budget))
                .filter(|((target, _), (status, _))| oracle.finish(target, status))
                .map(|((target, wanted), found)| (target.clone(), *wanted, found)).collect();
            let found = read(&world, &listed.partitions, step.budget);
            let statuses: Vec<_> = found.iter().map(|(status, _)| *status).collect();
            let told = session.finish(&listed, &statuses);
            let answer: Vec<_> = listed.partitions.iter().zip(found).zip(told).filter(|(_, told)| *told)
                .map(|(((target, wanted), found), _)| (target.clone(), *wanted, found)).collect();
            prop_assert_eq!(&answer, &expected);
            if step.advances {
                next.extend(answer.into_iter().filter(|(.., (_, records))| *records > 0)
                    .map(|(target, asked, (_, records))| (target, wanted(asked.offset + records))));
            }
        }
    }

    #[test]
    fn no_partition_is_lost_whatever_overlaps(steps in vec((step(), 0..4usize, any::<u8>()), 1..80)) {
        let mut world = [Model { log_start: 0, end: 0, fails: false }; PARTITIONS as usize];
        let (mut session, first) = FetchSession::<()>::create(request(0, &[0, 1, 2, 3], &[]));
        let mut epoch = 0;
        // Fetches under way, each with what its last read found.
        let mut begun = vec![(first, None)];
        let mut moved = Vec::new();
        for (step, pick, action) in steps {
            moved.extend(step.before.iter().map(|event| event.happen(&mut world)));
            let pick = pick % begun.len().max(1);
            match action % 5 {
                0 | 1 => {
                    epoch += 1;
                    let named = step.named.iter().map(|(partition, offset)| (target(*partition), wanted(*offset)));
                    let resumed = SessionRequest { partitions: named.collect(), ..request(epoch, &[], &step.forgotten) };
                    session.resume(&resumed).unwrap();
                    moved.drain(..).for_each(|partition| mark(&mut session, partition));
                    begun.push((session.list_ready(), None));
                }
                2 => if let Some((fetch, found)) = begun.get_mut(pick) {
                    let status = read(&world, &fetch.partitions, step.budget);
                    *found = Some(status.into_iter().map(|(status, _)| status).collect::<Vec<_>>());
                },
                3 => if let Some((fetch, Some(found))) = begun.get(pick) {
                    session.finish(fetch, found);
                    begun.remove(pick);
                },
                _ => if pick < begun.len() {
                    begun.remove(pick);
                },
            }
            for (target, slot) in &session.slots {
                let entry = session.entry(*slot).unwrap();
                if moved.contains(&target.partition) || session.ready.contains(&(entry.turn, *slot)) {
                    continue;
                }
                let (status, _) = read_one(at(&world, target), &entry.wanted, &mut 100);
                prop_assert!(status.is_caught_up, "{target:?} has more");
                let told = (entry.high_watermark, entry.log_start_offset);
                prop_assert_eq!(told, (status.high_watermark, status.log_start_offset));
            }
            let on_list = session.ready.iter().all(|(turn, slot)| session.entry(*slot).is_some_and(|e| e.turn == *turn));
            prop_assert!(on_list, "the list has partitions of the session only");
        }
    }
}
