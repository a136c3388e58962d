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
const RECENTLY: Duration = Duration::from_millis(200);
/// One cycle of measurement; it begins with the window without reads.
const CYCLE: Duration = Duration::from_millis(400);
const WITHOUT: Duration = Duration::from_millis(60);
/// Reads that began before the window may still be in flight.
const SETTLING: Duration = Duration::from_millis(5);
/// An fsync that takes so many times the usual duration pauses reads for so long, and in a cycle at most so long together.
const FAR_SLOWER: u32 = 4;
const STANDING_BACK: Duration = Duration::from_millis(10);
const STANDING_BACK_MOST: Duration = Duration::from_millis(200);
/// The pause after a piece is so many times the duration of the piece, up to a maximum.
const REST: f64 = 1.5;
const REST_MOST: Duration = Duration::from_millis(100);
/// Durations that are kept of each kind, and the fewest that are compared.
const REMEMBERED: usize = 1024;
const ENOUGH: usize = 24;
/// The quantile that is compared: the duration that this part of the fsyncs exceeds.
const LONGEST: f64 = 1.0 / 32.0;
/// Bytes a second.
const FIRST_RATE: f64 = 64e6;
const LEAST_RATE: f64 = 16e6;
const MOST_RATE: f64 = 8e9;
/// Fsyncs beside reads may be slower by this factor, and by this much in any case.
const SLOWER: f64 = 1.15;
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
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The duration that this part of the fsyncs exceeds, if there are enough of them.
    fn exceeded_by(&self, part: f64) -> Option<Duration> {
        let count = self.last.len();
        if count < ENOUGH {
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
struct Pace {
    rate: f64,
    /// When the next piece may begin.
    next: Duration,
    last_sync: Option<Duration>,
    cycle: Duration,
    alone: Durations,
    beside: Durations,
    /// The median duration of an fsync without reads.
    usual: Option<Duration>,
    /// Reads pause until then, and have paused for so long in this cycle.
    held: Duration,
    held_in_cycle: Duration,
}

impl Pace {
    const fn new() -> Self {
        Self {
            rate: FIRST_RATE,
            next: Duration::ZERO,
            last_sync: None,
            cycle: Duration::ZERO,
            alone: Durations::new(),
            beside: Durations::new(),
            usual: None,
            held: Duration::ZERO,
            held_in_cycle: Duration::ZERO,
        }
    }

    fn is_quiet(&self, now: Duration) -> bool {
        self.last_sync.is_none_or(|last| now.saturating_sub(last) > RECENTLY)
    }

    fn sync_ended(&mut self, began: Duration, now: Duration) {
        self.last_sync = Some(now);
        let far_slower = self.usual.is_some_and(|usual| now.saturating_sub(began) > usual * FAR_SLOWER + SLACK);
        if far_slower && self.held_in_cycle < STANDING_BACK_MOST {
            let until = now + STANDING_BACK;
            self.held_in_cycle += until - self.held.max(now).min(until);
            self.held = until;
        }
        let of_cycle = |at: Duration| at.checked_sub(self.cycle);
        match (of_cycle(began), of_cycle(now)) {
            (Some(began), Some(ended)) if began >= SETTLING && ended < WITHOUT => self.alone.add(ended - began),
            (Some(began), Some(ended)) if (WITHOUT..CYCLE).contains(&began) => self.beside.add(ended - began),
            // Outside of a cycle, or the fsync began in one window and ended in another.
            _ => {}
        }
    }

    /// How long a piece of `bytes` bytes must wait; zero: it begins now.
    fn wait(&mut self, bytes: u64, now: Duration) -> Duration {
        if self.is_quiet(now) {
            self.next = now;
            return Duration::ZERO;
        }
        let in_cycle = now.saturating_sub(self.cycle);
        if in_cycle >= CYCLE {
            self.judge();
            // Reads may have paused for long: fsyncs of that time belong to neither window.
            self.cycle = now;
            self.held_in_cycle = Duration::ZERO;
            return WITHOUT;
        }
        if in_cycle < WITHOUT {
            return WITHOUT - in_cycle;
        }
        if now < self.held {
            return self.held - now;
        }
        if now < self.next {
            return self.next - now;
        }
        // A late piece earns no credit: catching up would be a burst.
        self.next = now + Duration::from_secs_f64(bytes as f64 / self.rate);
        Duration::ZERO
    }

    fn piece_ended(&mut self, began: Duration, now: Duration) {
        let rest = now.saturating_sub(began).mul_f64(REST).min(REST_MOST);
        self.next = self.next.max(now + rest);
    }

    fn judge(&mut self) {
        self.usual = self.alone.exceeded_by(0.5);
        // The longest fsyncs show overload first, but few samples are noise. The same quantile of both kinds, or one looks slower.
        let fewest = self.alone.last.len().min(self.beside.last.len());
        if fewest < ENOUGH {
            return;
        }
        let part = (3.0 / fewest as f64).max(LONGEST);
        let (Some(alone), Some(beside)) = (self.alone.exceeded_by(part), self.beside.exceeded_by(part)) else { return };
        if beside > alone.mul_f64(SLOWER) + SLACK {
            self.rate = (self.rate * 0.75).max(LEAST_RATE);
            // The next fsyncs are measured at the new rate.
            self.beside.clear();
        } else {
            self.rate = (self.rate * 1.1).min(MOST_RATE);
        }
    }
}

#[derive(Debug)]
struct State {
    pace: Pace,
    under_way: usize,
    ended: u64,
    /// Pieces that are being read.
    reads: usize,
}

/// See the module. One for all logs of a broker.
#[derive(Debug)]
pub(crate) struct Turns {
    env: Arc<dyn Env>,
    state: Mutex<State>,
    sync_ended: Condvar,
    read_ended: Condvar,
}

/// An fsync under way.
pub(crate) struct Sync<'a> {
    turns: &'a Turns,
    began: Duration,
}

impl Drop for Sync<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.under_way -= 1;
        state.ended = state.ended.wrapping_add(1);
        let now = self.turns.env.now();
        state.pace.sync_ended(self.began, now);
        drop(state);
        self.turns.sync_ended.notify_all();
    }
}

/// A piece that is being read.
pub(crate) struct Piece<'a> {
    turns: &'a Turns,
    began: Duration,
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.reads -= 1;
        let now = self.turns.env.now();
        state.pace.piece_ended(self.began, now);
        drop(state);
        self.turns.read_ended.notify_one();
    }
}

impl Turns {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        let state = Mutex::new(State { pace: Pace::new(), under_way: 0, ended: 0, reads: 0 });
        Self { env, state, sync_ended: Condvar::new(), read_ended: Condvar::new() }
    }

    /// Records the begin of an fsync; it ends when the result is dropped.
    pub(crate) fn begin_sync(&self) -> Sync<'_> {
        let mut state = self.state.lock();
        state.under_way += 1;
        Sync { turns: self, began: self.env.now() }
    }

    /// Whether no fsync is under way or was a moment ago.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        let now = self.env.now();
        state.under_way == 0 && state.pace.is_quiet(now)
    }

    /// Waits until a piece of `bytes` bytes is admitted; its read ends when the result is dropped.
    pub(crate) fn wait(&self, bytes: u64) -> Piece<'_> {
        let mut patience = PATIENCE_WITH_READS;
        loop {
            let mut state = self.state.lock();
            let now = self.env.now();
            if state.reads > 0 && !patience.is_zero() && !state.pace.is_quiet(now) {
                let waited = self.read_ended.wait_for(&mut state, patience);
                // Not by the clock alone: a simulated one may stand still.
                patience = match waited.timed_out() {
                    true => Duration::ZERO,
                    false => patience.saturating_sub(self.env.now().saturating_sub(now)),
                };
                continue;
            }
            let wait = state.pace.wait(bytes, now);
            if wait.is_zero() {
                state.reads += 1;
                let ended = state.ended;
                let still = |state: &mut State| state.under_way > 0 && state.ended == ended;
                let _ = self.sync_ended.wait_while_for(&mut state, still, PATIENCE);
                let now = self.env.now();
                let held = state.pace.held.saturating_sub(now);
                drop(state);
                // The fsync that ended meanwhile may have been the slow one.
                self.env.sleep(held);
                return Piece { turns: self, began: self.env.now() };
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
    fn run(pace: &mut Pace, from: Duration, millis: impl Fn(f64) -> f64) -> (Duration, f64) {
        let (mut now, mut sync, mut read) = (from, from, 0.0);
        while now < from + Duration::from_secs(10) {
            while sync <= now {
                let reads = now.saturating_sub(pace.cycle) >= WITHOUT;
                let took = Duration::from_secs_f64(millis(if reads { pace.rate } else { 0.0 }) / 1e3);
                pace.sync_ended(sync, sync + took);
                sync += took;
            }
            match pace.wait(PIECE, now) {
                Duration::ZERO => read += PIECE as f64,
                wait => now += wait.min(Duration::from_millis(1)),
            }
        }
        (now, read / 10.0)
    }

    #[test]
    fn the_disk_rests_after_a_piece_as_that_took() {
        let mut pace = Pace::new();
        let millis = Duration::from_millis;
        pace.rate = MOST_RATE;
        pace.sync_ended(millis(999), millis(1000));
        pace.cycle = millis(900);
        for (took, rest) in [(2, 3), (30, 45), (90, 100)] {
            let began = pace.next.max(millis(1000));
            pace.last_sync = Some(began);
            assert_eq!(pace.wait(PIECE, began), Duration::ZERO, "{took}");
            pace.piece_ended(began, began + millis(took));
            assert_eq!(pace.wait(PIECE, began + millis(took)), millis(rest), "{took}");
        }
        // Without active fsyncs the pause does not apply.
        assert_eq!(pace.wait(PIECE, pace.next + RECENTLY + millis(1)), Duration::ZERO);
    }

    #[test]
    fn without_syncs_there_is_no_rate() {
        let mut pace = Pace::new();
        let now = Duration::from_secs(5);
        assert!((0..1000).all(|_| pace.wait(PIECE, now).is_zero()));
        pace.sync_ended(now, now + Duration::from_millis(1));
        let soon = now + Duration::from_millis(2);
        assert!((0..1000).any(|_| !pace.wait(PIECE, soon).is_zero()));
        assert!(pace.wait(PIECE, now + Duration::from_secs(1)).is_zero(), "the last sync is long ago");
    }

    #[test]
    fn the_rate_is_what_the_disk_bears() {
        let mut pace = Pace::new();
        // Syncs become slower beyond 200 MB/s.
        let slows = |rate: f64| if rate > 200e6 { 4.0 } else { 1.0 };
        let (now, _) = run(&mut pace, Duration::from_secs(1), slows);
        let (now, read) = run(&mut pace, now, slows);
        assert!((100e6..220e6).contains(&read), "{read}");
        // A disk that bears no reads at all: reads continue at the least rate.
        let (now, _) = run(&mut pace, now, |rate| if rate > 0.0 { 4.0 } else { 1.0 });
        assert_eq!(pace.rate, LEAST_RATE);
        let (now, read) = run(&mut pace, now, |rate| if rate > 0.0 { 4.0 } else { 1.0 });
        assert!(read > LEAST_RATE / 2.0, "{read}");
        // One that bears everything.
        let (now, _) = run(&mut pace, now, |_| 1.0);
        let (_, _) = run(&mut pace, now, |_| 1.0);
        assert!(pace.rate > 1e8, "{}", pace.rate);
    }

    #[test]
    fn a_sync_between_two_times_says_nothing() {
        let mut pace = Pace::new();
        pace.cycle = Duration::from_secs(1);
        for (began, ended) in [(900, 1010), (1002, 1010), (1050, 1070)] {
            pace.sync_ended(Duration::from_millis(began), Duration::from_millis(ended));
        }
        assert!(pace.alone.last.is_empty() && pace.beside.last.is_empty());
        pace.sync_ended(Duration::from_millis(1010), Duration::from_millis(1012));
        pace.sync_ended(Duration::from_millis(1100), Duration::from_millis(1500));
        assert_eq!((pace.alone.last.len(), pace.beside.last.len()), (1, 1));
    }

    #[test]
    fn few_syncs_judge_nothing() {
        let mut pace = Pace::new();
        pace.judge();
        (0..REMEMBERED).for_each(|_| pace.alone.add(Duration::from_millis(1)));
        pace.judge();
        (1..ENOUGH).for_each(|_| pace.beside.add(Duration::from_millis(9)));
        pace.judge();
        assert_eq!(pace.rate, FIRST_RATE);
        pace.beside.add(Duration::from_millis(9));
        pace.judge();
        assert!(pace.rate < FIRST_RATE);
        // The same spread in few as in many: neither looks slower.
        let spread = |at: usize| Duration::from_millis(if at.is_multiple_of(6) { 9 } else { 1 });
        (0..REMEMBERED).for_each(|at| pace.alone.add(spread(at)));
        (0..ENOUGH).for_each(|at| pace.beside.add(spread(at)));
        let before = pace.rate;
        pace.judge();
        assert!(pace.rate > before);
    }

    #[test]
    fn a_sync_far_slower_than_usual_has_reads_stand_back_but_not_for_good() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new();
        let (now, _) = run(&mut pace, ms(1_000), |_| 1.0);
        assert_eq!(pace.usual, Some(ms(1)));
        // A new cycle, past the time without reads.
        let mut now = now + CYCLE;
        pace.sync_ended(now - ms(1), now);
        assert_eq!(pace.wait(PIECE, now), WITHOUT);
        now += WITHOUT;
        pace.sync_ended(now - ms(2), now);
        assert!(pace.wait(PIECE, now).is_zero(), "a little slower is nothing");
        now += ms(20);
        pace.sync_ended(now - ms(6), now);
        assert_eq!(pace.wait(PIECE, now), STANDING_BACK);
        pace.sync_ended(now - ms(6), now + ms(4));
        assert_eq!(pace.wait(PIECE, now + ms(4)), STANDING_BACK, "counted from the last one");
        assert_eq!(pace.held_in_cycle, STANDING_BACK + ms(4), "time counts once");
        assert!(pace.wait(PIECE, now + ms(14)).is_zero());
        // All are slow from here on: reads go on within the cycle.
        let began = now;
        while pace.wait(PIECE, now) > ms(1) {
            now += ms(1);
            pace.sync_ended(now - ms(6), now);
        }
        assert!(now - began <= STANDING_BACK_MOST + STANDING_BACK, "{:?}", now - began);
    }

    /// Beside syncs one piece is read at a time; the next waits for it, though not for ever.
    #[test]
    fn beside_syncs_pieces_are_read_one_at_a_time() {
        let (turns, done) = (Turns::new(Arc::new(MachineEnv::default())), AtomicBool::new(false));
        thread::scope(|scope| {
            let syncs = scope.spawn(|| {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !done.load(Ordering::Relaxed) {
                    drop(turns.begin_sync());
                    thread::sleep(Duration::from_millis(1));
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                longest
            });
            while turns.is_quiet() {
                thread::yield_now();
            }
            let first = turns.wait(PIECE);
            let asked = Instant::now();
            let second = turns.wait(PIECE);
            let waited = asked.elapsed();
            drop((first, second));
            done.store(true, Ordering::Relaxed);
            // Unless the machine kept that thread from syncing: then nobody has to wait.
            let paused = syncs.join().unwrap() >= RECENTLY / 2;
            assert!(waited >= PATIENCE_WITH_READS || paused, "the first was still under way after {waited:?}");
        });
    }
}
