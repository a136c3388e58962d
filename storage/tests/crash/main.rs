//! Random operations on a log manager, interrupted by power cuts, dying processes and failing disks, and compared with a model.
//!
//! Each seed is one run, the same every time. `ESKER_CRASH_SEEDS=n` runs n seeds (default: few), `ESKER_CRASH_SEED=s` only
//! that one, as a failed test's message says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod check;
// The simulation of a whole broker uses all of it.
#[allow(dead_code)]
mod disk;
mod driver;
mod faults;
mod journal;
mod metalog;
mod model;
mod rng;
mod state;
mod two_dirs;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use check::{Claim, check};
use disk::SimDisk;
use driver::{Driver, Mark, Outcome, open};
use model::Part;
use rng::Rng;
use state::{Image, State};

/// A folder in memory where there is one: nothing is synced, and thousands are made.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    match number("ESKER_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ESKER_CRASH_SEEDS").unwrap_or(default)).collect(),
    }
}

/// Runs the seeds on all cores; the first failure is the test's.
fn in_parallel(seeds: &[u64], test: impl Fn(u64) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                test(*seed);
            }
        };
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
}

/// Runs `steps` operations; all of them work.
fn run(seed: u64, steps: usize, root: &std::path::Path) -> Driver {
    let disk = SimDisk::new(root, &Image::new());
    let mut driver = Driver::new(disk, root, Rng::new(seed));
    let fail = |driver: &Driver, error: String| {
        panic!("seed {seed}: {error}\nafter\n  {}", tail(&driver.log));
    };
    if let Err(error) = driver.start() {
        fail(&driver, error);
    }
    for _ in 0..steps {
        match driver.step() {
            Ok(Outcome::Done) => {}
            Ok(other) => fail(&driver, format!("{other:?} on a sound disk")),
            Err(error) => fail(&driver, error),
        }
    }
    if let Err(error) = driver.check_all() {
        fail(&driver, error);
    }
    driver
}

fn tail(log: &[String]) -> String {
    log[log.len().saturating_sub(40)..].join("\n  ")
}

/// The acknowledged state after `events` of the disk, and the unfinished operation.
fn around(marks: &[Mark], events: usize) -> (&Mark, Option<&Mark>) {
    let next = marks.partition_point(|mark| mark.events <= events);
    let before = &marks[next - 1];
    (before, marks.get(next).filter(|_| before.events < events))
}

/// Opens the image after a power cut and compares it with the model.
fn survives(driver: &Driver, image: &Image, events: usize, rng: &mut Rng, replayed: &AtomicU64) -> Result<(), String> {
    let (before, under_way) = around(&driver.marks, events);
    let root = folder();
    let disk = SimDisk::new(root.path(), image);
    let dir = root.path().join("data");
    let manager = open(&disk, &dir, &driver.config)?;
    replayed.fetch_add(manager.journals().map(|(_, journal)| journal.stats().replayed).sum(), Ordering::Relaxed);
    let mut keys: Vec<_> = before.parts.keys().chain(under_way.iter().flat_map(|mark| mark.parts.keys())).collect();
    keys.sort();
    keys.dedup();
    let mut found = manager.logs();
    let mut after = Vec::new();
    for key in keys {
        let mut candidates: Vec<Part> = Vec::new();
        let (old, new) = (before.parts.get(key), under_way.and_then(|mark| mark.parts.get(key)));
        match (old, new) {
            (Some(old), Some(new)) if old.topic_id == new.topic_id => {
                candidates.extend([old.weakened_by(new), new.weakened_by(old)]);
            }
            (old, new) => candidates.extend(old.into_iter().chain(new).cloned()),
        }
        let may_be_gone = old.is_none_or(|old| old.flushed == 0)
            || under_way.is_some_and(|mark| mark.parts.get(key).is_none_or(|new| new.flushed == 0));
        match manager.get(&key.0, key.1) {
            None if may_be_gone => {}
            None => return Err(format!("{key:?} is gone")),
            Some(log) => {
                found.retain(|other| (other.topic(), other.partition()) != (log.topic(), log.partition()));
                let mut faults = Vec::new();
                let sound = candidates.iter().any(|part| match check(&log, part, Claim::AfterCrash) {
                    Ok(()) => true,
                    Err(fault) => {
                        faults.push(fault);
                        false
                    }
                });
                if !sound {
                    return Err(format!("{key:?}: {faults:?}"));
                }
                after.push(log);
            }
        }
    }
    found.retain(|log| {
        let attempted = |key: &(String, i32)| key.0 == **log.topic() && key.1 == log.partition();
        log.log_end_offset() > 0 || !driver.attempted.iter().any(attempted)
    });
    if let Some(log) = found.first() {
        return Err(format!("{}-{} was deleted and is there", log.topic(), log.partition()));
    }
    if rng.chance(60) {
        return Ok(());
    }
    // The log continues, and the next cut must keep the records that this start found.
    let mut ends = Vec::new();
    let together = rng.chance(50);
    if together {
        driver::flush_round(&after).map_err(|error| error.to_string())?;
    }
    for log in &after {
        if !together {
            log.flush().map_err(|error| error.to_string())?;
        }
        ends.push((log.topic().clone(), log.partition(), log.log_end_offset(), check::scan(log, 4000)?));
    }
    if rng.chance(50) {
        manager.flush_checkpoints().map_err(|error| error.to_string())?;
    }
    let image = disk.state().image(rng);
    drop((after, manager));
    let root = folder();
    let disk = SimDisk::new(root.path(), &image);
    let manager = open(&disk, &root.path().join("data"), &driver.config)?;
    for (topic, partition, end, content) in ends {
        let Some(log) = manager.get(&topic, partition) else {
            // Nothing was there to flush.
            if content.is_empty() {
                continue;
            } else {
                return Err(format!("{topic}-{partition} went with the second cut"));
            }
        };
        let same = log.log_end_offset() == end && check::scan(&log, 4000)? == content;
        if !same && !content.is_empty() {
            return Err(format!(
                "{topic}-{partition} ends at {} after the second cut, not {end}",
                log.log_end_offset()
            ));
        }
    }
    Ok(())
}

#[test]
fn power_cuts_take_nothing_that_was_flushed() {
    let (rounds, replayed) = (AtomicU64::new(0), AtomicU64::new(0));
    in_parallel(&seeds(5), |seed| {
        let root = folder();
        let driver = run(seed, 60, root.path());
        rounds.fetch_add(driver.by_journal, Ordering::Relaxed);
        let mut state = State::from_image(&Image::new());
        let journal = driver.disk.journal();
        let mut rng = Rng::new(seed ^ 0xc0ffee);
        for (index, event) in journal.iter().enumerate() {
            state.apply(event);
            let events = index + 1;
            let image = state.image(&mut rng);
            if let Err(error) = survives(&driver, &image, events, &mut rng, &replayed) {
                let (before, under_way) = around(&driver.marks, events);
                let from = index.saturating_sub(25);
                let last: Vec<String> = journal[from..=index].iter().map(short).collect();
                panic!(
                    "seed {seed}, power cut after event {events} of {}: {error}\ndone: {}\nunder way: {:?}\noperations\n  {}\nevents\n  {}\nimage\n  {}\nRun it with ESKER_CRASH_SEED={seed}",
                    journal.len(),
                    before.op,
                    under_way.map(|mark| &mark.op),
                    tail(
                        &driver
                            .marks
                            .iter()
                            .filter(|m| m.events <= events)
                            .map(|m| format!("{} {}", m.events, m.op))
                            .collect::<Vec<_>>()
                    ),
                    last.join("\n  "),
                    shown(&image),
                );
            }
        }
    });
    let (rounds, replayed) = (rounds.into_inner(), replayed.into_inner());
    println!("{rounds} rounds of the journal, {replayed} bytes written from it after a cut");
    assert!(rounds > 0 && replayed > 0, "the journal was not put to the test");
}

/// Names and sizes; of the small text files the content.
fn shown(image: &Image) -> String {
    let mut text = String::new();
    for (path, content) in image {
        let path = path.display();
        match content {
            None => text += &format!("{path}/\n  "),
            Some(bytes) if path.to_string().ends_with("checkpoint") => {
                text += &format!("{path} {:?}\n  ", String::from_utf8_lossy(bytes));
            }
            Some(bytes) => text += &format!("{path} {} bytes\n  ", bytes.len()),
        }
    }
    text
}

fn short(event: &state::Event) -> String {
    match event {
        state::Event::Write(id, offset, bytes) => format!("Write({id}, {offset}, {} bytes)", bytes.len()),
        other => format!("{other:?}"),
    }
}
