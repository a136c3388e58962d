//! What becomes of partitions when brokers register, are fenced, shut down, leave or lose a log dir.

use super::*;
use crate::controller::place::takes_replicas;
use crate::metadata::{BrokerRecord, ConfigRecord, LevelRecord, PartitionImage, PartitionRecord, TopicRecord};
use ErrorCode as E;

/// What happened to a partition: leader, in-sync replicas, eligible ones.
type State = (i32, Vec<i32>, Vec<i32>);

const NONE: &[i32] = &[];

fn state(leader: i32, isr: &[i32], elr: &[i32]) -> State {
    (leader, isr.to_vec(), elr.to_vec())
}

fn dir(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

/// Brokers 1, 2 and 3, unfenced, each with two log dirs, at offset 100.
fn brokers() -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::newest_level());
    for node_id in 1..4 {
        image.apply(&MetadataRecord::Broker(BrokerRecord {
            node_id,
            epoch: 10 + i64::from(node_id),
            incarnation: dir(node_id as u8),
            log_dirs: vec![dir(10 + node_id as u8), dir(20 + node_id as u8)],
            record_level: RecordLevel::NEWEST.0,
            ..BrokerRecord::default()
        }));
    }
    image.set_offset(100);
    image
}

fn set(image: &mut MetadataImage, topic: &'static str, name: &'static str, value: &'static str) {
    image.apply(&MetadataRecord::Config(ConfigRecord {
        resource_type: ResourceKind::Topic.id(),
        resource_name: topic.into(),
        name: name.into(),
        value: Some(value.into()),
    }));
}

/// A topic with one partition on all three.
fn add(image: &mut MetadataImage, name: &'static str, partition: &State) {
    let id = dir(100 + image.topic_count() as u8);
    let (leader, isr, elr) = partition.clone();
    image.apply(&MetadataRecord::Topic(TopicRecord { name: name.into(), id }));
    image.apply(&MetadataRecord::Partition(PartitionRecord {
        topic_id: id,
        replicas: vec![1, 2, 3],
        isr,
        leader,
        elr,
        ..PartitionRecord::default()
    }));
    set(image, name, "min.insync.replicas", "2");
}

fn partition<'a>(image: &'a MetadataImage, topic: &str) -> &'a PartitionImage {
    image.topic(topic).unwrap().partitions.first().unwrap()
}

fn now(image: &MetadataImage, topic: &str) -> State {
    let partition = partition(image, topic);
    (partition.leader, partition.isr.clone(), partition.elr.clone())
}

fn with<R>(
    image: &mut MetadataImage,
    decide: impl FnOnce(&MetadataImage, ElectionRules<'_>) -> Result<Decision<R>, Refusal>,
) -> Result<R, ErrorCode> {
    let decision = decide(image, RULES);
    let Decision { records, reply } = decision.map_err(|refusal| refusal.code)?;
    MetadataRecord::encode_all(&records, image.level()).unwrap();
    records.iter().for_each(|record| image.apply(record));
    Ok(reply)
}

#[test]
fn a_fenced_broker_leads_nothing_and_is_in_sync_with_nothing() {
    let cases = [
        ("it leads", state(1, &[1, 2, 3], NONE), state(2, &[2, 3], NONE)),
        ("it follows", state(2, &[2, 1, 3], NONE), state(2, &[2, 3], NONE)),
        ("it is not in sync", state(2, &[2, 3], NONE), state(2, &[2, 3], NONE)),
        ("below the minimum it is eligible", state(1, &[1, 2], NONE), state(2, &[2], &[1])),
        ("it was the last one", state(1, &[1], &[2]), state(2, &[2], &[1])),
        ("and none is eligible", state(1, &[1], NONE), state(-1, NONE, &[1])),
    ];
    for (why, before, after) in cases {
        let mut image = brokers();
        add(&mut image, "t", &before);
        let epochs = (partition(&image, "t").leader_epoch, partition(&image, "t").partition_epoch);
        assert_eq!(with(&mut image, |image, rules| fence_broker(image, rules, 1, 11)), Ok(true), "{why}");
        assert_eq!(now(&image, "t"), after, "{why}");
        assert!(image.broker(1).unwrap().fenced);
        let (moved, changed) = (before.0 != after.0, before != after);
        let expected = (epochs.0 + i32::from(moved), epochs.1 + i32::from(changed));
        assert_eq!((partition(&image, "t").leader_epoch, partition(&image, "t").partition_epoch), expected, "{why}");
        assert_eq!(with(&mut image, |image, rules| fence_broker(image, rules, 1, 11)), Ok(false), "once");
    }
}

#[test]
fn an_unclean_leader_is_taken_where_the_topic_says_so() {
    let mut image = brokers();
    add(&mut image, "t", &state(1, &[1], NONE));
    set(&mut image, "t", "unclean.leader.election.enable", "true");
    with(&mut image, |image, rules| fence_broker(image, rules, 1, 11)).unwrap();
    assert_eq!(now(&image, "t"), state(2, &[2], NONE));
    assert!(partition(&image, "t").recovering);
}

#[test]
fn only_the_registration_that_is_meant_is_changed() {
    let mut image = brokers();
    add(&mut image, "t", &state(1, &[1, 2, 3], NONE));
    let before = image.clone();
    for (node_id, epoch) in [(1, 10), (1, 12), (9, 11)] {
        let stale = Err(E::STALE_BROKER_EPOCH);
        assert_eq!(with(&mut image, |i, r| fence_broker(i, r, node_id, epoch)).map(drop), stale);
        assert_eq!(with(&mut image, |i, r| unfence_broker(i, r, node_id, epoch, 99)).map(drop), stale);
        assert_eq!(with(&mut image, |i, r| shut_down_broker(i, r, node_id, epoch)).map(drop), stale);
        assert_eq!(with(&mut image, |i, r| fail_directories(i, r, node_id, epoch, &[dir(11)])), stale);
    }
    assert_eq!(image, before);
}

#[test]
fn an_unfenced_broker_leads_what_it_holds_whole() {
    let mut image = brokers();
    for (name, before) in [
        ("eligible", state(-1, NONE, &[1, 2])),
        ("in-sync", state(-1, &[1], NONE)),
        ("behind", state(-1, NONE, &[3])),
        ("led", state(2, &[2], NONE)),
    ] {
        add(&mut image, name, &before);
    }
    for (node_id, epoch) in [(1, 90), (3, 13)] {
        let fenced = BrokerRecord { fenced: true, epoch, ..image.broker(node_id).unwrap().clone() };
        image.apply(&MetadataRecord::Broker(fenced));
    }
    let mut unfence = |applied| with(&mut image, |image, rules| unfence_broker(image, rules, 1, 90, applied));
    assert_eq!(unfence(90), Ok(false), "it has not applied its own registration");
    assert_eq!(unfence(91), Ok(true));
    assert_eq!(now(&image, "eligible"), state(1, &[1], &[2]));
    assert_eq!(now(&image, "in-sync"), state(1, &[1], NONE));
    assert_eq!(now(&image, "behind"), state(-1, NONE, &[3]));
    assert_eq!(now(&image, "led"), state(2, &[2], NONE));
    assert!(image.broker(1).unwrap().is_active());
    assert_eq!(with(&mut image, |i, r| shut_down_broker(i, r, 1, 90)), Ok(1));
    with(&mut image, |i, r| fence_broker(i, r, 1, 90)).unwrap();
    let again = with(&mut image, |i, r| unfence_broker(i, r, 1, 90, 200));
    assert_eq!(again, Ok(false), "a broker that shuts down has to register again");
}

#[test]
fn a_controlled_shutdown_hands_leaderships_over() {
    let mut image = brokers();
    add(&mut image, "moves", &state(1, &[1, 2, 3], NONE));
    add(&mut image, "alone", &state(1, &[1], NONE));
    let leaderless = with(&mut image, |image, rules| shut_down_broker(image, rules, 1, 11));
    assert_eq!(leaderless, Ok(1));
    assert_eq!(now(&image, "moves"), state(2, &[2, 3], NONE));
    assert_eq!(now(&image, "alone"), state(-1, NONE, &[1]));
    let broker = image.broker(1).unwrap();
    assert!(broker.in_controlled_shutdown && !broker.fenced && !broker.is_active());
    assert_eq!((image.led_count(1), image.replicated_count(1)), (0, 2));
    let placed = place::place(&image, 9, 2, 0).unwrap();
    assert!(placed.iter().all(|replicas| !replicas.contains(&1)), "it gets nothing new");
    let MetadataRecord::Partition(made) = create_topics::new_partition(&image, dir(9), 0, vec![1, 3]).unwrap() else {
        panic!()
    };
    assert_eq!((made.leader, made.isr), (3, vec![3]));
    let before = image.clone();
    assert_eq!(with(&mut image, |image, rules| shut_down_broker(image, rules, 1, 11)), Ok(0));
    assert_eq!(image, before, "asked again, nothing is left to do");
    with(&mut image, |image, rules| fence_broker(image, rules, 2, 12)).unwrap();
    assert_eq!(now(&image, "moves"), state(3, &[3], &[2]), "and it is no candidate");
}

#[test]
fn an_unregistered_broker_counts_for_nothing() {
    let mut image = brokers();
    add(&mut image, "in-sync", &state(1, &[1, 2], NONE));
    add(&mut image, "eligible", &state(2, &[2], &[1]));
    add(&mut image, "last", &state(-1, NONE, &[1]));
    assert_eq!(with(&mut image, |image, rules| unregister_broker(image, rules, 1)), Ok(()));
    assert_eq!(now(&image, "in-sync"), state(2, &[2], NONE));
    assert_eq!(now(&image, "eligible"), state(2, &[2], NONE));
    assert_eq!(now(&image, "last"), state(-1, NONE, NONE));
    assert!(image.broker(1).is_none());
    assert_eq!(image.replicated_count(1), 3, "the assignments stay");
    let again = with(&mut image, |image, rules| unregister_broker(image, rules, 1));
    assert_eq!(again, Err(E::BROKER_ID_NOT_REGISTERED));
}

fn join(node_id: i32, incarnation: u8) -> JoinRequest {
    let log_dirs = vec![dir(10 + node_id as u8), dir(20 + node_id as u8)];
    let registration = Registration {
        node_id,
        incarnation: dir(incarnation),
        listeners: vec![],
        rack: None,
        log_dirs,
        cordoned_log_dirs: vec![],
    };
    JoinRequest { registration, features: vec![], record_level: RecordLevel::NEWEST.0, previous_epoch: -1 }
}

#[test]
fn a_new_incarnation_registers_fenced_under_the_offset_of_its_registration() {
    let mut image = brokers();
    let joined = |image: &mut MetadataImage, request: &JoinRequest, alive| {
        with(image, |image, rules| join_broker(image, rules, request, alive))
    };
    assert_eq!(joined(&mut image, &join(1, 99), true), Err(E::DUPLICATE_BROKER_REGISTRATION));
    assert_eq!(joined(&mut image, &join(1, 1), true), Ok(11), "the same incarnation amends its registration");
    assert!(!image.broker(1).unwrap().fenced);
    assert_eq!(joined(&mut image, &join(1, 99), false), Ok(100));
    assert!(image.broker(1).unwrap().fenced);
    assert_eq!(joined(&mut image, &join(1, 98), false), Ok(101), "twice in one entry of the log");
    assert_eq!(joined(&mut image, &join(7, 97), false), Ok(100), "a broker that is new");
    with(&mut image, |image, rules| shut_down_broker(image, rules, 2, 12)).unwrap();
    assert_eq!(joined(&mut image, &join(2, 96), true), Ok(100), "the one before has handed everything over");
    assert_eq!(with(&mut image, |i, r| unfence_broker(i, r, 1, 101, 100)), Ok(true), "all that there is, is applied");
}

#[test]
fn cordoned_log_dirs_are_registered_once_the_log_has_a_place_for_them() {
    let mut request = join(7, 97);
    let dirs = request.registration.log_dirs.clone();
    request.registration.cordoned_log_dirs.clone_from(&dirs);
    for (level, expected) in [(2, vec![]), (3, dirs)] {
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::Level(LevelRecord { level, software: "0.1.0".into() }));
        with(&mut image, |image, rules| join_broker(image, rules, &request, false)).unwrap();
        assert_eq!(image.broker(7).unwrap().cordoned_log_dirs, expected, "level {level}");
        assert_eq!(takes_replicas(&image, image.broker(7).unwrap()), expected.is_empty(), "level {level}");
        let again = register_broker(&image, request.registration.clone());
        let registered = again.records.iter().find_map(|record| match record {
            MetadataRecord::Broker(broker) => Some(broker.cordoned_log_dirs.clone()),
            _ => None,
        });
        assert_eq!(registered, Some(expected), "level {level}");
    }
}

#[test]
fn what_a_broker_is_eligible_for_depends_on_how_it_ended() {
    let clean = JoinRequest { previous_epoch: 11, ..join(1, 99) };
    let wiped = |mut request: JoinRequest| {
        request.registration.log_dirs[1] = dir(77);
        request
    };
    let cases = [
        ("after a clean shutdown", clean.clone(), "page-cache", state(-1, NONE, &[1])),
        ("after a crash, flushed", join(1, 99), "flush", state(-1, NONE, &[1])),
        ("after a crash, not flushed", join(1, 99), "page-cache", state(-1, NONE, NONE)),
        ("without a log dir", wiped(clean), "flush", state(-1, NONE, NONE)),
    ];
    for (why, request, durability, after) in cases {
        let mut image = brokers();
        add(&mut image, "alone", &state(1, &[1], NONE));
        add(&mut image, "eligible", &state(-1, NONE, &[1]));
        add(&mut image, "others", &state(1, &[1, 2, 3], NONE));
        ["alone", "eligible"].iter().for_each(|topic| set(&mut image, topic, "durability", durability));
        with(&mut image, |image, rules| join_broker(image, rules, &request, false)).unwrap();
        assert_eq!(now(&image, "alone"), after, "{why}");
        assert_eq!(now(&image, "eligible"), after, "{why}");
        assert_eq!(now(&image, "others"), state(2, &[2, 3], NONE), "{why}");
        let epoch = image.broker(1).unwrap().epoch;
        with(&mut image, |image, rules| unfence_broker(image, rules, 1, epoch, 101)).unwrap();
        let last = partition(&image, "alone");
        let erased = why == "without a log dir";
        assert_eq!(
            last.leader,
            if erased { -1 } else { 1 },
            "{why}: the last leader is the last resort, unless it lost all"
        );
        assert_eq!(last.recovering, after.2.is_empty() && !erased, "{why}");
    }
}

#[test]
fn a_registration_is_checked() {
    let mut image = brokers();
    image.apply(&MetadataRecord::Feature(crate::metadata::FeatureRecord { name: "f".into(), level: 2 }));
    let dirs = |log_dirs: Vec<Uuid>| {
        let mut request = join(7, 1);
        request.registration.log_dirs = log_dirs;
        request
    };
    let supports =
        |min_level, max_level| crate::metadata::FeatureRangeRecord { name: "f".into(), min_level, max_level };
    let cases = [
        (dirs(vec![]), Err(E::INVALID_REGISTRATION), "no log dir"),
        (dirs(vec![dir(50), dir(50)]), Err(E::INVALID_REGISTRATION), "one twice"),
        (dirs(vec![Uuid::ZERO]), Err(E::INVALID_REGISTRATION), "a reserved one"),
        (dirs(vec![dir(50), dir(12)]), Err(E::INVALID_REGISTRATION), "one of broker 2"),
        (JoinRequest { record_level: 0, ..join(7, 1) }, Err(E::UNSUPPORTED_VERSION), "it could not read the log"),
        (join(7, 1), Err(E::UNSUPPORTED_VERSION), "it does not know a feature that is in use"),
        (JoinRequest { features: vec![supports(0, 1)], ..join(7, 1) }, Err(E::UNSUPPORTED_VERSION), "or not its level"),
        (JoinRequest { features: vec![supports(0, 2)], ..join(7, 1) }, Ok(100), "it fits"),
    ];
    for (request, expected, why) in cases {
        assert_eq!(with(&mut image, |image, rules| join_broker(image, rules, &request, false)), expected, "{why}");
    }
}

#[test]
fn replicas_of_a_failed_log_dir_get_new_leaders() {
    let mut image = brokers();
    add(&mut image, "hit", &state(1, &[1, 2, 3], NONE));
    add(&mut image, "spared", &state(1, &[1, 2, 3], NONE));
    add(&mut image, "unknown", &state(1, &[1, 2, 3], NONE));
    for (topic, log_dir) in [("hit", dir(11)), ("spared", dir(21))] {
        let replica = partition(&image, topic).id();
        with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, replica, log_dir)).unwrap();
    }
    with(&mut image, |image, rules| fail_directories(image, rules, 1, 11, &[dir(11), dir(99)])).unwrap();
    assert_eq!(now(&image, "hit"), state(2, &[2, 3], NONE));
    assert_eq!(now(&image, "spared"), state(1, &[1, 2, 3], NONE));
    assert_eq!(now(&image, "unknown"), state(1, &[1, 2, 3], NONE));
    assert_eq!(image.broker(1).unwrap().log_dirs, [dir(21)]);
    let replica = partition(&image, "unknown").id();
    with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, replica, dir(11))).unwrap();
    assert_eq!(now(&image, "unknown"), state(2, &[2, 3], NONE), "it turns out to lie in the failed one");
    for topic in ["hit", "unknown"] {
        let replica = partition(&image, topic).id();
        with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, replica, dir(21))).unwrap();
        assert_eq!(partition(&image, topic).directory(1), dir(21), "moved to the one that works");
    }
    let elsewhere = crate::metadata::PartitionId { partition: 5, ..replica };
    let refused = with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, elsewhere, dir(21)));
    assert_eq!(refused, Err(E::UNKNOWN_TOPIC_OR_PARTITION));
}

#[test]
fn a_broker_without_any_log_dir_that_works_leads_nothing() {
    let mut image = brokers();
    add(&mut image, "unknown", &state(1, &[1, 2, 3], NONE));
    with(&mut image, |image, rules| fail_directories(image, rules, 1, 11, &[dir(11)])).unwrap();
    assert_eq!(now(&image, "unknown"), state(1, &[1, 2, 3], NONE), "it may be in the other one");
    with(&mut image, |image, rules| fail_directories(image, rules, 1, 11, &[dir(21)])).unwrap();
    assert_eq!(now(&image, "unknown"), state(2, &[2, 3], NONE));
    let found = partition(&image, "unknown");
    assert_eq!(found.directory(1), dir(21));
    assert!(!is_online(&image, found, 1) && is_online(&image, found, 2));
    assert!(!elections::is_available(&image, found, 1));
}

#[test]
fn a_replica_that_begins_again_in_another_log_dir_holds_nothing() {
    let mut image = brokers();
    add(&mut image, "t", &state(1, &[1], NONE));
    let replica = partition(&image, "t").id();
    with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, replica, dir(11))).unwrap();
    with(&mut image, |image, rules| fail_directories(image, rules, 1, 11, &[dir(11)])).unwrap();
    assert_eq!(now(&image, "t"), state(-1, NONE, &[1]), "what it has may come back with its disk");
    with(&mut image, |image, rules| assign_directory(image, rules, 1, 11, replica, dir(21))).unwrap();
    assert_eq!(now(&image, "t"), state(-1, NONE, NONE), "a new log has none of it");
}
