//! What is written, at which level, and what is refused.

use esker_protocol::primitives::Uuid;

use super::*;
use crate::metadata::{FeatureRangeRecord, ListenerRecord, MetadataImage};

const LEVEL: RecordLevel = RecordLevel::NEWEST;

/// One record of each type, every field set.
fn samples() -> Vec<MetadataRecord> {
    [samples_of_level_1(), samples_of_level_2()].concat()
}

fn samples_of_level_2() -> Vec<MetadataRecord> {
    let directory = Uuid([8; 16]);
    vec![
        MetadataRecord::NodeReservation(NodeReservationRecord { node_id: 1, directory }),
        MetadataRecord::RemovedVoter(RemovedVoterRecord { node_id: 1, directory, forgotten: true }),
    ]
}

fn samples_of_level_3() -> Vec<MetadataRecord> {
    let dir = Uuid([8; 16]);
    let broker = BrokerRecord { node_id: 1, log_dirs: vec![dir], cordoned_log_dirs: vec![dir], ..Default::default() };
    vec![MetadataRecord::Broker(broker)]
}

fn samples_of_level_1() -> Vec<MetadataRecord> {
    let (topic_id, dir) = (Uuid([7; 16]), Uuid([8; 16]));
    vec![
        MetadataRecord::Level(LevelRecord { level: 1, software: "0.1.0".into() }),
        MetadataRecord::Broker(BrokerRecord {
            node_id: 1,
            epoch: 2,
            incarnation: Uuid([3; 16]),
            listeners: vec![ListenerRecord { name: "P".into(), host: "h".into(), port: 9092 }],
            rack: Some("r".into()),
            log_dirs: vec![dir],
            fenced: true,
            in_controlled_shutdown: true,
            features: vec![FeatureRangeRecord { name: "f".into(), min_level: 0, max_level: 2 }],
            record_level: 1,
            cordoned_log_dirs: vec![],
        }),
        MetadataRecord::BrokerChange(BrokerChangeRecord {
            node_id: 1,
            epoch: 2,
            fenced: -1,
            in_controlled_shutdown: true,
            log_dirs: Some(vec![]),
        }),
        MetadataRecord::UnregisterBroker(UnregisterBrokerRecord { node_id: 1, epoch: 2 }),
        MetadataRecord::Topic(TopicRecord { name: "t".into(), id: topic_id }),
        MetadataRecord::RemoveTopic(RemoveTopicRecord { id: topic_id }),
        MetadataRecord::Partition(PartitionRecord {
            topic_id,
            partition: 1,
            replicas: vec![1, 2],
            isr: vec![1],
            leader: 1,
            leader_epoch: 5,
            partition_epoch: 6,
            elr: vec![2],
            last_known_elr: vec![3],
            adding: vec![2],
            removing: vec![1],
            directories: vec![dir],
            recovering: true,
        }),
        MetadataRecord::PartitionChange(PartitionChangeRecord {
            topic_id,
            partition: 1,
            isr: Some(vec![2]),
            leader: -1,
            replicas: Some(vec![2, 1]),
            removing: Some(vec![]),
            adding: Some(vec![1]),
            recovering: 1,
            elr: Some(vec![1]),
            last_known_elr: Some(vec![2]),
            directories: Some(vec![dir]),
        }),
        MetadataRecord::Config(ConfigRecord {
            resource_type: 2,
            resource_name: "t".into(),
            name: "c".into(),
            value: None,
        }),
        MetadataRecord::Feature(FeatureRecord { name: "f".into(), level: 1 }),
        MetadataRecord::ProducerIds(ProducerIdsRecord { node_id: 1, next: 1000 }),
        MetadataRecord::NewLeaderEpochs(NewLeaderEpochsRecord { node_id: 1 }),
    ]
}

fn hex(record: &MetadataRecord, level: i16) -> String {
    let bytes = MetadataRecord::encode_all(std::slice::from_ref(record), RecordLevel(level)).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn there_and_back() {
    for samples in [samples(), samples_of_level_3()] {
        let bytes = MetadataRecord::encode_all(&samples, LEVEL).unwrap();
        assert_eq!(MetadataRecord::decode_all(bytes).unwrap(), samples);
    }
    let defaults = [MetadataRecord::PartitionChange(PartitionChangeRecord::default())];
    let bytes = MetadataRecord::encode_all(&defaults, LEVEL).unwrap();
    assert_eq!(MetadataRecord::decode_all(bytes).unwrap(), defaults);
}

/// They lie on disks: a change of any of them is a new version of the record at a new level.
#[test]
fn bytes_on_disk_do_not_change() {
    let levels = [
        (1, include_str!("level-1.txt"), samples_of_level_1()),
        (2, include_str!("level-2.txt"), samples_of_level_2()),
        (3, include_str!("level-3.txt"), samples_of_level_3()),
    ];
    for (level, expected, samples) in levels {
        let written: Vec<String> = samples.iter().map(|sample| hex(sample, level)).collect();
        assert_eq!(written, expected.lines().collect::<Vec<_>>());
    }
}

/// A log that an older version of Esker wrote, and what a snapshot of it holds.
#[test]
fn a_log_of_level_1_is_read_and_continued() {
    let mut image = MetadataImage::default();
    for line in include_str!("level-1.txt").lines() {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
        MetadataRecord::decode_all(bytes.into()).unwrap().iter().for_each(|record| image.apply(record));
    }
    assert_eq!(image.level(), RecordLevel(1));
    let continued = MetadataRecord::encode_all(&crate::metadata::snapshot_records(&image), RecordLevel::NONE);
    assert!(continued.is_ok(), "nothing in it needs a later level");
    let later = MetadataRecord::encode_all(&samples_of_level_2(), image.level());
    assert!(matches!(later, Err(RecordEncodeError::AboveLevel { needed: 2, .. })));
}

/// A registration of before the level leaves them out; a field that is lost on the way would make images differ.
#[test]
fn cordoned_log_dirs_need_level_3() {
    for level in [1, 2] {
        let written = MetadataRecord::encode_all(&samples_of_level_3(), RecordLevel(level));
        assert!(matches!(written, Err(RecordEncodeError::Encode(_))), "{level}: {written:?}");
    }
}

#[test]
fn what_is_above_the_level_is_not_written() {
    let samples = samples();
    for record in &samples[1..] {
        let written = MetadataRecord::encode_all(std::slice::from_ref(record), RecordLevel::NONE);
        assert!(matches!(written, Err(RecordEncodeError::AboveLevel { needed: 1 | 2, .. })), "{record:?}");
    }
    let error = MetadataRecord::encode_all(&samples[1..], RecordLevel::NONE).unwrap_err();
    assert!(error.to_string().contains("needs record level 1, and the cluster is at 0"), "{error}");
    assert!(
        MetadataRecord::encode_all(&samples_of_level_1(), RecordLevel::NONE).is_ok(),
        "the level that comes first admits the rest"
    );
}

#[test]
fn the_version_is_the_newest_that_the_level_has() {
    let level = |level| version_at(9, &[1, 3, 4], RecordLevel(level)).map_err(|error| error.to_string());
    assert!(level(0).unwrap_err().contains("type 9 needs record level 1"));
    let versions = [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)];
    for (at, version) in versions {
        assert_eq!(level(at), Ok(version), "level {at}");
    }
}

#[test]
fn no_type_has_a_version_above_the_newest_level_or_out_of_order() {
    let mut kinds: Vec<u16> = Vec::new();
    for record in samples() {
        let (kind, levels) = record.kind();
        assert!(levels.is_sorted() && levels.iter().all(|level| *level <= LEVEL.0), "{record:?}");
        kinds.push(kind);
    }
    assert_eq!(kinds, MetadataRecord::KINDS, "a sample for every type");
    kinds.dedup();
    assert!(kinds.is_sorted() && kinds.len() == MetadataRecord::KINDS.len(), "each type once");
}

#[test]
fn a_later_level_names_the_version_that_wrote_it() {
    let later = MetadataRecord::Level(LevelRecord { level: LEVEL.0 + 1, software: "9.8.7".into() });
    let bytes = MetadataRecord::encode_all(&[later], RecordLevel::NONE).unwrap();
    let error = MetadataRecord::decode_all(bytes).unwrap_err();
    assert_eq!(error, RecordError::LaterLevel { level: LEVEL.0 + 1, software: "9.8.7".into() });
    let message = error.to_string();
    for part in ["written by Esker 9.8.7", SOFTWARE, "start Esker 9.8.7 or a later version"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_unknown_type_or_version_is_an_error() {
    let decode = |bytes: &'static [u8]| MetadataRecord::decode_all(Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(decode(&[0xff, 0xff, 0, 0]), RecordError::UnknownType(u16::MAX));
    assert_eq!(decode(&[0, 3, 0, 0, 1, 2, 3]), RecordError::UnknownType(3), "of a build before the first release");
    assert_eq!(decode(&[0, 14, 0, 1, 1]), RecordError::UnknownVersion { kind: 14, version: 1 });
    assert_eq!(decode(&[0, 14, 0xff, 0xff, 1]), RecordError::UnknownVersion { kind: 14, version: -1 });
    assert!(decode(&[0, 14, 0, 1]).to_string().contains("start the version that used this data folder last"));
    assert!(matches!(decode(&[0, 14, 0, 0]), RecordError::Decode(_)), "cut off");
}

#[test]
fn a_level_never_falls() {
    let mut image = MetadataImage::default();
    assert_eq!(image.level(), RecordLevel::NONE);
    image.apply(&MetadataRecord::newest_level());
    image.apply(&MetadataRecord::Level(LevelRecord { level: 0, software: "0.0.1".into() }));
    assert_eq!(image.level(), LEVEL);
}
