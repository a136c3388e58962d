//! The order of syncs: the data and names that a swap and a roll must sync before each step. (The crash tests cut the power.)

use std::{io, path::PathBuf};

use super::*;
use crate::hooked::{Doing, HookedDisk, Hooks};

#[derive(Debug, PartialEq, Eq)]
enum Did {
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
    SyncedDir(PathBuf),
    Synced(PathBuf),
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Did>>);

impl Hooks for Recorder {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        self.0.lock().push(match doing {
            Doing::Rename { from, to } => Did::Renamed(from.into(), to.into()),
            Doing::RemoveFile(path) => Did::Removed(path.into()),
            Doing::SyncDir(path) => Did::SyncedDir(path.into()),
            Doing::SyncData(path) => Did::Synced(path.into()),
            _ => return Ok(()),
        });
        Ok(())
    }
}

fn ends(path: &Path, end: &str) -> bool {
    path.to_string_lossy().ends_with(end)
}

#[test]
fn a_swap_and_a_roll_sync_what_they_must() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let logs = open_on(Arc::new(HookedDisk(recorder.clone())), dir.path());
    let log = create(&logs);
    append_keyed(&log, Compression::None, &[("k", Some("v"))]);
    log.flush().unwrap();
    for i in 0..60 {
        append_keyed(&log, Compression::None, &[(&format!("k{}", i % 20), Some(&"x".repeat(130)))]);
    }
    recorder.0.lock().clear();
    // New segments: their names are durable before the recovery point passes their data.
    log.flush().unwrap();
    let folder = Did::SyncedDir(log.dir().to_path_buf());
    assert!(log.segment_count() > 2 && recorder.0.lock().contains(&folder), "a roll");
    recorder.0.lock().clear();
    assert!(cleaner(1 << 20).run_pass(&logs, NOW));
    let did = recorder.0.lock();
    let mut swaps = 0;
    for (at, one) in did.iter().enumerate() {
        match one {
            // The new data is durable before it gets a name that a start trusts.
            Did::Renamed(from, to) if ends(to, ".swap") => {
                assert!(did[..at].contains(&Did::Synced(from.clone())), "{}", from.display());
                swaps += 1;
            }
            // The new name is durable before the old file is removed.
            Did::Removed(path) if ends(path, ".log.deleted") => {
                let swapped = did[..at].iter().rposition(|d| matches!(d, Did::Renamed(_, to) if ends(to, ".log")));
                assert!(did[swapped.unwrap()..at].contains(&folder), "{}", path.display());
            }
            _ => {}
        }
    }
    assert!(swaps >= 4, "{swaps}");
}
