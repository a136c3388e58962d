//! Reads of cold data and syncs take turns on the disk: somebody waits for a sync to be acknowledged, while a consumer that is a day
//! behind has time. A cold read that finds a sync under way begins its next piece when that has ended, or after a while; and as long as
//! somebody syncs now and then, it rests after each piece for as long as that took, so that the disk's own queue is not full of
//! reads when the next sync comes. Neither can starve the other.

use std::{
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// A read waits for so long at most before each piece.
const PATIENCE: Duration = Duration::from_millis(20);

/// Somebody who synced so recently will sync again.
const RECENTLY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Syncs {
    under_way: usize,
    ended: u64,
    last: Option<Instant>,
}

impl Syncs {
    fn are_quiet(&self) -> bool {
        self.under_way == 0 && self.last.is_none_or(|last| last.elapsed() > RECENTLY)
    }
}

static SYNCS: Mutex<Syncs> = Mutex::new(Syncs { under_way: 0, ended: 0, last: None });
static ENDED: Condvar = Condvar::new();

/// A sync under way.
pub(crate) struct Sync(());

impl Sync {
    pub(crate) fn begin() -> Self {
        SYNCS.lock().under_way += 1;
        Self(())
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        let mut syncs = SYNCS.lock();
        syncs.under_way -= 1;
        syncs.ended = syncs.ended.wrapping_add(1);
        syncs.last = Some(Instant::now());
        drop(syncs);
        ENDED.notify_all();
    }
}

/// Whether nobody waits for a sync, or has just waited for one.
pub(crate) fn is_quiet() -> bool {
    SYNCS.lock().are_quiet()
}

/// After a piece that took so long.
pub(crate) fn rest(took: Duration) {
    if !is_quiet() {
        thread::sleep(took.min(PATIENCE));
    }
}

/// Waits for the sync that is under way, if any.
pub(crate) fn wait() {
    let mut syncs = SYNCS.lock();
    let ended = syncs.ended;
    let _ = ENDED.wait_while_for(&mut syncs, |now| now.under_way > 0 && now.ended == ended, PATIENCE);
}
