use std::{fs, path::Path};

use bytes::Bytes;
use esker_protocol::{compression::Compression, records::Batch};

use super::*;
use crate::checkpoints::Checkpoints;
use crate::{
    AppendBatch, AppendError, Origin, ReadError,
    test_support::{batch, random_uuid},
};

mod environment;
mod log_starts;
mod recreated;

const NOW: i64 = 1_700_000_000_000;

fn config(dirs: &[&Path]) -> LogManagerConfig {
    LogManagerConfig {
        dirs: dirs.iter().map(|dir| dir.to_path_buf()).collect(),
        node_id: 1,
        cluster_id: None,
        load_threads: 0,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: LogConfig::default(),
        progress: std::sync::Arc::default(),
    }
}

fn open(dirs: &[&Path]) -> LogManager {
    LogManager::open(config(dirs), NOW).unwrap()
}

fn create(manager: &LogManager, topic: &str, partition: i32) -> Arc<Log> {
    manager.create(topic, partition, random_uuid(), LogConfig::default(), NOW).unwrap()
}

fn append(log: &Log, value: &[u8]) -> Result<i64, AppendError> {
    append_in(log, value, 0)
}

fn append_in(log: &Log, value: &[u8], leader_epoch: i32) -> Result<i64, AppendError> {
    let (batch, _) = Batch::parse(batch(Compression::None, &[(NOW, value)])).unwrap();
    let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
    Ok(log.append(append, Origin::Client { transaction_v2: false }, leader_epoch, NOW)?.base_offset)
}

fn read(log: &Log) -> Bytes {
    log.read(log.log_start_offset(), 1 << 20, i64::MAX, true).unwrap().records
}

#[test]
fn a_new_folder_is_formatted_and_known_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/data");
    let manager = open(&[&dir]);
    assert!(manager.was_clean());
    let cluster_id = manager.cluster_id().to_owned();
    assert_eq!(cluster_id.len(), 22);
    let meta = fs::read_to_string(dir.join("meta.properties")).unwrap();
    let directory_id = manager.dirs()[0].directory_id;
    assert_eq!(meta, format!("version=1\ncluster.id={cluster_id}\nnode.id=1\ndirectory.id={directory_id}\n"));
    assert!(manager.dirs()[0].total_bytes > 0 && manager.dirs()[0].usable_bytes > 0);
    let log = create(&manager, "a-topic", 3);
    append(&log, b"one").unwrap();
    append(&log, b"two").unwrap();
    log.advance_high_watermark(2);
    let before = read(&log);
    let metadata = fs::read_to_string(dir.join("a-topic-3/partition.metadata")).unwrap();
    assert_eq!(metadata, format!("version: 0\ntopic_id: {}", log.topic_id()));
    manager.shutdown_clean().unwrap();
    assert!(dir.join(".kafka_cleanshutdown").exists());
    assert!(matches!(append(&log, b"late"), Err(AppendError::Offline { .. })));
    let topic_id = log.topic_id();
    drop((manager, log));

    let manager = open(&[&dir]);
    assert!(manager.was_clean());
    assert!(!dir.join(".kafka_cleanshutdown").exists(), "gone while it runs");
    assert_eq!(manager.cluster_id(), cluster_id);
    assert_eq!(manager.dirs()[0].directory_id, directory_id);
    let log = manager.get("a-topic", 3).unwrap();
    assert_eq!((log.topic_id(), log.log_end_offset(), log.high_watermark(), log.recovery_point()), (topic_id, 2, 2, 2));
    assert_eq!(read(&log), before);
    assert_eq!(append(&log, b"three").unwrap(), 2);
    drop((manager, log));
    let manager = open(&[&dir]);
    assert!(!manager.was_clean());
    assert_eq!(manager.get("a-topic", 3).unwrap().log_end_offset(), 3);
}

#[test]
fn a_folder_belongs_to_one_process_cluster_and_node() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let message = LogManager::open(config(&[dir.path()]), NOW).unwrap_err().to_string();
    assert!(message.contains("in use by another process") && message.contains("--data-dir"), "{message}");
    drop(manager);
    let other = LogManagerConfig { node_id: 2, ..config(&[dir.path()]) };
    assert!(matches!(LogManager::open(other, NOW), Err(OpenError::NodeId { found: 1, expected: 2, .. })));
    let other = LogManagerConfig { cluster_id: Some("another".into()), ..config(&[dir.path()]) };
    assert!(matches!(LogManager::open(other, NOW), Err(OpenError::ClusterId { .. })));
    fs::write(dir.path().join("meta.properties"), "version=1\n").unwrap();
    assert!(matches!(LogManager::open(config(&[dir.path()]), NOW), Err(OpenError::Malformed { .. })));
}

#[test]
fn metadata_of_a_kafka_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let id = random_uuid();
    let text =
        format!("#\n#Mon Nov 23 16:00:00 UTC 2026\nnode.id=1\ndirectory.id={id}\nversion=1\ncluster.id=abc\\=\n");
    fs::write(dir.path().join("meta.properties"), text).unwrap();
    let manager = open(&[dir.path()]);
    assert_eq!((manager.cluster_id(), manager.dirs()[0].directory_id), ("abc=", id));
}

#[test]
fn deleted_logs_are_removed_and_may_be_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let at_once = LogConfig { file_delete_delay_ms: 0, ..LogConfig::default() };
    let log = manager.create("t", 0, random_uuid(), at_once, NOW).unwrap();
    append(&log, b"old").unwrap();
    let slice = read(&log);
    assert!(matches!(
        manager.create("t", 0, random_uuid(), LogConfig::default(), NOW),
        Err(LogError::TopicIdMismatch { .. })
    ));
    assert!(Arc::ptr_eq(&manager.create("t", 0, log.topic_id(), LogConfig::default(), NOW).unwrap(), &log));
    manager.delete("t", 0).unwrap();
    assert!(matches!(manager.delete("t", 0), Err(LogError::Unknown { .. })));
    assert!(manager.get("t", 0).is_none());
    assert!(append(&log, b"x").is_err());
    assert!(matches!(log.read(0, 1, 1, true), Err(ReadError::Closed)));
    assert!(log.flush().is_ok() || !manager.dirs()[0].offline, "a deleted log is no broken disk");
    let again = create(&manager, "t", 0);
    assert_eq!(append(&again, b"new").unwrap(), 0);
    assert!(!slice.is_empty() && slice != read(&again), "a slice outlives its log");
    manager.shutdown_clean().unwrap();
    assert!(!manager.dirs()[0].offline);
    let left: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.ends_with("-delete")), "{left:?}");
    drop((manager, again));
    // The next start removes the leftovers of a crash.
    fs::create_dir(dir.path().join("t-9.0123456789abcdef0123456789abcdef-delete")).unwrap();
    let manager = open(&[dir.path()]);
    assert_eq!(manager.logs().len(), 1);
    manager.reaper.finish();
    assert_eq!(fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(), 1);
}

/// Names in a folder with this suffix.
fn names(dir: &Path, end: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

#[test]
fn deleted_files_are_removed_after_the_delay() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let config = |file_delete_delay_ms| LogConfig {
        segment_bytes: 2000,
        retention_bytes: 1,
        file_delete_delay_ms,
        ..LogConfig::default()
    };
    let log = manager.create("t", 0, random_uuid(), config(60_000_000), NOW).unwrap();
    let fill = || {
        (0..40).for_each(|_| assert!(append(&log, &[1; 200]).is_ok()));
        log.advance_high_watermark(i64::MAX);
        manager.retention_pass(NOW).segments
    };
    let first = fill();
    assert!(first > 2);
    assert_eq!(names(log.dir(), ".log.deleted").len(), first, "segments wait under another name");
    // From now on another delay applies; pending removals keep their own.
    manager.update_config("t", config(1));
    fill();
    let began = std::time::Instant::now();
    while names(log.dir(), ".log.deleted").len() > first {
        assert!(began.elapsed().as_secs() < 60, "{:?}", names(log.dir(), ".log.deleted"));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(names(log.dir(), ".log.deleted").len(), first);
    manager.update_config("t", config(60_000_000));
    manager.delete("t", 0).unwrap();
    assert_eq!(names(dir.path(), "-delete").len(), 1);
    let again = create(&manager, "t", 0);
    append(&again, b"new").unwrap();
    manager.shutdown_clean().unwrap();
    assert_eq!(names(dir.path(), "-delete").len(), 1, "a stop does not wait for a delay");
    drop((manager, log, again));
    let manager = open(&[dir.path()]);
    manager.reaper.finish();
    assert_eq!(names(dir.path(), "-delete").len(), 0, "nor does a start");
    assert_eq!(manager.get("t", 0).unwrap().log_end_offset(), 1);
}

#[test]
fn no_new_replicas_in_a_cordoned_dir() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manager = open(&[a.path(), b.path()]);
    let cordon = |dirs: &[&Path]| manager.cordon(dirs.iter().map(|dir| dir.to_path_buf()).collect());
    cordon(&[a.path()]);
    for partition in 0..4 {
        assert_eq!(create(&manager, "t", partition).log_dir(), b.path());
    }
    assert_eq!(manager.dirs().iter().map(|dir| dir.cordoned).collect::<Vec<_>>(), [true, false]);
    cordon(&[a.path(), b.path()]);
    let refused = manager.create("t", 4, random_uuid(), LogConfig::default(), NOW);
    assert!(matches!(refused, Err(LogError::Offline { .. })));
    cordon(&[]);
    assert_eq!(create(&manager, "t", 4).log_dir(), a.path());
}

#[test]
fn a_preallocated_segment_takes_its_room_at_once() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let taken = |partition, preallocate| {
        let config = LogConfig { segment_bytes: 4 << 20, preallocate, ..LogConfig::default() };
        let log = manager.create("t", partition, random_uuid(), config, NOW).unwrap();
        append(&log, b"x").unwrap();
        let data = fs::metadata(log.dir().join("00000000000000000000.log")).unwrap();
        assert!(data.len() < 1000, "the length of the file stays the end of the data");
        data.blocks() * 512
    };
    let (as_needed, at_once) = (taken(0, false), taken(1, true));
    // A file system that cannot reserve shows neither.
    assert!(at_once >= 4 << 20 || as_needed < 64 << 10, "{as_needed}, {at_once}");
    assert!(as_needed < 1 << 20);
}

#[test]
fn checkpoints_bound_what_a_crash_costs() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let log = create(&manager, "t", 0);
    for i in 0..10u8 {
        append(&log, &[i; 100]).unwrap();
    }
    log.advance_high_watermark(8);
    log.advance_log_start(3).unwrap();
    log.flush().unwrap();
    manager.flush_checkpoints().unwrap();
    for (name, offset) in [
        ("recovery-point-offset-checkpoint", 10),
        ("log-start-offset-checkpoint", 3),
        ("replication-offset-checkpoint", 8),
    ] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), format!("0\n1\nt 0 {offset}\n"));
    }
    append(&log, b"after").unwrap();
    drop((manager, log));
    let manager = open(&[dir.path()]);
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_start_offset(), log.high_watermark(), log.log_end_offset()), (3, 8, 11));
    assert_eq!(log.recovery_point(), 10);
    // Checkpoints are not trusted blindly.
    drop((manager, log));
    fs::write(dir.path().join("recovery-point-offset-checkpoint"), "rubbish").unwrap();
    fs::write(dir.path().join("replication-offset-checkpoint"), "0\n1\nt 0 99\n").unwrap();
    let manager = open(&[dir.path()]);
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.recovery_point(), log.high_watermark(), log.log_end_offset()), (0, 11, 11));
}

#[test]
fn several_dirs_share_the_logs() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manager = open(&[one.path(), two.path()]);
    assert_ne!(manager.dirs()[0].directory_id, manager.dirs()[1].directory_id);
    for partition in 0..6 {
        create(&manager, "t", partition);
    }
    let in_one = manager.logs().iter().filter(|log| log.log_dir() == one.path()).count();
    assert_eq!(in_one, 3);
    manager.update_config("t", LogConfig { retention_ms: 5, ..LogConfig::default() });
    assert!(manager.logs().iter().all(|log| log.config().retention_ms == 5));
    manager.shutdown_clean().unwrap();
    drop(manager);
    assert_eq!(open(&[one.path(), two.path()]).logs().len(), 6);
    let name =
        fs::read_dir(one.path()).unwrap().find(|e| e.as_ref().unwrap().path().is_dir()).unwrap().unwrap().file_name();
    fs::create_dir(two.path().join(name)).unwrap();
    assert!(matches!(LogManager::open(config(&[one.path(), two.path()]), NOW), Err(OpenError::Duplicate { .. })));
}

#[test]
fn many_logs_are_synced_together() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    for partition in 0..50 {
        append(&create(&manager, "many", partition), b"value").unwrap();
    }
    manager.shutdown_clean().unwrap();
    drop(manager);
    let manager = open(&[dir.path()]);
    assert!(manager.was_clean());
    assert!(manager.logs().iter().all(|log| log.log_end_offset() == 1 && log.recovery_point() == 1));
    assert!(fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint")).unwrap().contains("many 7 1\n"));
}

#[test]
fn a_move_leaves_one_folder_wherever_it_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let folders = || {
        let named = |dir: &Path| {
            let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("t-")).collect::<Vec<_>>()
        };
        (named(&one), named(&two))
    };
    let manager = open(&[&one, &two]);
    let log = create(&manager, "t", 0);
    for value in 0..50u8 {
        append(&log, &[value; 3000]).unwrap();
    }
    log.advance_high_watermark(40);
    log.advance_log_start(5).unwrap();
    let before = read(&log);
    let (from, to) = if log.log_dir() == one { (&one, &two) } else { (&two, &one) };
    assert!(manager.begin_move("t", 0, from).unwrap().is_none(), "it is there already");
    // Interrupted while it is copied: the destination folder is removed, and the move is reported.
    let mut moving = manager.begin_move("t", 0, to).unwrap().unwrap();
    moving.copy().unwrap();
    assert_eq!(moving.bytes_behind(), 0);
    drop(moving);
    manager.shutdown_clean().unwrap();
    drop(manager);
    let manager = open(&[&one, &two]);
    assert_eq!(manager.unfinished_moves(), [(log.topic_id(), 0, to.to_path_buf())]);
    assert!(manager.unfinished_moves().is_empty(), "reported once");
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_dir(), read(&log)), (from.as_path(), before.clone()));
    // Done: the new log is the old one.
    let mut moving = manager.begin_move("t", 0, to).unwrap().unwrap();
    moving.copy().unwrap();
    append(&log, b"late").unwrap();
    let moved = manager.finish_move(&mut moving, NOW, |_| {}).unwrap();
    assert!(append(&log, b"too late").is_err(), "the old log takes nothing any more");
    let facts = |log: &Log| (log.log_start_offset(), log.log_end_offset(), log.high_watermark(), log.recovery_point());
    assert_eq!((moved.log_dir(), facts(&moved)), (to.as_path(), (5, 51, 40, 51)));
    assert!(read(&moved).starts_with(&before));
    append(&moved, b"next").unwrap();
    manager.shutdown_clean().unwrap();
    drop(manager);
    // Interrupted between the two renames: both folders exist, and the one with the moved marker is removed.
    let copy = from.join("t-0");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(to.join("t-0")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let open_both = || LogManager::open(config(&[&one, &two]), NOW);
    assert!(matches!(open_both(), Err(OpenError::Duplicate { .. })), "neither has the moved marker");
    fs::write(copy.join(".moved"), b"").unwrap();
    let manager = open_both().unwrap();
    let log = manager.get("t", 0).unwrap();
    assert_eq!((log.log_dir(), log.log_end_offset()), (to.as_path(), 52));
    manager.shutdown_clean().unwrap();
    let (a, b) = folders();
    assert_eq!((a.len() + b.len(), a.iter().chain(&b).next().map(String::as_str)), (1, Some("t-0")));
}

#[test]
fn a_stray_log_is_renamed_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    let log = create(&manager, "t", 0);
    append(&log, b"from elsewhere").unwrap();
    let folder = manager.rename_to_stray("t", 0).unwrap();
    assert!(folder.to_str().unwrap().ends_with("-stray"));
    assert!(fs::metadata(folder.join("00000000000000000000.log")).unwrap().len() > 0);
    assert!(manager.get("t", 0).is_none() && append(&log, b"x").is_err());
    assert_eq!(append(&create(&manager, "t", 0), b"new").unwrap(), 0);
    manager.shutdown_clean().unwrap();
    drop((manager, log));
    // The next start ignores the folder, and renaming it back restores the log.
    assert_eq!(open(&[dir.path()]).logs().len(), 1);
    fs::rename(&folder, dir.path().join("t-1")).unwrap();
    let manager = open(&[dir.path()]);
    assert!(!read(&manager.get("t", 1).unwrap()).is_empty());
}

#[test]
fn an_empty_log_has_index_files_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path()]);
    create(&manager, "t", 0);
    manager.shutdown_clean().unwrap();
    for suffix in ["index", "timeindex"] {
        let path = dir.path().join(format!("t-0/00000000000000000000.{suffix}"));
        assert_eq!(fs::metadata(path).unwrap().len(), 0, "Kafka takes the log for damaged without them");
    }
}
