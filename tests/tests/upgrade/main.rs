//! Data and clusters of earlier builds: the folders in `fixtures` are opened by this build and say all that was written to them; and nodes of
//! the previous build are replaced by this one, one after the other, and back, while the cluster serves.
//!
//! A folder of each release is made once, by `ESKER_FIXTURES=DIR cargo test -p esker-tests --test upgrade -- --ignored`, and never
//! changed: what a release wrote must be readable for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

mod contents;
mod nodes;

use std::path::{Path, PathBuf};
use std::process::Command;

use contents::{verify, write};
use esker_tests::binary;
use nodes::Nodes;

/// Small journals: the fixtures lie in the repository.
const SMALL: &[&str] = &["--set", "log.journal.bytes=2097152"];

/// The name of a fixture, and how its nodes ended.
const KINDS: [(&str, usize, End); 3] =
    [("one-node", 1, End::Clean), ("one-node-killed", 1, End::Killed), ("three-nodes", 3, End::Clean)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut releases: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    releases.sort();
    releases
}

fn tar(arguments: &[&str], dir: &Path, archive: &Path) {
    let status = Command::new("tar").arg("-C").arg(dir).args(arguments).arg(archive).arg(".").status().unwrap();
    assert!(status.success(), "tar {arguments:?} {}", archive.display());
}

#[test]
#[ignore = "no test: makes the fixtures of a release, once, into the folder that ESKER_FIXTURES names"]
fn make_the_fixtures() {
    let into = PathBuf::from(std::env::var_os("ESKER_FIXTURES").expect("ESKER_FIXTURES names a folder"));
    std::fs::create_dir_all(&into).unwrap();
    for (name, count, end) in KINDS {
        let mut nodes = Nodes::new(count);
        nodes.start_all(&binary(), SMALL);
        (0..2).for_each(|phase| write(&nodes, phase));
        for at in (0..count).rev() {
            match end {
                End::Clean => nodes.stop(at),
                End::Killed => nodes.kill(at),
            }
        }
        tar(&["--exclude=.lock", "-czf"], nodes.dir(), &into.join(format!("{name}.tar.gz")));
    }
}

#[test]
fn folders_of_all_releases_are_opened() {
    let releases = fixtures();
    assert!(!releases.is_empty());
    for release in releases {
        for (name, count, _) in KINDS {
            let mut nodes = Nodes::new(count);
            tar(&["-xzf"], nodes.dir(), &release.join(format!("{name}.tar.gz")));
            // On other ports than before.
            nodes.start_all(&binary(), &[]);
            verify(&nodes, 0..2);
            write(&nodes, 2);
            nodes.stop_all();
            nodes.start_all(&binary(), &[]);
            verify(&nodes, 0..3);
        }
    }
}

/// Nothing is finalized: the way back is open. `ESKER_PREVIOUS_BIN` names the previous build (`tests/run compat/upgrade` makes one); without it,
/// nodes of this build are restarted once each.
#[test]
fn a_cluster_is_rolled_to_this_build_and_back() {
    let this = binary();
    let given = std::env::var_os("ESKER_PREVIOUS_BIN").map(PathBuf::from);
    let previous = given.clone().unwrap_or_else(binary);
    let rolls = if given.is_some() { vec![&this, &previous, &this] } else { vec![&this] };
    let mut nodes = Nodes::new(3);
    nodes.start_all(&previous, SMALL);
    write(&nodes, 0);
    let mut phase = 1;
    for build in rolls {
        for at in 0..3 {
            nodes.wait_until_safe_to_stop(at);
            nodes.stop(at);
            nodes.start(at, build, SMALL);
            write(&nodes, phase);
            phase += 1;
        }
        verify(&nodes, 0..phase);
    }
    nodes.cli(&["cluster", "status"], "");
    nodes.stop_all();
    nodes.start_all(&this, SMALL);
    verify(&nodes, 0..phase);
}
