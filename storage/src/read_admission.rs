//! Admission control of cold reads beside fsyncs: a producer waits for an fsync to be acknowledged, while a lagging consumer has time.
//!
//! While fsyncs are active, cold reads are admitted one piece at a time: behind four queued reads an fsync would wait for all four. A
//! piece begins when the fsync under way has ended, or after a bounded wait, so that neither starves the other. After each piece the
//! disk gets a pause in proportion to the duration of the piece. A disk that is loaded past its sustained rate for long (a cloud volume
//! that uses up burst credits) otherwise stalls for hundreds of milliseconds.
//!
//! All pieces together keep to a rate, which adapts to the latency of fsyncs. Each cycle has a short window without cold reads; the
//! fsyncs of that window are the baseline. The rate falls while the fsyncs beside reads are slower than the baseline, and grows while
//! they are not (multiplicative in both directions). After an fsync that is far slower than usual the reads pause for a moment: the disk
//! is busy with other work. Without fsyncs there is no rate limit.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use crate::Env;

/// The longest that a piece waits for the fsync under way.
const PATIENCE: Duration = Duration::from_millis(5);
/// The longest that a piece waits for the piece before it, which may be on another disk that hangs.
const PATIENCE_WITH_READS: Duration = Duration::from_millis(50);
/// Fsyncs count as active for so long after the last one.
const SYNC_ACTIVE_FOR: Duration = Duration::from_millis(200);
/// One cycle of measurement; it begins with the window without reads.
const CYCLE: Duration = Duration::from_millis(400);
const BASELINE_WINDOW: Duration = Duration::from_millis(60);
/// Reads that began before the window may still be in flight.
const SETTLING: Duration = Duration::from_millis(5);
/// An fsync that takes so many times the usual duration pauses reads for so long, and in a cycle at most so long together.
const FAR_SLOWER: u32 = 4;
const SLOW_SYNC_PAUSE: Duration = Duration::from_millis(10);
const MAX_SLOW_SYNC_PAUSE: Duration = Duration::from_millis(200);
/// The pause after a piece is so many times the duration of the piece, up to a maximum.
const PAUSE_RATIO: f64 = 1.5;
const MAX_PAUSE: Duration = Duration::from_millis(100);
/// Durations that are kept of each kind, and the minimum for a comparison.
const MAX_SAMPLES: usize = 1024;
const MIN_SAMPLES: usize = 24;
/// The quantile that is compared: the duration that this part of the fsyncs exceeds.
const TAIL_PART: f64 = 1.0 / 32.0;
/// Bytes a second.
const FIRST_RATE: f64 = 64e6;
const MIN_RATE: f64 = 16e6;
const MAX_RATE: f64 = 8e9;
/// Fsyncs beside reads may be slower by this factor, and by this much in any case.
const MAX_SLOWDOWN: f64 = 1.15;
const SLACK: Duration = Duration::from_micros(200);

/// The last fsync durations of one kind.
#[derive(Debug)]
struct Durations {
    last: Vec<Duration>,
    next: usize,
}

impl Durations {
    const fn new() -> Self {
        Self { last: Vec::new(), next: 0 }
    }

    fn add(&mut self, took: Duration) {
        match self.last.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.last.push(took),
        }
        self.next = (self.next + 1) % MAX_SAMPLES;
    }

    /// The duration that this part of the fsyncs exceeds, if there are enough of them.
    fn exceeded_by(&self, part: f64) -> Option<Duration> {
        let count = self.last.len();
        if count < MIN_SAMPLES {
            return None;
        }
        let mut sorted = self.last.clone();
        sorted.sort_unstable();
        sorted.get((count - 1).checked_sub((count as f64 * part) as usize)?).copied()
    }

    fn clear(&mut self) {
        self.last.clear();
        self.next = 0;
    }
}

/// The rules, without a clock: times count from a fixed moment.
#[derive(Debug)]
struct ReadRate {
    rate: f64,
    /// When the next piece may begin.
    next: Duration,
    last_sync: Option<Duration>,
    cycle: Duration,
    baseline: Durations,
    loaded: Durations,
    /// The median duration of an fsync in windows without reads.
    baseline_median: Option<Duration>,
    /// Reads pause until this time, and how long they have paused in this cycle.
    paused_until: Duration,
    paused_in_cycle: Duration,
}

impl ReadRate {
    const fn new() -> Self {
        Self {
            rate: FIRST_RATE,
            next: Duration::ZERO,
            last_sync: None,
            cycle: Duration::ZERO,
            baseline: Durations::new(),
            loaded: Durations::new(),
            baseline_median: None,
            paused_until: Duration::ZERO,
            paused_in_cycle: Duration::ZERO,
        }
    }

    fn is_quiet(&self, now: Duration) -> bool {
        self.last_sync.is_none_or(|last| now.saturating_sub(last) > SYNC_ACTIVE_FOR)
    }

    fn record_sync(&mut self, began: Duration, now: Duration) {
        self.last_sync = Some(now);
        let far_slower =
            self.baseline_median.is_some_and(|usual| now.saturating_sub(began) > usual * FAR_SLOWER + SLACK);
        if far_slower && self.paused_in_cycle < MAX_SLOW_SYNC_PAUSE {
            let until = now + SLOW_SYNC_PAUSE;
            self.paused_in_cycle += until - self.paused_until.max(now).min(until);
            self.paused_until = until;
        }
        let of_cycle = |at: Duration| at.checked_sub(self.cycle);
        match (of_cycle(began), of_cycle(now)) {
            (Some(began), Some(ended)) if began >= SETTLING && ended < BASELINE_WINDOW => {
                self.baseline.add(ended - began)
            }
            (Some(began), Some(ended)) if (BASELINE_WINDOW..CYCLE).contains(&began) => self.loaded.add(ended - began),
            // Outside of a cycle, or the fsync began in one window and ended in another.
            _ => {}
        }
    }

    /// How long a read of `bytes` bytes must wait; zero: it is admitted now.
    fn next_wait(&mut self, bytes: u64, now: Duration) -> Duration {
        if self.is_quiet(now) {
            self.next = now;
            return Duration::ZERO;
        }
        let in_cycle = now.saturating_sub(self.cycle);
        if in_cycle >= CYCLE {
            self.adapt_rate();
            // Reads may have paused for long: fsyncs of that time belong to neither window.
            self.cycle = now;
            self.paused_in_cycle = Duration::ZERO;
            return BASELINE_WINDOW;
        }
        if in_cycle < BASELINE_WINDOW {
            return BASELINE_WINDOW - in_cycle;
        }
        if now < self.paused_until {
            return self.paused_until - now;
        }
        if now < self.next {
            return self.next - now;
        }
        // A late piece earns no credit: catching up would be a burst.
        self.next = now + Duration::from_secs_f64(bytes as f64 / self.rate);
        Duration::ZERO
    }

    fn record_read(&mut self, began: Duration, now: Duration) {
        let pause = now.saturating_sub(began).mul_f64(PAUSE_RATIO).min(MAX_PAUSE);
        self.next = self.next.max(now + pause);
    }

    fn adapt_rate(&mut self) {
        self.baseline_median = self.baseline.exceeded_by(0.5);
        // The longest fsyncs show overload first, but few samples are noise. The same quantile of both kinds, or one looks slower.
        let fewest = self.baseline.last.len().min(self.loaded.last.len());
        if fewest < MIN_SAMPLES {
            return;
        }
        let part = (3.0 / fewest as f64).max(TAIL_PART);
        let (Some(baseline), Some(loaded)) = (self.baseline.exceeded_by(part), self.loaded.exceeded_by(part)) else {
            return;
        };
        if loaded > baseline.mul_f64(MAX_SLOWDOWN) + SLACK {
            self.rate = (self.rate * 0.75).max(MIN_RATE);
            // The next fsyncs are measured at the new rate.
            self.loaded.clear();
        } else {
            self.rate = (self.rate * 1.1).min(MAX_RATE);
        }
    }
}

#[derive(Debug)]
struct State {
    read_rate: ReadRate,
    syncs_in_progress: usize,
    syncs_ended: u64,
    /// Admitted reads that have not ended.
    reads_in_progress: usize,
}

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct ReadAdmission {
    env: Arc<dyn Env>,
    state: Mutex<State>,
    sync_ended: Condvar,
    read_ended: Condvar,
}

/// An fsync under way.
pub(crate) struct SyncInProgress<'a> {
    admission: &'a ReadAdmission,
    began: Duration,
}

impl Drop for SyncInProgress<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.syncs_in_progress -= 1;
        state.syncs_ended = state.syncs_ended.wrapping_add(1);
        let now = self.admission.env.now();
        state.read_rate.record_sync(self.began, now);
        drop(state);
        self.admission.sync_ended.notify_all();
    }
}

/// The permit of an admitted read; the read ends when it is dropped.
pub(crate) struct ReadPermit<'a> {
    admission: &'a ReadAdmission,
    began: Duration,
}

impl Drop for ReadPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        state.reads_in_progress -= 1;
        let now = self.admission.env.now();
        state.read_rate.record_read(self.began, now);
        drop(state);
        self.admission.read_ended.notify_one();
    }
}

impl ReadAdmission {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        let state = Mutex::new(State {
            read_rate: ReadRate::new(),
            syncs_in_progress: 0,
            syncs_ended: 0,
            reads_in_progress: 0,
        });
        Self { env, state, sync_ended: Condvar::new(), read_ended: Condvar::new() }
    }

    /// Records the begin of an fsync; it ends when the result is dropped.
    pub(crate) fn begin_sync(&self) -> SyncInProgress<'_> {
        let mut state = self.state.lock();
        state.syncs_in_progress += 1;
        SyncInProgress { admission: self, began: self.env.now() }
    }

    /// Whether no fsync is under way or was a moment ago.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        let now = self.env.now();
        state.syncs_in_progress == 0 && state.read_rate.is_quiet(now)
    }

    /// Waits until a piece of `bytes` bytes is admitted; its read ends when the result is dropped.
    pub(crate) fn admit_read(&self, bytes: u64) -> ReadPermit<'_> {
        let mut patience = PATIENCE_WITH_READS;
        loop {
            let mut state = self.state.lock();
            let now = self.env.now();
            if state.reads_in_progress > 0 && !patience.is_zero() && !state.read_rate.is_quiet(now) {
                let waited = self.read_ended.wait_for(&mut state, patience);
                // Not by the clock baseline: a simulated one may stand still.
                patience = match waited.timed_out() {
                    true => Duration::ZERO,
                    false => patience.saturating_sub(self.env.now().saturating_sub(now)),
                };
                continue;
            }
            let wait = state.read_rate.next_wait(bytes, now);
            if wait.is_zero() {
                state.reads_in_progress += 1;
                let ended = state.syncs_ended;
                let still = |state: &mut State| state.syncs_in_progress > 0 && state.syncs_ended == ended;
                let _ = self.sync_ended.wait_while_for(&mut state, still, PATIENCE);
                let now = self.env.now();
                let pause = state.read_rate.paused_until.saturating_sub(now);
                drop(state);
                // The fsync that ended meanwhile may have been the slow one.
                self.env.sleep(pause);
                return ReadPermit { admission: self, began: self.env.now() };
            }
            drop(state);
            self.env.sleep(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Instant,
    };

    use super::*;
    use crate::MachineEnv;

    const PIECE: u64 = 256 << 10;

    /// Ten seconds of one reader and of continuous fsyncs, on a disk whose fsyncs take `millis(rate)`.
    fn run(read_rate: &mut ReadRate, from: Duration, millis: impl Fn(f64) -> f64) -> (Duration, f64) {
        let (mut now, mut sync, mut read) = (from, from, 0.0);
        while now < from + Duration::from_secs(10) {
            while sync <= now {
                let reads = now.saturating_sub(read_rate.cycle) >= BASELINE_WINDOW;
                let took = Duration::from_secs_f64(millis(if reads { read_rate.rate } else { 0.0 }) / 1e3);
                read_rate.record_sync(sync, sync + took);
                sync += took;
            }
            match read_rate.next_wait(PIECE, now) {
                Duration::ZERO => read += PIECE as f64,
                wait => now += wait.min(Duration::from_millis(1)),
            }
        }
        (now, read / 10.0)
    }

    #[test]
    fn reads_pause_in_proportion_to_their_duration() {
        let mut read_rate = ReadRate::new();
        let millis = Duration::from_millis;
        read_rate.rate = MAX_RATE;
        read_rate.record_sync(millis(999), millis(1000));
        read_rate.cycle = millis(900);
        for (took, rest) in [(2, 3), (30, 45), (90, 100)] {
            let began = read_rate.next.max(millis(1000));
            read_rate.last_sync = Some(began);
            assert_eq!(read_rate.next_wait(PIECE, began), Duration::ZERO, "{took}");
            read_rate.record_read(began, began + millis(took));
            assert_eq!(read_rate.next_wait(PIECE, began + millis(took)), millis(rest), "{took}");
        }
        // Without active fsyncs the pause does not apply.
        assert_eq!(read_rate.next_wait(PIECE, read_rate.next + SYNC_ACTIVE_FOR + millis(1)), Duration::ZERO);
    }

    #[test]
    fn without_syncs_there_is_no_rate() {
        let mut read_rate = ReadRate::new();
        let now = Duration::from_secs(5);
        assert!((0..1000).all(|_| read_rate.next_wait(PIECE, now).is_zero()));
        read_rate.record_sync(now, now + Duration::from_millis(1));
        let soon = now + Duration::from_millis(2);
        assert!((0..1000).any(|_| !read_rate.next_wait(PIECE, soon).is_zero()));
        assert!(read_rate.next_wait(PIECE, now + Duration::from_secs(1)).is_zero(), "the last sync is long ago");
    }

    #[test]
    fn the_rate_adapts_to_fsync_latency() {
        let mut read_rate = ReadRate::new();
        // Syncs become slower beyond 200 MB/s.
        let slows = |rate: f64| if rate > 200e6 { 4.0 } else { 1.0 };
        let (now, _) = run(&mut read_rate, Duration::from_secs(1), slows);
        let (now, read) = run(&mut read_rate, now, slows);
        assert!((100e6..220e6).contains(&read), "{read}");
        // A disk that bears no reads at all: reads continue at the least rate.
        let (now, _) = run(&mut read_rate, now, |rate| if rate > 0.0 { 4.0 } else { 1.0 });
        assert_eq!(read_rate.rate, MIN_RATE);
        let (now, read) = run(&mut read_rate, now, |rate| if rate > 0.0 { 4.0 } else { 1.0 });
        assert!(read > MIN_RATE / 2.0, "{read}");
        // One that bears everything.
        let (now, _) = run(&mut read_rate, now, |_| 1.0);
        let (_, _) = run(&mut read_rate, now, |_| 1.0);
        assert!(read_rate.rate > 1e8, "{}", read_rate.rate);
    }

    #[test]
    fn an_fsync_across_two_windows_is_not_counted() {
        let mut read_rate = ReadRate::new();
        read_rate.cycle = Duration::from_secs(1);
        for (began, ended) in [(900, 1010), (1002, 1010), (1050, 1070)] {
            read_rate.record_sync(Duration::from_millis(began), Duration::from_millis(ended));
        }
        assert!(read_rate.baseline.last.is_empty() && read_rate.loaded.last.is_empty());
        read_rate.record_sync(Duration::from_millis(1010), Duration::from_millis(1012));
        read_rate.record_sync(Duration::from_millis(1100), Duration::from_millis(1500));
        assert_eq!((read_rate.baseline.last.len(), read_rate.loaded.last.len()), (1, 1));
    }

    #[test]
    fn few_samples_do_not_change_the_rate() {
        let mut read_rate = ReadRate::new();
        read_rate.adapt_rate();
        (0..MAX_SAMPLES).for_each(|_| read_rate.baseline.add(Duration::from_millis(1)));
        read_rate.adapt_rate();
        (1..MIN_SAMPLES).for_each(|_| read_rate.loaded.add(Duration::from_millis(9)));
        read_rate.adapt_rate();
        assert_eq!(read_rate.rate, FIRST_RATE);
        read_rate.loaded.add(Duration::from_millis(9));
        read_rate.adapt_rate();
        assert!(read_rate.rate < FIRST_RATE);
        // The same spread in few as in many: neither looks slower.
        let spread = |at: usize| Duration::from_millis(if at.is_multiple_of(6) { 9 } else { 1 });
        (0..MAX_SAMPLES).for_each(|at| read_rate.baseline.add(spread(at)));
        (0..MIN_SAMPLES).for_each(|at| read_rate.loaded.add(spread(at)));
        let before = read_rate.rate;
        read_rate.adapt_rate();
        assert!(read_rate.rate > before);
    }

    #[test]
    fn a_far_slower_fsync_pauses_reads_for_a_bounded_time() {
        let ms = Duration::from_millis;
        let mut read_rate = ReadRate::new();
        let (now, _) = run(&mut read_rate, ms(1_000), |_| 1.0);
        assert_eq!(read_rate.baseline_median, Some(ms(1)));
        // A new cycle, past the time without reads.
        let mut now = now + CYCLE;
        read_rate.record_sync(now - ms(1), now);
        assert_eq!(read_rate.next_wait(PIECE, now), BASELINE_WINDOW);
        now += BASELINE_WINDOW;
        read_rate.record_sync(now - ms(2), now);
        assert!(read_rate.next_wait(PIECE, now).is_zero(), "a little slower is nothing");
        now += ms(20);
        read_rate.record_sync(now - ms(6), now);
        assert_eq!(read_rate.next_wait(PIECE, now), SLOW_SYNC_PAUSE);
        read_rate.record_sync(now - ms(6), now + ms(4));
        assert_eq!(read_rate.next_wait(PIECE, now + ms(4)), SLOW_SYNC_PAUSE, "counted from the last one");
        assert_eq!(read_rate.paused_in_cycle, SLOW_SYNC_PAUSE + ms(4), "time counts once");
        assert!(read_rate.next_wait(PIECE, now + ms(14)).is_zero());
        // All fsyncs are slow from here on: reads continue within the cycle.
        let began = now;
        while read_rate.next_wait(PIECE, now) > ms(1) {
            now += ms(1);
            read_rate.record_sync(now - ms(6), now);
        }
        assert!(now - began <= MAX_SLOW_SYNC_PAUSE + SLOW_SYNC_PAUSE, "{:?}", now - began);
    }

    /// Beside syncs one piece is read at a time; the next waits for it, though not for ever.
    #[test]
    fn beside_syncs_pieces_are_read_one_at_a_time() {
        let (admission, done) = (ReadAdmission::new(Arc::new(MachineEnv::default())), AtomicBool::new(false));
        thread::scope(|scope| {
            let syncs = scope.spawn(|| {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !done.load(Ordering::Relaxed) {
                    drop(admission.begin_sync());
                    thread::sleep(Duration::from_millis(1));
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                longest
            });
            while admission.is_quiet() {
                thread::yield_now();
            }
            let first = admission.admit_read(PIECE);
            let asked = Instant::now();
            let second = admission.admit_read(PIECE);
            let waited = asked.elapsed();
            drop((first, second));
            done.store(true, Ordering::Relaxed);
            // Unless the scheduler kept that thread from syncing: then no read has to wait.
            let paused = syncs.join().unwrap() >= SYNC_ACTIVE_FOR / 2;
            assert!(waited >= PATIENCE_WITH_READS || paused, "the first was still under way after {waited:?}");
        });
    }
}
