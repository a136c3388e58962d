//! Counters of the hot path, one copy for a few threads each, so that workers on different cores do not write to the same cache line.
//!
//! A copy holds additions that no scrape has seen; a scrape folds all copies into the registry's counters. Must never: be used by topic or
//! partition, where copies would cost more memory than the cache lines are worth.

use std::thread::available_parallelism;

use parking_lot::{Mutex, MutexGuard};

/// The most copies; more threads share them.
const MOST: usize = 64;

thread_local! {
    /// Its address tells threads apart.
    static MARK: u8 = const { 0 };
}

/// Copies of `T`, one for a few threads each. A copy is on the heap: no two share a cache line.
#[derive(Debug)]
pub(super) struct Shards<T>(Vec<Box<Mutex<T>>>);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T> Shards<T> {
    /// As many copies as there are cores.
    pub(super) fn new(make: impl Fn() -> T) -> Self {
        let count = available_parallelism().map_or(1, usize::from).next_power_of_two().min(MOST);
        Self((0..count).map(|_| Box::new(Mutex::new(make()))).collect())
    }

    /// This thread's copy. Other threads wait for it only if they share it.
    pub(super) fn local(&self) -> Option<MutexGuard<'_, T>> {
        let address = MARK.with(|mark| std::ptr::from_ref(mark) as usize as u64);
        // Fibonacci hashing: addresses of threads differ in few bits.
        let at = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        self.0.get(at % self.0.len().max(1)).map(|copy| copy.lock())
    }

    /// Every copy in turn.
    pub(super) fn for_each(&self, mut look: impl FnMut(&mut T)) {
        self.0.iter().for_each(|copy| look(&mut copy.lock()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_whatever_thread_adds() {
        let shards = Shards::new(|| 0_u64);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| *shards.local().unwrap() += 1));
            }
        });
        let mut all = 0;
        shards.for_each(|copy| all += std::mem::take(copy));
        assert_eq!(all, 8000);
    }
}
