//! One journal a log dir: what many logs must bring to disk goes there with one sync.
//!
//! A sync of a segment that grew makes the file system commit its own journal, and each log needs one of its own. Here a round writes the new
//! batches of all logs that wait, one after the other, into a file that was written before and does not grow, and one `fdatasync` makes
//! all of them durable: on ext4, 16 logs of 16 KiB in 0.34 ms instead of 8.9 ms. The segments have the same bytes in the page cache, and
//! are synced later and in large pieces, before the journal's file is used again. The journal is not read until a start after
//! a crash, which writes what the segments lack.
//!
//! The files are a ring. Each is written once with zeros (ahead, in steps that double) before a round may lie in it. A file is used again once
//! every log with entries in it has its segments synced past them ([`Journal::keep_up`], on a thread of its own). Where the ring has no room, the caller syncs
//! the segments instead: no flush waits for the ring.
//!
//! Order of locks: a log's writer, then `preparing`, then `ring`. Who makes the ring ahead holds none of the last two while it flushes a log.
//!
//! Must never: write an entry of a log that was truncated after its bytes were picked up; use a file again that a log needs; answer before
//! the sync returned; go on after a write or sync that failed.

mod choose;
mod format;
mod open;
mod replay;
mod ring;
mod rounds;
mod scan;
#[cfg(test)]
mod tests;
mod user;

pub(crate) use format::{EntryHeader, Kind};
pub(crate) use open::{Found, has_files, open, remove_files};
pub(crate) use replay::{Replay, replay_journal};
pub use rounds::{Journal, JournalStats};
pub(crate) use scan::Entry;
pub(crate) use user::{JournaledLog, NotByJournal, Picked, Spot};
