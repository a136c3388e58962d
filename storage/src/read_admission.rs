//! Admission control of cold reads beside fsyncs: a producer waits for an fsync to be acknowledged, while a lagging consumer has time.
//!
//! While fsyncs are active, of the journal or of segments, cold reads are admitted one piece at a time: behind four queued reads an fsync
//! would wait for all four. A piece begins when the fsync under way has ended, or after a bounded wait, so that neither starves the
//! other. After each piece the disk gets a pause in proportion to the duration of the piece: it is the fsyncs' for most of the time, and a
//! disk that slows down is read less. Without fsyncs nothing waits.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use crate::Env;

/// The longest that a piece waits for the fsync under way.
const PATIENCE: Duration = Duration::from_millis(5);
/// The longest that a piece waits for the piece before it, which may be on another disk that hangs.
const PATIENCE_WITH_READS: Duration = Duration::from_millis(50);
/// Fsyncs count as active for so long after the last one.
const SYNC_ACTIVE_FOR: Duration = Duration::from_millis(200);
/// The pause after a piece is so many times the duration of the piece, up to a maximum.
const PAUSE_RATIO: f64 = 1.5;
const MAX_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    syncs_in_progress: usize,
    syncs_ended: u64,
    last_sync: Option<Duration>,
    /// Admitted reads that have not ended.
    reads_in_progress: usize,
    /// When the next piece may begin.
    next: Duration,
}

impl State {
    fn is_quiet(&self, now: Duration) -> bool {
        self.syncs_in_progress == 0 && self.last_sync.is_none_or(|last| now.saturating_sub(last) > SYNC_ACTIVE_FOR)
    }

    /// How long the next piece must wait for the pause after the last one.
    fn pause(&self, now: Duration) -> Duration {
        if self.is_quiet(now) { Duration::ZERO } else { self.next.saturating_sub(now) }
    }

    fn end_read(&mut self, began: Duration, now: Duration) {
        self.reads_in_progress -= 1;
        let pause = now.saturating_sub(began).mul_f64(PAUSE_RATIO).min(MAX_PAUSE);
        self.next = self.next.max(now + pause);
    }
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
}

impl Drop for SyncInProgress<'_> {
    fn drop(&mut self) {
        let now = self.admission.env.now();
        let mut state = self.admission.state.lock();
        state.syncs_in_progress -= 1;
        state.syncs_ended = state.syncs_ended.wrapping_add(1);
        state.last_sync = Some(now);
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
        let now = self.admission.env.now();
        self.admission.state.lock().end_read(self.began, now);
        self.admission.read_ended.notify_one();
    }
}

impl ReadAdmission {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        Self { env, state: Mutex::default(), sync_ended: Condvar::new(), read_ended: Condvar::new() }
    }

    /// Records the begin of an fsync; it ends when the result is dropped.
    pub(crate) fn begin_sync(&self) -> SyncInProgress<'_> {
        self.state.lock().syncs_in_progress += 1;
        SyncInProgress { admission: self }
    }

    /// Whether no fsync is under way or was a moment ago.
    pub(crate) fn is_quiet(&self) -> bool {
        let now = self.env.now();
        self.state.lock().is_quiet(now)
    }

    /// Waits until the next piece is admitted; its read ends when the result is dropped.
    pub(crate) fn admit_read(&self) -> ReadPermit<'_> {
        let mut patience = PATIENCE_WITH_READS;
        loop {
            let mut state = self.state.lock();
            let now = self.env.now();
            if state.reads_in_progress > 0 && !patience.is_zero() && !state.is_quiet(now) {
                let waited = self.read_ended.wait_for(&mut state, patience);
                // Not by the clock: a simulated one may stand still.
                patience = match waited.timed_out() {
                    true => Duration::ZERO,
                    false => patience.saturating_sub(self.env.now().saturating_sub(now)),
                };
                continue;
            }
            let pause = state.pause(now);
            if pause.is_zero() {
                state.reads_in_progress += 1;
                let ended = state.syncs_ended;
                let still = |state: &mut State| state.syncs_in_progress > 0 && state.syncs_ended == ended;
                let _ = self.sync_ended.wait_while_for(&mut state, still, PATIENCE);
                drop(state);
                return ReadPermit { admission: self, began: self.env.now() };
            }
            drop(state);
            self.env.sleep(pause);
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

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn reads_pause_in_proportion_to_their_duration() {
        let mut state = State { last_sync: Some(millis(1000)), ..State::default() };
        for (took, rest) in [(2, 3), (30, 45), (90, 100)] {
            let began = state.next.max(millis(1000));
            state.last_sync = Some(began);
            state.reads_in_progress = 1;
            assert_eq!(state.pause(began), Duration::ZERO, "{took}");
            state.end_read(began, began + millis(took));
            assert_eq!(state.pause(began + millis(took)), millis(rest), "{took}");
        }
    }

    #[test]
    fn without_syncs_nothing_pauses() {
        let mut state = State { last_sync: Some(millis(1000)), reads_in_progress: 1, ..State::default() };
        state.end_read(millis(1120), millis(1160));
        assert_eq!(state.pause(millis(1160)), millis(60));
        assert_eq!(state.pause(millis(1201)), Duration::ZERO, "the last sync is long ago");
        state.syncs_in_progress = 1;
        assert_eq!(state.pause(millis(1201)), millis(19), "one that hangs is active");
    }

    /// Beside syncs one piece is read at a time; the next waits for it, though not for ever.
    #[test]
    fn beside_syncs_pieces_are_read_one_at_a_time() {
        let (admission, done) = (ReadAdmission::new(Arc::new(MachineEnv::default())), AtomicBool::new(false));
        thread::scope(|scope| {
            let syncs = scope.spawn(|| {
                // All times lie between two marks, the last of which comes after the end: no pause is missed.
                let mut marks = vec![Instant::now()];
                while !done.load(Ordering::Acquire) {
                    drop(admission.begin_sync());
                    thread::sleep(Duration::from_millis(1));
                    marks.push(Instant::now());
                }
                marks.push(Instant::now());
                marks.windows(2).map(|two| two[1] - two[0]).max().unwrap()
            });
            while admission.is_quiet() {
                thread::yield_now();
            }
            let first = admission.admit_read();
            let asked = Instant::now();
            let second = admission.admit_read();
            let waited = asked.elapsed();
            drop((first, second));
            done.store(true, Ordering::Release);
            // Unless the scheduler kept that thread from syncing: then no read has to wait.
            let paused = syncs.join().unwrap() >= SYNC_ACTIVE_FOR / 2;
            assert!(waited >= PATIENCE_WITH_READS || paused, "the first was still under way after {waited:?}");
        });
    }
}
