//! Steps of an append that may wait for the disk, although the caller may be an async worker.
//!
//! Nearly every append is one short write into the page cache, so it runs where the caller is. Some wait: for the writer's lock, while a
//! retention pass, an index save or a move between log dirs holds it for I/O; for a new segment's files; for space that is reserved
//! ahead. Such steps go through the hook that an async caller installs (the broker's hands the worker's other tasks to
//! another thread); without one they run in place.
//!
//! Must never: be used for what every append does. A step through the hook costs some microseconds.

use std::{sync::OnceLock, time::Duration};

use parking_lot::{Mutex, MutexGuard};

/// Runs a step that may block.
pub type BlockingHook = fn(&mut dyn FnMut());

static HOOK: OnceLock<BlockingHook> = OnceLock::new();

/// How long a lock is waited for in place: other appends hold it for less.
const PATIENCE: Duration = Duration::from_micros(200);

/// Installs the hook of this process; the first one stays.
pub fn set_blocking_hook(hook: BlockingHook) {
    let _ = HOOK.set(hook);
}

/// Runs `step`, which may wait for the disk.
pub(crate) fn run<R>(mut step: impl FnMut() -> R) -> R {
    let mut result = None;
    if let Some(hook) = HOOK.get() {
        hook(&mut || result = Some(step()));
    }
    result.unwrap_or_else(step)
}

/// Takes a lock that another thread may hold while it waits for the disk.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock_for(PATIENCE).unwrap_or_else(|| run(|| mutex.lock()))
}
