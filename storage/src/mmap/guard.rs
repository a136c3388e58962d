//! Turns a bus error in a mapped file into damage of that map.
//!
//! A page of a map that lies past the end of its file (another process cut the file), or that the disk cannot read, raises SIGBUS
//! at the touch, and by default that ends the process. The handler here finds the address in the table of registered maps, marks
//! the map as damaged from that page on, and maps zeros over the rest of it, so that the touch succeeds. Readers check the mark
//! after the touch and never serve the zeros (systemd's journald does the same).
//!
//! The handler runs on the thread that touched the page, at any instruction. It must never: take a lock, allocate, log, or touch a
//! map. All it uses is a fixed table of atomics and one `mmap`. A fault at an address outside of all registered maps goes to the
//! previous handler (Rust's own, which reports a stack overflow or ends the process).
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    io, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

use parking_lot::Mutex;

/// Maps that can be registered at once: twice the kernel's usual bound on the maps of a process (`vm.max_map_count`). Memory
/// that was never used costs nothing.
const SLOTS: usize = 1 << 17;

/// One registered map. Only zeros while it is free, so that the table needs no place in the binary.
struct Slot {
    /// First address; 0 while the slot is free. Written last when a map is registered, first when it is deregistered.
    start: AtomicUsize,
    /// In whole pages.
    len: AtomicUsize,
    /// `usize::MAX` less the offset of the first damaged page; 0 for a sound map. A larger mark is an earlier page.
    mark: AtomicUsize,
}

static TABLE: [Slot; SLOTS] =
    [const { Slot { start: AtomicUsize::new(0), len: AtomicUsize::new(0), mark: AtomicUsize::new(0) } }; SLOTS];
/// Slots from there on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());
/// Registered maps that are damaged.
static DAMAGED: AtomicUsize = AtomicUsize::new(0);
/// Maps that found no slot.
static UNGUARDED: AtomicUsize = AtomicUsize::new(0);
/// Bytes of a page; 0 until the handler is installed.
static PAGE: AtomicUsize = AtomicUsize::new(0);
/// The previous handler of the signal.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Whether any map is damaged: one relaxed load.
pub fn is_any_damaged() -> bool {
    // The load must not move before the touches that it is about.
    fence(Ordering::Acquire);
    DAMAGED.load(Ordering::Relaxed) > 0
}

/// Maps without a slot: a bus error in one of them ends the process.
pub fn unguarded_maps() -> usize {
    UNGUARDED.load(Ordering::Relaxed)
}

/// A map's place in the table. Must be dropped before the map is unmapped.
#[derive(Debug)]
pub(super) struct Registration(Option<&'static Slot>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({:#x})", self.start.load(Ordering::Relaxed))
    }
}

/// The damage mark of one map, from [`Registration::mark`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(Option<&'static Slot>);

impl Mark {
    /// Offset in the map from which its bytes are not the file's; `None` for a sound map. To be called after the touch.
    pub(super) fn damaged_from(self) -> Option<usize> {
        // The handler sets the mark before it maps the zeros: a reader that saw a zero sees the mark, if the load stays behind the touch.
        fence(Ordering::Acquire);
        match self.0?.mark.load(Ordering::Relaxed) {
            0 => None,
            mark => Some(usize::MAX - mark),
        }
    }
}

impl Registration {
    /// Registers a map that was just made.
    pub(super) fn new(start: usize, len: usize) -> Self {
        install();
        let free = FREE.lock().pop();
        let slot = free.or_else(|| {
            let next =
                USED.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| (used < SLOTS).then_some(used + 1));
            TABLE.get(next.ok()?)
        });
        let Some(slot) = slot else {
            UNGUARDED.fetch_add(1, Ordering::Relaxed);
            return Self(None);
        };
        let page = PAGE.load(Ordering::Relaxed).max(1);
        slot.mark.store(0, Ordering::SeqCst);
        slot.len.store(len.div_ceil(page).saturating_mul(page), Ordering::SeqCst);
        slot.start.store(start, Ordering::SeqCst);
        Self(Some(slot))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.0)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(slot) = self.0 else {
            UNGUARDED.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        slot.start.store(0, Ordering::SeqCst);
        if slot.mark.load(Ordering::SeqCst) != 0 {
            DAMAGED.fetch_sub(1, Ordering::SeqCst);
        }
        FREE.lock().push(slot);
    }
}

/// Installs the handler, once.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        PAGE.store(rustix::param::page_size(), Ordering::Relaxed);
        if let Err(error) = set_handler() {
            tracing::warn!(%error, "no handler for SIGBUS: a data file that another process cuts short ends this one");
        }
    });
}

fn set_handler() -> io::Result<()> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
    // SAFETY: `sigaction` is plain data, for which zeros are valid: no flags, an empty mask, the default action.
    let (mut previous, mut ours): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are valid for the call; a null action only asks for the one in force.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Before the handler can run, which reads it.
    let _ = PREVIOUS.set(previous);
    ours.sa_sigaction = handler as *const () as usize;
    // On the alternate stack that Rust gives each thread: the handler before ours may have a stack overflow to report.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, lives as long as the process, and calls nothing that is
    // not async-signal-safe.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives an SA_SIGINFO handler a valid `info`; for a SIGBUS that it raised itself (a positive code) the
    // address is set.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // SAFETY: the location of this thread's errno is always valid. The thread was interrupted, and may read its errno next.
    let errno = unsafe { *libc::__errno_location() };
    let covered = code > 0 && cover(address);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if !covered {
        pass_on(signal, info, context);
    }
}

/// Marks the map that `address` lies in, and maps zeros over it from that page on. False if no registered map holds it.
fn cover(address: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed).max(1);
    let used = USED.load(Ordering::Acquire).min(SLOTS);
    for slot in TABLE.iter().take(used) {
        let start = slot.start.load(Ordering::SeqCst);
        let len = slot.len.load(Ordering::SeqCst);
        let Some(offset) = address.checked_sub(start).filter(|offset| start != 0 && *offset < len) else { continue };
        // The slot may have been given to another map between the two loads. The map that this thread touches stays where it is.
        if slot.start.load(Ordering::SeqCst) != start {
            continue;
        }
        let from = offset - offset % page;
        return mark_and_map(slot, start, from, len) || mark_and_map(slot, start, 0, len);
    }
    false
}

/// Mapping the part behind `from` may need one map more than the kernel allows; mapping all of it (`from` 0) replaces the existing
/// map.
fn mark_and_map(slot: &Slot, start: usize, from: usize, len: usize) -> bool {
    // The mark first: a reader that sees a zero must see it.
    if slot.mark.fetch_max(usize::MAX - from, Ordering::SeqCst) == 0 {
        DAMAGED.fetch_add(1, Ordering::SeqCst);
    }
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let at = ptr::without_provenance_mut::<c_void>(start + from);
    // SAFETY: the range lies in a map of this crate, in whole pages, and this thread reads from that map, so it is not being unmapped. Its
    // pages can no longer be read from the file; readers know by the mark that what they get is not the file's.
    let mapped = unsafe { libc::mmap(at, len - from, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Calls the previous handler.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.get();
    let action = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // SAFETY: plain data, for which zeros are valid: the default action. The signal is blocked until this handler returns; then
        // it ends the process.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
            libc::raise(signal);
        }
        return;
    }
    if previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0) {
        // SAFETY: it was installed with SA_SIGINFO, so it has this signature.
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    } else {
        // SAFETY: it was installed without SA_SIGINFO, so it has this signature.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(action) };
        handler(signal);
    }
}
