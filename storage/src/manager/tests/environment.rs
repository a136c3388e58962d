//! A manager's use of its environment, which it shares with no other manager.

use std::time::Duration;

use super::*;
use crate::{Env, MachineEnv, io::OsDisk, test_support::ManualEnv};

fn open_in(env: &Arc<ManualEnv>, dir: &Path) -> LogManager {
    let env: Arc<dyn Env> = Arc::<ManualEnv>::clone(env);
    LogManager::open_in(env, Arc::new(OsDisk), LogManagerConfig { load_threads: 1, ..config(&[dir]) }, NOW).unwrap()
}

fn folders(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut folders: Vec<String> = names.filter(|name| dir.join(name).is_dir()).collect();
    folders.sort_unstable();
    folders
}

#[test]
fn without_threads_deleted_files_go_when_the_owner_says() {
    let (dir, env) = (tempfile::tempdir().unwrap(), Arc::new(ManualEnv::default()));
    let manager = open_in(&env, dir.path());
    let delayed = LogConfig { file_delete_delay_ms: 60_000, ..LogConfig::default() };
    for (topic, delay_ms) in [("now", 0), ("later", 60_000)] {
        let config = LogConfig { file_delete_delay_ms: delay_ms, ..delayed.clone() };
        manager.create(topic, 0, Uuid([3; 16]), config, NOW).unwrap();
        manager.delete(topic, 0).unwrap();
    }
    assert_eq!(folders(dir.path()).len(), 2, "nothing goes by itself");
    manager.reap_due();
    let left = folders(dir.path());
    assert!(left.len() == 1 && left[0].starts_with("later-0."), "{left:?}");
    env.sleep(Duration::from_millis(59_999));
    manager.reap_due();
    assert_eq!(folders(dir.path()), left);
    env.sleep(Duration::from_millis(1));
    manager.reap_due();
    assert!(folders(dir.path()).is_empty());
}

/// The same randomness gives the same ids and names.
#[test]
fn ids_and_names_come_from_the_environment() {
    let run = || {
        let (dir, env) = (tempfile::tempdir().unwrap(), Arc::new(ManualEnv::default()));
        let manager = open_in(&env, dir.path());
        for topic in ["a", "b"] {
            manager.create(topic, 0, Uuid([3; 16]), LogConfig::default(), NOW).unwrap();
        }
        manager.delete("a", 0).unwrap();
        manager.rename_to_stray("b", 0).unwrap();
        (manager.cluster_id().to_owned(), manager.dirs()[0].directory_id, folders(dir.path()))
    };
    let (first, second) = (run(), run());
    assert_eq!(first, second);
    assert!(first.0 != first.1.to_string() && first.2.len() == 2, "{first:?}");
}

#[test]
fn each_manager_counts_its_own_maps() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = dirs.each_ref().map(|dir| open(&[dir.path()]));
    let log = one.create("t", 0, random_uuid(), LogConfig::default(), NOW).unwrap();
    append(&log, b"x").unwrap();
    let read = log.read(0, 1000, i64::MAX, true).unwrap();
    assert_eq!((one.open_maps(), other.open_maps()), (1, 0));
    drop((log, one));
    assert!(!read.records.is_empty(), "a slice outlives its manager, and so does its map");
    assert_eq!(other.open_maps(), 0);
}

/// The machine's clock advances, and is separate for each manager.
#[test]
fn the_machine_has_threads_and_a_clock() {
    let env = MachineEnv::default();
    let before = env.now();
    env.sleep(Duration::from_millis(1));
    assert!(env.now() >= before + Duration::from_millis(1) && env.has_threads());
    assert_ne!(env.random(), env.random());
    let thread = env.spawn("name", None, Box::new(|| assert_eq!(std::thread::current().name(), Some("name")))).unwrap();
    thread.join().unwrap();
}
