//! Node ids and who gets them.

use super::*;
use crate::metadata::{BrokerRecord, LevelRecord, PartitionRecord, TopicRecord};
use ErrorCode as E;

fn dir(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

fn cluster() -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::newest_level());
    image
}

fn run(image: &mut MetadataImage, request: impl ControllerRequest) -> Reply {
    let Decision { records, reply } = decide(image, &request.into_request());
    let bytes = MetadataRecord::encode_all(&records, image.level()).unwrap();
    MetadataRecord::decode_all(bytes).unwrap().iter().for_each(|record| image.apply(record));
    reply
}

fn allocate(image: &mut MetadataImage, wanted: Option<i32>, directory: u8) -> Result<i32, Refusal> {
    AllocateNodeId::from_reply(run(image, AllocateNodeId { wanted, directory: dir(directory), abandoned: Vec::new() }))
        .unwrap()
}

fn join(node_id: i32, directory: u8, incarnation: u8) -> JoinBroker {
    let log_dirs = vec![dir(directory), dir(directory + 100)];
    let registration = Registration {
        node_id,
        incarnation: dir(incarnation),
        listeners: vec![],
        rack: None,
        log_dirs,
        cordoned_log_dirs: vec![],
    };
    JoinBroker {
        join: JoinRequest { registration, features: vec![], record_level: RecordLevel::NEWEST.0, previous_epoch: -1 },
        directory: dir(directory),
        configs: NodeConfigs { node_id, statics: Default::default() },
        alive: false,
    }
}

fn joined(image: &mut MetadataImage, request: JoinBroker) -> Result<i64, Refusal> {
    JoinBroker::from_reply(run(image, request)).unwrap()
}

#[test]
fn ids_are_allocated_once_for_each_folder() {
    let mut image = cluster();
    let cases = [
        (None, 1, Ok(1), "the first"),
        (None, 1, Ok(1), "asked again"),
        (Some(1), 1, Ok(1), "with the id that it has"),
        (Some(2), 1, Err(E::DUPLICATE_BROKER_REGISTRATION), "another id than it has"),
        (None, 2, Ok(2), "the next"),
        (Some(7), 3, Ok(7), "configured"),
        (Some(7), 4, Err(E::DUPLICATE_BROKER_REGISTRATION), "of another folder"),
        (None, 4, Ok(8), "above those that are reserved"),
        (Some(0), 5, Ok(0), "zero is an id"),
        (Some(-1), 6, Err(E::INVALID_REQUEST), "less is none"),
        (None, 0, Err(E::INVALID_REQUEST), "no folder"),
        (Some(i32::MAX), 9, Ok(i32::MAX), "the last"),
        (None, 10, Err(E::INVALID_REQUEST), "and none is left"),
    ];
    for (wanted, directory, expected, why) in cases {
        let allocated = allocate(&mut image, wanted, directory).map_err(|refusal| refusal.code);
        assert_eq!(allocated, expected, "{why}");
    }
    let refused = allocate(&mut image, Some(7), 6).unwrap_err().message;
    assert!(refused.contains(&dir(3).to_string()) && refused.contains(&dir(6).to_string()), "{refused}");
    let mut restored = MetadataImage::default();
    crate::metadata::snapshot_records(&image).iter().for_each(|record| restored.apply(record));
    assert_eq!(restored, image);
}

/// Seen: the first node took its id 1 after another node had been given it.
#[test]
fn the_node_that_begins_a_cluster_has_its_id_before_others_get_theirs() {
    let mut image = cluster();
    assert!(!may_allocate_ids(&image, 1));
    assert_eq!(allocate(&mut image, Some(1), 1), Ok(1));
    assert!(may_allocate_ids(&image, 1) && !may_allocate_ids(&image, 2));
    assert_eq!(allocate(&mut image, None, 2), Ok(2));
}

#[test]
fn an_id_is_not_given_while_replicas_are_assigned_to_it() {
    let mut image = cluster();
    image.apply(&MetadataRecord::Topic(TopicRecord { name: "t".into(), id: dir(1) }));
    let partition = PartitionRecord { topic_id: dir(1), replicas: vec![5], ..PartitionRecord::default() };
    image.apply(&MetadataRecord::Partition(partition));
    assert_eq!(allocate(&mut image, None, 1), Ok(6));
}

#[test]
fn a_broker_joins_with_the_folder_that_has_its_id() {
    let mut image = cluster();
    assert_eq!(allocate(&mut image, None, 1), Ok(1));
    assert_eq!(joined(&mut image, join(1, 2, 1)).unwrap_err().code, E::DUPLICATE_BROKER_REGISTRATION);
    assert!(joined(&mut image, join(1, 1, 1)).is_ok());
    assert!(joined(&mut image, join(3, 3, 3)).is_ok(), "with an id of its own choice");
    assert_eq!(image.reservation(3), Some(dir(3)), "which is its own from then on");
    let no_folder = JoinBroker { directory: Uuid::ZERO, ..join(4, 4, 4) };
    assert_eq!(joined(&mut image, no_folder).unwrap_err().code, E::INVALID_REQUEST);
    let mut again = join(1, 1, 9).into_request();
    again.set_alive(|node_id| node_id == 1);
    let refused = JoinBroker::from_reply(decide(&image, &again).reply).unwrap();
    assert_eq!(refused.unwrap_err().code, E::DUPLICATE_BROKER_REGISTRATION, "its incarnation has a session");
    again.set_alive(|_| false);
    assert!(JoinBroker::from_reply(decide(&image, &again).reply).unwrap().is_ok());
}

/// One of many folders.
fn folder(number: usize) -> Uuid {
    let mut id = [0xf; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    Uuid(id)
}

#[test]
fn nodes_that_never_register_are_bounded() {
    let mut image = cluster();
    let ask = |image: &mut MetadataImage, number, abandoned: &[(i32, Uuid)]| {
        let request = AllocateNodeId { wanted: None, directory: folder(number), abandoned: abandoned.to_vec() };
        AllocateNodeId::from_reply(run(image, request)).unwrap()
    };
    joined(&mut image, join(1, 1, 1)).unwrap();
    for number in 0..MAX_UNREGISTERED {
        let id = number as i32 + 2;
        // Nobody is given up while there is room.
        assert_eq!(ask(&mut image, number, &[(2, folder(0)), (1, dir(1))]), Ok(id), "{number}");
    }
    let refused = ask(&mut image, 100, &[]).unwrap_err();
    assert_eq!(refused.code, E::POLICY_VIOLATION);
    assert!(refused.message.contains("unregister") && refused.message.contains("64"), "{}", refused.message);
    assert_eq!(ask(&mut image, 5, &[]), Ok(7), "a node that has an id keeps it");
    assert!(joined(&mut image, join(1, 1, 2)).is_ok(), "those that are registered go on");
    // A registered broker, another folder, and an id that is not reserved are not given up.
    let others = [(1, dir(1)), (3, folder(77)), (500, folder(1))];
    assert_eq!(ask(&mut image, 100, &others).unwrap_err().code, E::POLICY_VIOLATION);
    let abandoned = [(4, folder(2)), (3, folder(1))];
    assert_eq!(ask(&mut image, 100, &[&others[..], &abandoned].concat()), Ok(MAX_UNREGISTERED as i32 + 2));
    assert_eq!((image.reservation(4), image.reservation(3)), (None, Some(folder(1))), "the oldest alone");
    assert_eq!(ask(&mut image, 2, &[]).unwrap_err().code, E::POLICY_VIOLATION, "which comes too late");
}

#[test]
fn a_cluster_has_a_bound_of_nodes() {
    let mut image = cluster();
    for node_id in 1..=MAX_NODES as i32 {
        image.apply(&MetadataRecord::Broker(BrokerRecord { node_id, ..BrokerRecord::default() }));
    }
    let refused = allocate(&mut image, None, 1).unwrap_err();
    assert_eq!(refused.code, E::POLICY_VIOLATION);
    assert!(refused.message.contains("1000") && refused.message.contains("Unregister"), "{}", refused.message);
}

#[test]
fn an_unregistered_broker_gives_its_id_back() {
    let mut image = cluster();
    let configs = NodeConfigs { node_id: 1, statics: Default::default() };
    allocate(&mut image, None, 1).unwrap();
    joined(&mut image, join(1, 1, 1)).unwrap();
    allocate(&mut image, None, 2).unwrap();
    for node_id in [1, 2] {
        let request = UnregisterBroker { node_id, configs: configs.clone() };
        assert_eq!(run(&mut image, request.clone()), Reply::UnregisterBroker(Ok(())), "registered or not");
        assert_eq!(image.reservation(node_id), None);
        let Reply::UnregisterBroker(Err(again)) = run(&mut image, request) else { panic!("it is gone") };
        assert_eq!(again.code, E::BROKER_ID_NOT_REGISTERED);
    }
    assert_eq!(allocate(&mut image, Some(1), 9), Ok(1), "a new disk");
}

/// A cluster of one that an older version made: its broker has no reservation.
#[test]
fn a_broker_from_before_reservations_is_known_by_its_log_dirs() {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::Level(LevelRecord { level: 1, software: "0.1.0".into() }));
    let log_dirs = vec![dir(1), dir(101)];
    image.apply(&MetadataRecord::Broker(BrokerRecord { node_id: 1, log_dirs, record_level: 2, ..Default::default() }));
    assert_eq!(allocate(&mut image, None, 1), Ok(1));
    assert_eq!(allocate(&mut image, Some(1), 2).unwrap_err().code, E::DUPLICATE_BROKER_REGISTRATION);
    assert_eq!(allocate(&mut image, None, 2).unwrap_err().code, E::UNSUPPORTED_VERSION, "finalize the update first");
    assert!(joined(&mut image, join(1, 1, 1)).is_ok());
    assert_eq!(image.reservation(1), None);
    image.apply(&MetadataRecord::newest_level());
    let elsewhere = JoinBroker { directory: dir(50), ..join(1, 1, 2) };
    assert!(joined(&mut image, elsewhere).is_ok(), "its metadata folder is none of its log dirs");
    assert_eq!(image.reservation(1), Some(dir(50)));
    assert_eq!(allocate(&mut image, None, 50), Ok(1));
}

#[test]
fn a_removed_voter_stays_removed() {
    let mut image = cluster();
    let remove = RemoveVoterIdentity { node_id: 3, directory: dir(3) };
    assert_eq!(run(&mut image, remove), Reply::RemoveVoterIdentity(Ok(())));
    assert!(image.is_removed_voter(dir(3)) && !image.is_removed_voter(dir(4)));
    assert!(decide(&image, &remove.into_request()).records.is_empty(), "once");
    let mut restored = MetadataImage::default();
    crate::metadata::snapshot_records(&image).iter().for_each(|record| restored.apply(record));
    assert!(restored.is_removed_voter(dir(3)));
    for _ in 0..2 {
        assert_eq!(run(&mut image, ForgetRemovedVoter { directory: dir(3) }), Reply::ForgetRemovedVoter(Ok(())));
        assert!(!image.is_removed_voter(dir(3)));
    }
}

#[test]
fn a_new_cluster_is_at_the_newest_level() {
    let mut image = MetadataImage::default();
    run(&mut image, InitializeFeatures);
    assert_eq!(image.level(), RecordLevel::NEWEST);
    assert_eq!(allocate(&mut image, None, 1), Ok(1));
}
