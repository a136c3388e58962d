//! Plans by table, and their invariants over layouts at random.

use proptest::prelude::*;

use super::*;

const RACKS: [&str; 3] = ["a", "b", "c"];

/// Brokers from 1 on; a letter is the rack, `!` is not alive, `#` is cordoned.
fn layout(brokers: &[&'static str], partitions: &[(&[i32], u64)]) -> Layout {
    let broker = |(at, text): (usize, &&'static str)| {
        let rack = text.trim_end_matches(['!', '#']);
        let state = BrokerState { rack: rack.into(), alive: !text.contains('!'), cordoned: text.contains('#') };
        (i32::try_from(at + 1).unwrap(), state)
    };
    let partition = |(at, (replicas, bytes)): (usize, &(&[i32], u64))| PartitionState {
        topic: "t".into(),
        partition: i32::try_from(at).unwrap(),
        replicas: replicas.to_vec(),
        bytes: *bytes,
    };
    Layout {
        brokers: brokers.iter().enumerate().map(broker).collect(),
        partitions: partitions.iter().enumerate().map(partition).collect(),
    }
}

fn targets(moves: &[Move]) -> Vec<(i32, Vec<i32>)> {
    moves.iter().map(|one| (one.partition, one.to.clone())).collect()
}

#[test]
fn a_drain_keeps_racks_and_evens_out_load() {
    type Case<'a> = (&'a str, &'a [&'static str], &'a [(&'a [i32], u64)], &'a [(i32, &'a [i32])]);
    let cases: [Case<'_>; 8] = [
        ("nothing is on it", &["", "", ""], &[(&[2, 3], 5)], &[]),
        ("the only broker that is left", &["", "", ""], &[(&[1, 2], 5)], &[(0, &[3, 2])]),
        ("a follower", &["", "", ""], &[(&[2, 1], 5)], &[(0, &[2, 3])]),
        ("the least loaded", &["", "", "", ""], &[(&[1, 2], 5), (&[3], 9)], &[(0, &[4, 2])]),
        ("the rack that the partition lacks", &["a", "b", "b", "a"], &[(&[2, 1], 5), (&[4], 9)], &[(0, &[2, 4])]),
        ("another rack where none is left", &["a", "b", "b"], &[(&[2, 1], 5)], &[(0, &[2, 3])]),
        (
            "the large one and the small ones on different brokers",
            &["", "", ""],
            &[(&[1], 100), (&[1], 10), (&[1], 10)],
            &[(0, &[2]), (1, &[3]), (2, &[3])],
        ),
        ("no dead and no cordoned broker", &["", "", "!", "#", ""], &[(&[1, 2], 5)], &[(0, &[5, 2])]),
    ];
    for (why, brokers, partitions, expected) in cases {
        let layout = layout(brokers, partitions);
        let found = targets(&plan_drain(&layout, 1).unwrap());
        let expected: Vec<(i32, Vec<i32>)> = expected.iter().map(|(at, to)| (*at, to.to_vec())).collect();
        assert_eq!(found, expected, "{why}");
    }
}

#[test]
fn a_drained_broker_hands_its_leaderships_to_those_that_lead_least() {
    let partitions: &[(&[i32], u64)] = &[(&[1, 2], 1), (&[1, 2], 1), (&[2, 3], 1), (&[2, 3], 1)];
    let mut layout = layout(&["", "", ""], partitions);
    let moves = plan_drain(&layout, 1).unwrap();
    assert_eq!(targets(&moves), [(0, vec![3, 2]), (1, vec![3, 2])]);
    layout.apply(&moves);
    let leaders: Vec<u64> = loads(&layout).values().map(|load| load.leaders).collect();
    assert_eq!(leaders, [0, 2, 2]);
}

#[test]
fn a_drain_names_the_first_partition_that_is_blocked() {
    let layout = layout(&["", "", "!", ""], &[(&[4, 1], 5), (&[4, 1, 2], 5), (&[1, 2, 4], 5)]);
    let error = plan_drain(&layout, 1).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PlanError::NoBrokerLeft { partition: 1, factor: 3, blocked: 2, .. }), "{error:?}");
    assert!(text.starts_with("t-1 has 3 replicas") && text.contains("not cordoned (2, 4)"), "{text}");
    let unknown = plan_drain(&layout, 9).unwrap_err();
    assert_eq!(unknown.to_string(), "the cluster has no broker 9; its brokers are 1, 2, 3, 4");
}

#[test]
fn a_replacement_takes_all_replicas_and_leaderships() {
    let base = layout(&["a", "b", "a", "b"], &[(&[1, 2], 5), (&[2, 1], 5), (&[1], 5), (&[3, 2], 5)]);
    assert_eq!(targets(&plan_replacement(&base, 1, 3).unwrap()), [(0, vec![3, 2]), (1, vec![2, 3]), (2, vec![3])]);
    let both = layout(&["a", "b", "a", "a"], &[(&[3, 1, 2], 5)]);
    assert_eq!(targets(&plan_replacement(&both, 1, 3).unwrap()), [(0, vec![3, 4, 2])], "it has one already");
    let refused = |brokers, from, to| plan_replacement(&layout(brokers, &[(&[1, 2], 5)]), from, to).unwrap_err();
    assert_eq!(refused(&["", ""], 1, 1), PlanError::SameBroker(1));
    assert_eq!(refused(&["", "", "!"], 1, 3), PlanError::NotAlive(3));
    assert_eq!(refused(&["", "", "#"], 1, 3), PlanError::Cordoned(3));
    assert!(matches!(refused(&["", ""], 1, 3), PlanError::UnknownBroker { broker: 3, .. }));
    let racks = refused(&["a", "b", "b"], 1, 3);
    assert!(matches!(racks, PlanError::FewerRacks { partition: 0, .. }), "{racks:?}");
    assert!(racks.to_string().contains("esker cluster drain 1"));
}

#[test]
fn a_rebalance_moves_little() {
    type Case<'a> = (&'a str, &'a [&'static str], &'a [(&'a [i32], u64)], &'a [(i32, &'a [i32])]);
    let cases: [Case<'_>; 7] = [
        ("even already", &["", ""], &[(&[1], 5), (&[2], 5)], &[]),
        ("a new broker gets its share", &["", "", ""], &[(&[1], 5), (&[2], 5), (&[1], 5)], &[(0, &[3])]),
        ("it cannot be better", &["", ""], &[(&[1], 5)], &[]),
        ("the order of replicas alone", &["", ""], &[(&[1, 2], 5), (&[1, 2], 5)], &[(0, &[2, 1])]),
        ("over racks", &["a", "a", "b"], &[(&[1, 2], 5)], &[(0, &[1, 3])]),
        ("a cordoned broker gets nothing", &["", "", "#"], &[(&[1], 5), (&[2], 5), (&[1], 5)], &[]),
        ("nor does it give", &["#", ""], &[(&[1], 5), (&[1], 5), (&[1], 5)], &[]),
    ];
    for (why, brokers, partitions, expected) in cases {
        let found = targets(&plan_rebalance(&layout(brokers, partitions)));
        let expected: Vec<(i32, Vec<i32>)> = expected.iter().map(|(at, to)| (*at, to.to_vec())).collect();
        assert_eq!(found, expected, "{why}");
    }
}

#[test]
fn a_removal_takes_its_steps_in_order_and_from_any_of_them() {
    use RemovalStep::*;
    let all = NodeFacts { registered: true, alive: true, cordoned: false, replicas: 2, voter: true };
    let cordoned = NodeFacts { cordoned: true, ..all };
    let drained = NodeFacts { replicas: 0, ..cordoned };
    let no_voter = NodeFacts { voter: false, ..drained };
    let stopped = NodeFacts { alive: false, cordoned: false, ..no_voter };
    let gone = NodeFacts { registered: false, ..stopped };
    let steps = [
        (all, Cordon),
        (cordoned, MoveReplicas),
        (drained, RemoveVoter),
        (no_voter, Stop),
        (stopped, Unregister),
        (gone, Done),
        (NodeFacts { alive: false, cordoned: false, ..all }, MoveReplicas),
        (NodeFacts { cordoned: false, ..no_voter }, Cordon),
    ];
    for (facts, step) in steps {
        assert_eq!(next_removal_step(facts), step, "{facts:?}");
    }
    assert!(Cordon.drains() && MoveReplicas.drains() && !RemoveVoter.drains());
}

#[test]
fn moves_begin_in_waves_and_are_followed() {
    let one = Move { topic: "t".into(), partition: 0, from: vec![1, 2], to: vec![3, 2], bytes: 7 };
    let at = |replicas: &[i32], adding: &[i32], removing: &[i32]| Assignment {
        replicas: replicas.to_vec(),
        isr: vec![1, 2],
        leader: Some(1),
        adding: adding.to_vec(),
        removing: removing.to_vec(),
    };
    let moving = at(&[3, 2, 1], &[3], &[1]);
    for (now, begun, state) in [
        (Some(at(&[1, 2], &[], &[])), false, MoveState::Waiting),
        (Some(moving.clone()), true, MoveState::InProgress),
        (Some(at(&[3, 2], &[], &[])), true, MoveState::Done),
        (None, false, MoveState::Done),
        (Some(at(&[1, 2], &[], &[])), true, MoveState::Superseded),
        (Some(at(&[4, 2, 1], &[4], &[1])), true, MoveState::Superseded),
        (Some(at(&[4, 2, 1], &[4], &[1])), false, MoveState::Waiting),
    ] {
        assert_eq!(move_state(&one, now.as_ref(), begun), state, "{now:?}");
    }
    assert_eq!((one.copied_bytes(), one.changes_leader(), one.added().collect::<Vec<_>>()), (7, true, vec![3]));
    let states = [MoveState::Done, MoveState::InProgress, MoveState::Waiting, MoveState::Waiting, MoveState::Waiting];
    for (limit, wave) in [(0, &[][..]), (1, &[]), (2, &[2]), (3, &[2, 3]), (9, &[2, 3, 4])] {
        assert_eq!(next_wave(&states, limit), wave, "{limit}");
    }
    let blocker = |now: &Assignment, alive: &[i32]| find_blocker(now, |id| alive.contains(&id));
    assert_eq!(blocker(&moving, &[1, 2, 3]), Some(Blocker::CatchingUp(3)));
    assert_eq!(blocker(&moving, &[1, 2]), Some(Blocker::NotAlive(3)));
    assert_eq!(blocker(&Assignment { leader: None, ..moving.clone() }, &[2, 3]), Some(Blocker::NoLeader));
    assert_eq!(blocker(&at(&[1, 2], &[], &[]), &[]), None);
}

/// Layouts with two to seven brokers, and partitions on distinct ones.
fn layouts() -> impl Strategy<Value = Layout> {
    let broker = (0..RACKS.len(), prop::bool::weighted(0.85), prop::bool::weighted(0.1));
    let brokers = prop::collection::vec(broker, 2..8);
    brokers.prop_flat_map(|brokers| {
        let all: Vec<i32> = (1..=i32::try_from(brokers.len()).unwrap()).collect();
        let most = all.len().min(3);
        let replicas = prop::sample::subsequence(all, 1..=most).prop_shuffle();
        let bytes = prop_oneof![Just(0), 1..1_000u64, 1_000_000..9_000_000u64];
        let partitions = prop::collection::vec((replicas, bytes), 0..40);
        partitions.prop_map(move |partitions| {
            let state = |(rack, alive, cordoned): &(usize, bool, bool)| BrokerState {
                rack: RACKS[*rack].into(),
                alive: *alive,
                cordoned: *cordoned,
            };
            let partition = |(at, (replicas, bytes)): (usize, (Vec<i32>, u64))| PartitionState {
                topic: "t".into(),
                partition: i32::try_from(at).unwrap(),
                replicas,
                bytes,
            };
            Layout {
                brokers: (1..).zip(brokers.iter().map(state)).collect(),
                partitions: partitions.into_iter().enumerate().map(partition).collect(),
            }
        })
    })
}

/// What holds for every plan.
fn check_moves(layout: &Layout, moves: &[Move]) -> Layout {
    for one in moves {
        let mut distinct = one.to.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), one.from.len(), "on as many brokers as before: {one:?}");
        assert_eq!(one.to.len(), one.from.len(), "as many replicas as before: {one:?}");
        assert!(one.added().all(|broker| layout.is_eligible(broker)), "{one:?}");
    }
    let mut after = layout.clone();
    after.apply(moves);
    assert_eq!(moves.len(), layout.partitions.iter().zip(&after.partitions).filter(|(a, b)| a != b).count());
    after
}

/// The most racks that the partition can be in without the broker.
fn racks_without(layout: &Layout, replicas: &[i32], broker: i32) -> usize {
    let stay: Vec<i32> = replicas.iter().copied().filter(|id| *id != broker).collect();
    let free = layout.eligible().filter(|id| *id != broker && !replicas.contains(id));
    free.map(|id| layout.rack_count(&[stay.as_slice(), &[id]].concat())).max().unwrap_or_default()
}

/// Largest and smallest of a number of each broker that gives and takes.
fn spread<T: Ord + Copy + Default>(layout: &Layout, of: impl Fn(i32) -> T) -> (T, T) {
    let values: Vec<T> = layout.eligible().map(of).collect();
    (values.iter().max().copied().unwrap_or_default(), values.iter().min().copied().unwrap_or_default())
}

proptest! {
    #[test]
    fn a_drain_leaves_nothing_on_the_broker(layout in layouts()) {
        match plan_drain(&layout, 1) {
            Ok(moves) => {
                let after = check_moves(&layout, &moves);
                prop_assert!(after.partitions.iter().all(|partition| !partition.replicas.contains(&1)));
                for one in &moves {
                    let best = racks_without(&layout, &one.from, 1);
                    prop_assert!(after.rack_count(&one.to) == best, "{:?}", one);
                    prop_assert_eq!(one.added().count(), 1, "only its replica moves");
                }
                prop_assert_eq!(plan_drain(&after, 1), Ok(vec![]));
            }
            Err(PlanError::NoBrokerLeft { partition, .. }) => {
                let replicas = &layout.partitions[usize::try_from(partition).unwrap()].replicas;
                prop_assert!(replicas.contains(&1));
                prop_assert!(layout.eligible().all(|id| replicas.contains(&id)), "no broker is left");
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_replacement_takes_what_the_broker_had(layout in layouts()) {
        let Ok(moves) = plan_replacement(&layout, 1, 2) else { return Ok(()) };
        let after = check_moves(&layout, &moves);
        for (before, after) in layout.partitions.iter().zip(&after.partitions).filter(|(a, _)| a.replicas.contains(&1)) {
            prop_assert!(after.replicas.contains(&2) && !after.replicas.contains(&1), "{:?} {:?}", before, after);
        }
        prop_assert_eq!(plan_replacement(&after, 1, 2), Ok(vec![]));
    }

    #[test]
    fn a_rebalance_makes_nothing_worse_and_is_done_at_once(layout in layouts()) {
        let moves = plan_rebalance(&layout);
        let after = check_moves(&layout, &moves);
        let racks = |layout: &Layout, at: usize| layout.rack_count(&layout.partitions[at].replicas);
        let over_racks = (0..layout.partitions.len()).all(|at| racks(&after, at) == racks(&layout, at));
        prop_assert!((0..layout.partitions.len()).all(|at| racks(&after, at) >= racks(&layout, at)));
        // The weights are measured against sums that moves do not change.
        let (before_loads, after_loads) = (super::load::Loads::of(&layout), super::load::Loads::of(&after));
        let weights = [spread(&layout, |id| before_loads.weight(id)), spread(&after, |id| after_loads.weight(id))];
        let leaders = [spread(&layout, |id| before_loads.leaders(id)), spread(&after, |id| after_loads.leaders(id))];
        if over_racks {
            prop_assert!(weights[1].0 <= weights[0].0 && weights[1].1 >= weights[0].1, "{:?}", weights);
        }
        prop_assert!(leaders[1].0 <= leaders[0].0 && leaders[1].1 >= leaders[0].1, "{:?}", leaders);
        prop_assert_eq!(plan_rebalance(&after), vec![]);
    }
}

/// With sizes that differ much, brokers with data and one without.
#[test]
fn a_large_cluster_is_evened_out_closely() {
    let brokers = 12;
    let replicas =
        |at: i32| (0..3).map(|step| (at * 7 + step * (1 + at % 4)) % (brokers - 1) + 1).collect::<Vec<i32>>();
    let distinct =
        |replicas: &Vec<i32>| replicas[0] != replicas[1] && replicas[1] != replicas[2] && replicas[0] != replicas[2];
    let partitions = (0..2_000).filter(|at| distinct(&replicas(*at))).map(|at| PartitionState {
        topic: "t".into(),
        partition: at,
        replicas: replicas(at),
        bytes: u64::try_from(at % 97).unwrap() * 1_000_003,
    });
    let state =
        |id: i32| BrokerState { rack: RACKS[usize::try_from(id % 3).unwrap()].into(), alive: true, cordoned: false };
    let layout =
        Layout { brokers: (1..=brokers).map(|id| (id, state(id))).collect(), partitions: partitions.collect() };
    let moves = plan_rebalance(&layout);
    let after = check_moves(&layout, &moves);
    let loads = loads(&after);
    let bytes: Vec<u64> = loads.values().map(|load| load.bytes).collect();
    assert!(bytes.iter().max().unwrap() * 4 < bytes.iter().min().unwrap() * 5, "{bytes:?}");
    assert!(plan_drain(&layout, 1).unwrap().len() > 200);
}
