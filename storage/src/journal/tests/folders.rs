//! Journals in folders of their own (`log.journal.dir`).

use std::io;

use parking_lot::Mutex;

use super::*;
use crate::hooked::{Doing, HookedDisk, Hooks};

impl World {
    fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The journals lie in these folders from the next start on.
    fn place(&mut self, names: &[&str]) {
        self.journal_dirs = names.iter().map(|name| self.folder(name)).collect();
    }

    fn refusal(&self) -> String {
        self.try_open().err().map(|error| error.to_string()).expect("a start that is not refused")
    }

    /// Names of the journal's files in a folder.
    fn files_in(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder(name)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("esker-journal"));
        names.sort_unstable();
        names
    }
}

/// A log with one batch in its segment and one that only the journal has: the broker is killed, and the segment's tail is lost.
fn crash(world: &World) {
    let manager = world.open();
    let log = manager.get("t", 0).unwrap_or_else(|| create(&manager, "t"));
    log.flush().unwrap();
    keep_up(&manager);
    let size = world.size("t");
    append_durably(&log, b"journaled");
    drop((log, manager));
    world.lose_from("t", size);
}

fn end_of(manager: &LogManager) -> i64 {
    manager.get("t", 0).unwrap().log_end_offset()
}

#[test]
fn a_crash_is_recovered_from_the_journals_folder() {
    let mut world = World::new(1 << 20);
    world.place(&["j"]);
    crash(&world);
    assert_eq!(world.files_in("d0"), ["esker-journal.dir"]);
    assert_eq!(world.files_in("j"), ["esker-journal-0", "esker-journal.owner"]);
    assert_eq!(end_of(&world.open()), 2);
}

#[test]
fn after_a_crash_another_folder_is_refused_and_nothing_is_changed() {
    let mut world = World::new(1 << 20);
    world.place(&["j"]);
    crash(&world);
    let named = world.folder("j").display().to_string();
    for other in [&[][..], &["d0"], &["other"]] {
        world.place(other);
        let refusal = world.refusal();
        assert!(refusal.contains(&named) && refusal.contains("log.journal.dir"), "{other:?}: {refusal}");
        assert_eq!(world.files_in("j"), ["esker-journal-0", "esker-journal.owner"]);
    }
    // The folder is there, and its disk is not mounted.
    world.place(&["j"]);
    fs::rename(world.folder("j"), world.folder("elsewhere")).unwrap();
    assert!(world.refusal().contains("mount the disk"));
    assert!(!world.folder("j").exists());
    fs::create_dir(world.folder("j")).unwrap();
    assert!(world.refusal().contains("mount the disk"));
    // Mounted under another name it is the same folder.
    world.place(&["elsewhere"]);
    assert_eq!(end_of(&world.open()), 2);
}

/// The disk was missing at a start after a clean stop, and is back after a crash: what the start made in its place is hidden.
#[test]
fn a_folder_of_an_earlier_pair_is_refused() {
    let mut world = World::new(1 << 20);
    world.place(&["j"]);
    let manager = world.open();
    create(&manager, "t");
    manager.shutdown_clean().unwrap();
    drop(manager);
    fs::rename(world.folder("j"), world.folder("disk")).unwrap();
    crash(&world);
    fs::rename(world.folder("j"), world.folder("hidden")).unwrap();
    fs::rename(world.folder("disk"), world.folder("j")).unwrap();
    assert!(world.refusal().contains("the last stop was not clean"));
    world.place(&["hidden"]);
    assert_eq!(end_of(&world.open()), 2);
}

#[test]
fn after_a_clean_stop_the_journal_moves() {
    let mut world = World::new(1 << 20);
    let pointer = "esker-journal.dir";
    for (crashes, (folder, left)) in [("j", &[pointer][..]), ("k", &[pointer]), ("d0", &[])].into_iter().enumerate() {
        let manager = world.open();
        manager.get("t", 0).unwrap_or_else(|| create(&manager, "t"));
        keep_up(&manager);
        manager.shutdown_clean().unwrap();
        drop(manager);
        world.place(&[folder]);
        crash(&world);
        assert!(world.files_in(folder).iter().any(|name| name == "esker-journal-0"), "{folder}");
        let others = ["d0", "j", "k"].into_iter().filter(|other| *other != folder);
        assert_eq!(others.flat_map(|other| world.files_in(other)).collect::<Vec<_>>(), left, "{folder}");
        // One batch, and one that each crash left to the journal.
        assert_eq!(end_of(&world.open()), 2 + crashes as i64, "{folder}");
    }
}

#[test]
fn a_crash_before_the_folder_is_configured_is_recovered_first() {
    let mut world = World::new(1 << 20);
    crash(&world);
    world.place(&["j"]);
    assert!(world.refusal().contains("start without log.journal.dir"));
    world.place(&[]);
    let manager = world.open();
    assert_eq!(end_of(&manager), 2);
    manager.shutdown_clean().unwrap();
    drop(manager);
    world.place(&["j"]);
    drop(world.open());
    assert_eq!(world.files_in("d0"), ["esker-journal.dir"]);
}

#[test]
fn each_log_dir_has_a_folder_of_its_own() {
    let mut world = World::new(1 << 20);
    world.dirs = 2;
    world.place(&["j", "k"]);
    world.open().shutdown_clean().unwrap();
    world.place(&["k", "j"]);
    let refusal = world.refusal();
    assert!(refusal.contains("holds the journal of another log dir") && refusal.contains("directory.id="), "{refusal}");
    world.place(&["j", "j"]);
    assert!(world.refusal().contains("in use"));
    world.place(&["j", "k"]);
    world.open().shutdown_clean().unwrap();
}

#[test]
fn a_journal_that_is_not_wanted_any_more_leaves_its_folder() {
    let mut world = World::new(1 << 20);
    world.place(&["j"]);
    crash(&world);
    world.journal_bytes = 0;
    let manager = world.open();
    assert_eq!(end_of(&manager), 2);
    assert!(world.files_in("d0").is_empty() && world.files_in("j").is_empty());
    drop(manager);
    world.place(&["never"]);
    drop(world.open());
    assert!(!world.folder("never").exists());
}

/// Syncs below a folder fail.
#[derive(Debug, Default)]
struct Broken(Mutex<Option<PathBuf>>);

impl Hooks for Broken {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        match (doing, &*self.0.lock()) {
            (Doing::SyncData(path), Some(broken)) if path.starts_with(broken) => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_journals_disk_that_fails_takes_its_log_dir_offline_and_no_other() {
    let broken = Arc::new(Broken::default());
    let mut world = World::new(1 << 20);
    world.disk = Arc::new(HookedDisk(Arc::<Broken>::clone(&broken)));
    world.dirs = 2;
    world.place(&["j", "k"]);
    let manager = world.open();
    let logs = [create(&manager, "a"), create(&manager, "b")];
    keep_up(&manager);
    let (first, second) =
        if logs[0].dir().starts_with(world.dir(0)) { (&logs[0], &logs[1]) } else { (&logs[1], &logs[0]) };
    [first, second].iter().for_each(|log| append_durably(log, b"one"));
    *broken.0.lock() = Some(world.folder("j"));
    append(first, b"two");
    assert!(LogManager::flush_by_journal(&[Arc::clone(first)]).is_err());
    assert_eq!(manager.dirs().iter().map(|dir| dir.offline).collect::<Vec<_>>(), [true, false]);
    assert!(first.flush().is_err());
    append_durably(second, b"two");
}
