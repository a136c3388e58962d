//! A cluster of three or five real brokers in one process, in virtual time, under crashes, cut links and failing disks.
//!
//! Each seed is one run, the same every time. Seeds below [`SECOND_REPERTOIRE`] draw their faults as they did when that repertoire came: the ones in
//! [`FOUND`] keep the histories that found something. `ESKER_CLUSTER_SEEDS=n` runs n seeds more than the fixed ones, `ESKER_CLUSTER_SEED=s` only that
//! one, `ESKER_SIMULATION_SECONDS=t` fresh ones for so long (hours, if you like); `ESKER_SIMULATION_TRACE=path` writes a trace there,
//! `ESKER_SIMULATION_LOG=filter` prints the log of all nodes.

mod client;
mod entropy;
mod invariants;
mod model;
mod nemesis;
mod net;
mod node;
mod workload;
mod world;

use std::time::Instant;

use model::Counts;
use world::{Outcome, run};

/// A fault that is built in, so that the checks can be seen to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The cluster is sound.
    Nothing,
    /// Produce requests are answered before the in-sync replicas have the batch.
    AnswerBeforeReplication,
    /// A sync does nothing.
    LyingSync,
}

/// Seeds from here on have the second repertoire of faults: see [`nemesis::second`].
const SECOND_REPERTOIRE: u64 = 200_000;
/// Odd seeds from here on have five nodes: three voters, and two observers that pull the metadata log.
const WITH_OBSERVERS: u64 = 400_000;

fn has_observers(seed: u64) -> bool {
    seed >= WITH_OBSERVERS && !seed.is_multiple_of(2)
}

/// Seeds of every run: so many from 0 on, from [`SECOND_REPERTOIRE`] on, and odd ones from [`WITH_OBSERVERS`] on.
const FIXED: u64 = 3;
/// Seeds that found something once: they are part of every run. What they do changes with the timing of the brokers.
const FOUND: [u64; 16] = [
    3005,
    20096,
    20121,
    20268,
    30146,
    30224,
    50124,
    60125,
    200_059,
    221_000,
    700_011,
    3_000_202,
    110_000_132,
    120_000_167,
    180_000_479,
    ORDERED,
];
/// Its tasks have another order after other seeds in the same process.
const ORDERED: u64 = 41_772_851_920_896;
/// Other seeds of every run, unless the environment has a number.
const FRESH: u64 = 3;
/// So many seeds of the first repertoire have every kind of its faults, and so many of the second one have all.
const COVERING: (usize, usize) = (60, 200);
/// Of the fixed seeds so many are run with each planted fault.
const PLANTED: u64 = 5;

/// The file in which a process writes what its seed counted.
const COUNTS: &str = "ESKER_SIMULATION_COUNTS";
/// The file in which it writes its trace.
const TRACE: &str = "ESKER_SIMULATION_TRACE";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

fn only_seed() -> Option<u64> {
    number("ESKER_CLUSTER_SEED")
}

fn check(seed: u64) -> Outcome {
    if let Ok(filter) = std::env::var("ESKER_SIMULATION_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
    }
    let outcome = run(seed, Planted::Nothing);
    if let Ok(path) = std::env::var(TRACE) {
        std::fs::write(path, &outcome.trace).unwrap();
    }
    if let Ok(path) = std::env::var(COUNTS) {
        std::fs::write(path, serde_json::to_vec(&outcome.counts).unwrap()).unwrap();
    }
    if let Some(violation) = &outcome.violation {
        let tail: Vec<&str> = outcome.trace.lines().rev().take(60).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        panic!("{tail}\nESKER_CLUSTER_SEED={seed}: {violation}");
    }
    outcome
}

/// As [`check`], in a process of its own: tokio and futures seed the order of `select!` with counters of the process, so that a seed after others
/// is not the same run as the seed alone. Returns its trace, too.
fn check_alone(seed: u64) -> (Counts, String) {
    let folder = tempfile::tempdir().unwrap();
    let (counts, trace) = (folder.path().join("counts"), folder.path().join("trace"));
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::a_cluster_keeps_what_it_acknowledged_and_heals", "--nocapture"])
        .env("ESKER_CLUSTER_SEED", seed.to_string())
        .env(COUNTS, &counts)
        .env(TRACE, &trace)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    (serde_json::from_slice(&std::fs::read(counts).unwrap()).unwrap(), std::fs::read_to_string(trace).unwrap())
}

fn add(all: &mut Counts, counts: Counts) {
    all.acknowledged += counts.acknowledged;
    all.checked += counts.checked;
    all.read += counts.read;
    all.images += counts.images;
    all.watermarks += counts.watermarks;
    all.elections += counts.elections;
    all.high_watermark_went_back += counts.high_watermark_went_back;
    all.slowest_heal_ms = all.slowest_heal_ms.max(counts.slowest_heal_ms);
    for (kind, times) in counts.faults {
        *all.faults.entry(kind).or_default() += times;
    }
}

#[test]
fn a_cluster_keeps_what_it_acknowledged_and_heals() {
    let began = Instant::now();
    let mut all = Counts::default();
    let fixed: Vec<u64> = match only_seed() {
        Some(seed) => vec![seed],
        None => {
            let with_observers = (0..FIXED).map(|number| WITH_OBSERVERS + 1 + 2 * number);
            (0..FIXED).chain(SECOND_REPERTOIRE..SECOND_REPERTOIRE + FIXED).chain(with_observers).chain(FOUND).collect()
        }
    };
    let (mut ran, mut of_second) = (0, 0);
    let mut run_seed = |seed: u64| {
        add(&mut all, if only_seed().is_some() { check(seed).counts } else { check_alone(seed).0 });
        ran += 1;
        of_second += usize::from(seed >= SECOND_REPERTOIRE);
    };
    fixed.into_iter().for_each(&mut run_seed);
    if only_seed().is_none() {
        let first = number("ESKER_CLUSTER_FIRST").unwrap_or(u64::from(std::process::id()) << 32);
        let fresh = Instant::now();
        match crate::seconds() {
            Some(time) => (first..).take_while(|_| fresh.elapsed() < time).for_each(&mut run_seed),
            None => (first..first + number("ESKER_CLUSTER_SEEDS").unwrap_or(FRESH)).for_each(&mut run_seed),
        }
    }
    println!("{ran} seeds: {all:?} in {:?}", began.elapsed());
    assert!(all.acknowledged > 0 && all.images > 0 && all.watermarks > 0);
    // A change of any timing gives other faults to a seed: a few seeds need not have them all.
    let of_first = nemesis::ALL_KINDS.into_iter().chain([nemesis::FAILING_DISK]);
    let kinds: Vec<_> = match (ran - of_second >= COVERING.0, of_second >= COVERING.1) {
        (_, true) => of_first.chain(nemesis::second::SECOND_KINDS).collect(),
        (true, false) => of_first.collect(),
        (false, false) => Vec::new(),
    };
    for kind in kinds {
        assert!(all.faults.get(kind).is_some_and(|times| *times > 0), "no {kind} in {ran} seeds: {all:?}");
    }
}

#[test]
fn a_seed_of_a_cluster_gives_the_same_trace_twice() {
    if only_seed().is_some() {
        return;
    }
    for seed in 0..2 {
        crate::assert_same(&check(seed).trace, &check(seed).trace);
    }
    // Of one that has another trace after others in one process.
    crate::assert_same(&check_alone(ORDERED).1, &check_alone(ORDERED).1);
}

#[test]
fn planted_faults_of_a_cluster_are_found() {
    if only_seed().is_some() {
        return;
    }
    for planted in [Planted::AnswerBeforeReplication, Planted::LyingSync] {
        let began = Instant::now();
        let violations = (0..PLANTED).filter_map(|seed| run(seed, planted).violation);
        let found = violations.inspect(|what| println!("{what}")).count();
        println!("{planted:?}: found in {found} of {PLANTED} seeds in {:?}", began.elapsed());
        assert!(found > 0, "{planted:?} was found in no seed");
    }
}
