//! A whole broker (server, handlers, replica manager, coordinators, raft with one voter) under power cuts, in virtual time, on a
//! simulated network and disk.
//!
//! Each seed is one run, the same every time. `ESKER_SIMULATION_SEEDS=n` runs n seeds more than the fixed ones, `ESKER_SIMULATION_SEED=s`
//! only that one, as a failed test's message says, `ESKER_SIMULATION_SECONDS=t` fresh ones for so long, hours if you like (half of it here, the
//! rest on clusters); `ESKER_SIMULATION_TRACE=path` writes a trace there. Clusters have seeds of their own: `ESKER_CLUSTER_SEED=s`,
//! `ESKER_CLUSTER_SEEDS=n` from `ESKER_CLUSTER_FIRST=s` on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod client;
mod cluster;
mod compaction;
mod deletion;
#[allow(dead_code)]
#[path = "../../../storage/tests/crash/disk.rs"]
mod disk;
mod environment;
mod faults;
mod group;
mod model;
mod network;
#[path = "../../../storage/tests/crash/rng.rs"]
mod rng;
mod rot;
#[allow(dead_code)]
#[path = "../../../storage/tests/crash/state.rs"]
mod state;
mod trace;
mod transactions;
mod workload;
mod world;

use std::time::{Duration, Instant};

use faults::Planted;
use model::Counts;
use world::{Outcome, run};

/// Seeds of every run.
const FIXED: u64 = 20;
/// Of these so many are run with each planted fault.
const PLANTED: u64 = 9;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

fn only_seed() -> Option<u64> {
    number("ESKER_SIMULATION_SEED")
}

/// How long fresh seeds run of one broker, and of a cluster.
fn seconds() -> Option<Duration> {
    number("ESKER_SIMULATION_SECONDS").map(|all| Duration::from_secs(all) / 2)
}

fn check(seed: u64) -> Outcome {
    let outcome = run(seed, Planted::Nothing);
    if let Ok(path) = std::env::var("ESKER_SIMULATION_TRACE") {
        std::fs::write(path, &outcome.trace).unwrap();
    }
    if let Some(violation) = &outcome.violation {
        let tail: Vec<&str> = outcome.trace.lines().rev().take(60).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        panic!("{tail}\nESKER_SIMULATION_SEED={seed}: {violation}");
    }
    outcome
}

#[test]
fn acknowledged_records_and_offsets_survive_power_cuts() {
    let began = Instant::now();
    let mut all = Counts::default();
    let mut add = |seed: u64| {
        let counts = check(seed).counts;
        all.cuts += counts.cuts;
        all.acknowledged += counts.acknowledged;
        all.checked += counts.checked;
        all.commits += counts.commits;
        all.read_and_lost += counts.read_and_lost;
        all.rot_reported += counts.rot_reported;
        for (kind, times) in counts.faults {
            *all.faults.entry(kind).or_default() += times;
        }
    };
    match only_seed() {
        Some(seed) => add(seed),
        None => {
            (0..FIXED).for_each(&mut add);
            // Other seeds each time.
            let first = u64::from(std::process::id()) << 32;
            let fresh = Instant::now();
            match seconds() {
                Some(time) => (first..).take_while(|_| fresh.elapsed() < time).for_each(&mut add),
                None => (first..first + number("ESKER_SIMULATION_SEEDS").unwrap_or(0)).for_each(&mut add),
            }
        }
    }
    println!("{all:?} in {:?}", began.elapsed());
    assert!(all.acknowledged > 0);
    assert_eq!(all.read_and_lost, 0, "a consumer read what was not durable");
    if only_seed().is_none() {
        for kind in faults::ALL_KINDS {
            assert!(all.faults.get(kind).is_some_and(|times| *times > 0), "no {kind} in the fixed seeds: {all:?}");
        }
        assert!(all.rot_reported > 0, "rot, and no fetch that met it: {all:?}");
    }
}

/// The first line that differs.
fn assert_same(one: &str, other: &str) {
    for (at, (a, b)) in one.lines().zip(other.lines()).enumerate() {
        assert_eq!(a, b, "line {at}");
    }
    assert!(one == other, "one trace is longer");
}

#[test]
fn a_seed_gives_the_same_trace_in_one_process_and_in_two() {
    if only_seed().is_some() {
        return;
    }
    for seed in 0..3 {
        let trace = check(seed).trace;
        assert_same(&trace, &check(seed).trace);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "acknowledged_records_and_offsets_survive_power_cuts"])
            .env("ESKER_SIMULATION_SEED", seed.to_string())
            .env("ESKER_SIMULATION_TRACE", &path)
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        assert_same(&trace, &std::fs::read_to_string(path).unwrap());
    }
}

#[test]
fn planted_faults_are_found() {
    if only_seed().is_some() {
        return;
    }
    for planted in [Planted::AnswerBeforeFlush, Planted::LyingSync, Planted::FailedSyncBelieved, Planted::RotServed] {
        let found = (0..PLANTED).filter(|seed| run(*seed, planted).violation.is_some()).count();
        println!("{planted:?}: found in {found} of {PLANTED} seeds");
        assert!(found >= PLANTED as usize / 3, "{planted:?} was found in {found} seeds");
    }
}
