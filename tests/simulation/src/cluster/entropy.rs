//! Randomness that does not come through the broker's environment: openraft's election time-outs, the order in which `select!` polls, and the
//! keys of hash maps. All of it begins with the C library's `getrandom`, once a thread: this test program has its own, which gives the seed's
//! bytes to the thread of a run.
//!
//! Panics of the broker's tasks are counted here, too: tokio keeps them from the run.
#![allow(unsafe_code, reason = "the C library's function cannot be replaced without it")]

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::sync::Once;

use crate::rng::Rng;

thread_local! {
    static GENERATOR: RefCell<Option<Rng>> = const { RefCell::new(None) };
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// From now on this thread's randomness is that of `seed`.
pub fn seed(seed: u64) {
    GENERATOR.with(|generator| *generator.borrow_mut() = Some(Rng::new(seed ^ 0x5eed)));
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            report(panic);
        }));
    });
}

/// Panics on this thread.
pub fn panics() -> usize {
    PANICS.with(Cell::get)
}

/// Fills `buffer` from the thread's generator; false where it has none.
fn fill_seeded(buffer: &mut [u8]) -> bool {
    let filled = GENERATOR.try_with(|generator| {
        let Ok(mut generator) = generator.try_borrow_mut() else { return false };
        let Some(generator) = generator.as_mut() else { return false };
        buffer.iter_mut().for_each(|byte| *byte = generator.next() as u8);
        true
    });
    filled.unwrap_or(false)
}

/// In place of the C library's.
///
/// # Safety
/// `buffer` has room for `length` bytes, as `getrandom(2)` says.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller gives `length` bytes that it may write.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let filled = fill_seeded(buffer) || machine_random(buffer);
    if filled { length as isize } else { -1 }
}

fn machine_random(buffer: &mut [u8]) -> bool {
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(buffer)).is_ok()
}
