//! Fuzzing that needs no special toolchain: a seeded generator makes valid inputs, mutates them, and feeds them to the decoders for
//! `ESKER_FUZZ_SECONDS` each (default 2). Nothing may panic, and no input may make a decoder allocate out of proportion to its
//! size. A failure prints the seed of its round; `ESKER_FUZZ_SEED` starts there.

// Helpers of a test are not inside `#[test]`, where clippy allows these by itself.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[macro_use]
#[path = "../shared/apis.rs"]
mod apis;
#[path = "../shared/generate.rs"]
mod generate;
mod mutate;
#[path = "../shared/random.rs"]
mod random;
mod records;
mod requests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

use random::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The allocator counts for the whole process, so one target runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `round` with growing seeds until the time is up.
fn fuzz(name: &str, mut round: impl FnMut(&mut Random)) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let time = Duration::from_secs(number("ESKER_FUZZ_SECONDS").unwrap_or(2));
    let mut seed = number("ESKER_FUZZ_SEED").unwrap_or(1);
    let (start, mut rounds) = (Instant::now(), 0_u64);
    while start.elapsed() < time || rounds == 0 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(&mut Random::new(seed)))) {
            eprintln!("{name}: failed with ESKER_FUZZ_SEED={seed} after {rounds} rounds");
            std::panic::resume_unwind(panic);
        }
        seed += 1;
        rounds += 1;
    }
    println!("{name}: {rounds} rounds in {:?}", start.elapsed());
}

/// Runs `work` and returns the most bytes that it held at once.
fn peak(work: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}
