//! Waits for a lock or a disk that an async worker may come upon: the worker's other tasks go on elsewhere meanwhile.
//!
//! Locks around an append are free nearly always, so taking one needs no thread of its own. Where another thread holds one across
//! I/O (a replica that is put in place in another log dir, a retention pass), tokio's `block_in_place` hands the worker's queue to another
//! thread and only the waiting task is blocked. Must never be used for a lock that is held across an await.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// How long a lock is waited for in place.
const TRY_LOCK_FOR: Duration = Duration::from_micros(200);

/// Runs a step that may block. A runtime of one thread has no other to hand its tasks to.
pub fn run(step: &mut dyn FnMut()) {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(step),
        _ => step(),
    }
}

/// Takes a lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock_for(TRY_LOCK_FOR).unwrap_or_else(|| run_once(|| mutex.lock()))
}

/// Takes a lock for reading.
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.try_read_for(TRY_LOCK_FOR).unwrap_or_else(|| run_once(|| lock.read()))
}

/// Takes a lock for writing.
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.try_write_for(TRY_LOCK_FOR).unwrap_or_else(|| run_once(|| lock.write()))
}

fn run_once<R>(mut step: impl FnMut() -> R) -> R {
    let mut result = None;
    run(&mut || result = Some(step()));
    result.unwrap_or_else(step)
}

#[cfg(test)]
mod tests;
