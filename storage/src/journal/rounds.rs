//! The journal of one log dir: its rounds, and the notes that void what it holds.

use std::{
    io::IoSlice,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    choose::{Costs, Way},
    format::{ENTRY_HEADER, EntryHeader, Kind, PAGE, ROUND_HEADER, RoundHeader, align},
    ring::{Place, Ring},
    scan::Key,
    user::{JournaledLog, NotByJournal, Pending},
};
use crate::{Env, Uuid, error::FileError, io::Context, io::Disk, read_admission::ReadAdmission};

/// Padding of a round.
const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// See the module.
#[derive(Debug)]
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) env: Arc<dyn Env>,
    /// Cold reads wait for rounds.
    pub(super) read_admission: Arc<ReadAdmission>,
    pub(super) dir: PathBuf,
    pub(super) directory_id: Uuid,
    pub(super) ring: Mutex<Ring>,
    pub(super) costs: Mutex<Costs>,
    /// Something failed: nothing is written any more.
    pub(super) broken: AtomicBool,
    /// What failed takes the log dir offline.
    pub(super) failed: AtomicBool,
    /// A thread keeps up.
    pub(super) keeping_up: AtomicBool,
    /// Held while zeros are written.
    pub(super) preparing: Mutex<()>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rounds: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) without_room: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) replayed: AtomicU64,
}

/// What a journal has done, and how full it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournalStats {
    /// Rounds that were written.
    pub rounds: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rounds that found no room, so that segments were synced instead.
    pub without_room: u64,
    /// Places in which the last start found the journal damaged.
    pub damaged: u64,
    /// Bytes that segments lacked at the last start.
    pub replayed: u64,
    /// Bytes of the files that are prepared.
    pub prepared: u64,
    /// Bytes that are needed until segments are synced past them.
    pub used: u64,
    /// Of those, the bytes in files that are full and wait for their segments.
    pub behind: u64,
}

/// Whether a round was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is on disk.
    Yes,
    /// There is no room for it.
    NoRoom,
}

impl Journal {
    /// So long took the sync of a segment with so many new bytes, as one of some that were synced side by side.
    pub fn note_segments(&self, took: Duration, segments: usize, bytes: u64) {
        self.costs.lock().note_segments(took, segments, bytes);
    }

    /// Whether [`Journal::keep_up`] has something to do.
    pub fn is_behind(&self) -> bool {
        !self.keeping_up.load(Ordering::Acquire) && !self.broken.load(Ordering::Acquire) && self.ring.lock().is_behind()
    }

    /// The disk failed under it: the log dir is offline.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// A write or sync failed: nothing is written any more. A full disk passes, but for syncs.
    pub(super) fn note_failure(&self, error: &FileError) {
        if error.is_full() && !error.is_sync() || error.is_exhausted() {
            return;
        }
        self.broken.store(true, Ordering::Release);
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.dir.display(), %error, "log dir is offline: its journal cannot be written; restart the broker once the disk is sound");
        }
    }

    /// So many bytes of it were written to a segment that lacked them.
    pub(crate) fn note_replayed(&self, bytes: u64) {
        self.counters.replayed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What it has done.
    pub fn stats(&self) -> JournalStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (prepared, used, behind) = self.ring.lock().fill();
        let Counters { rounds, bytes, without_room, damaged, replayed } = &self.counters;
        JournalStats {
            rounds: of(rounds),
            bytes: of(bytes),
            without_room: of(without_room),
            damaged: of(damaged),
            replayed: of(replayed),
            prepared,
            used,
            behind,
        }
    }

    /// Brings the new batches of these logs of this dir to disk with one sync, where that is the cheaper way, and moves their durable
    /// offsets. Of the others, whose numbers are returned, the segments must be synced. Blocks for the disk. After an error nothing is known
    /// of what was written.
    pub(crate) fn flush(&self, logs: &[Option<Arc<dyn JournaledLog>>]) -> Result<Vec<usize>, FileError> {
        if self.broken.load(Ordering::Acquire) {
            return Ok((0..logs.len()).collect());
        }
        let mut others = Vec::new();
        let mut picked = Vec::new();
        for (number, log) in logs.iter().enumerate() {
            match log.as_ref().map(|log| (log, log.take_unflushed())) {
                Some((log, Ok(Some(one)))) => picked.push((number, log, one)),
                Some((_, Ok(None))) => {}
                // It lies in another log dir, or cannot go this way.
                None | Some((_, Err(NotByJournal))) => others.push(number),
            }
        }
        let bytes = picked.iter().map(|(_, _, one)| one.bytes()).sum();
        let way = self.costs.lock().decide(picked.len(), bytes);
        if way == Way::Journal {
            picked.retain_mut(|(number, log, one)| {
                let sound = log.add_checksums(one).is_ok();
                if !sound {
                    log.return_unflushed(one);
                    others.push(*number);
                }
                sound
            });
        }
        if picked.is_empty() {
            others.sort_unstable();
            return Ok(others);
        }
        let entries = || picked.iter().flat_map(|(_, log, one)| one.entries(log));
        let holds = |one: &Pending<'_>| one.round_of.is_none_or(|(log, picked)| log.is_unflushed(picked, &one.header));
        let written = match way {
            Way::Journal => self.write(entries, &holds, false),
            Way::Segments => Ok(Written::NoRoom),
        };
        let done = matches!(written, Ok(Written::Yes));
        for (number, log, one) in &picked {
            if !done || !log.note_durable(one) {
                log.return_unflushed(one);
                others.push(*number);
            }
        }
        others.sort_unstable();
        written.map(|_| others)
    }

    /// Everything of a log from `offset` on is void. Does nothing if the journal holds nothing of it. Blocks for the disk.
    pub(crate) fn void(&self, key: Key, offset: i64) -> Result<(), FileError> {
        self.note(key, Kind::Void, offset)
    }

    /// Everything of a log below `offset` is in its segments and on disk, and may be written anew there. Blocks for the disk.
    pub(crate) fn synced(&self, key: Key, offset: i64) -> Result<(), FileError> {
        self.note(key, Kind::Synced, offset)
    }

    fn note(&self, key: Key, kind: Kind, offset: i64) -> Result<(), FileError> {
        if !self.ring.lock().holds(&key) {
            return Ok(());
        }
        let header = EntryHeader {
            kind,
            topic_id: key.0,
            partition: key.1,
            segment: 0,
            position: 0,
            leader_epoch: -1,
            first_offset: offset,
            next_offset: offset,
            bytes: 0,
            crc: crc32c::crc32c(&[]),
        };
        let entry = || std::iter::once(Pending { header, bytes: Bytes::new(), round_of: None });
        if self.write(entry, &|_| true, false)? == Written::Yes {
            return Ok(());
        }
        // It must be written: behind what is prepared then, while no thread writes zeros there.
        let _preparing = self.preparing.lock();
        match self.write(entry, &|_| true, true)? {
            Written::Yes => Ok(()),
            Written::NoRoom => {
                let source = std::io::Error::other("the journal failed before");
                Err(FileError { action: "write to", path: self.dir.clone(), source })
            }
        }
    }

    /// Writes a round and syncs it; `anyway`: also behind what is prepared. Entries for which `holds` says no, when nobody else can write,
    /// are left out.
    fn write<'a, I: Iterator<Item = Pending<'a>>>(
        &self,
        pending: impl Fn() -> I,
        holds: &dyn Fn(&Pending<'a>) -> bool,
        anyway: bool,
    ) -> Result<Written, FileError> {
        let mut ring = self.ring.lock();
        if self.broken.load(Ordering::Acquire) {
            return Ok(Written::NoRoom);
        }
        let entries: Vec<Pending<'a>> = pending().filter(holds).collect();
        if entries.is_empty() {
            return Ok(Written::Yes);
        }
        let length = length_of(&entries);
        let began = self.env.now();
        let place = if anyway { ring.place_anyway() } else { ring.place(align(length), self.directory_id) };
        let Some(place) = place else {
            self.counters.without_room.fetch_add(1, Ordering::Relaxed);
            return Ok(Written::NoRoom);
        };
        let sync = self.read_admission.begin_sync();
        let written = write_file(&mut ring, &place, &entries);
        drop(sync);
        match written {
            Ok(bytes) => {
                ring.advance(&place, bytes, &entries);
                drop(ring);
                self.costs.lock().note_journal(self.env.now().saturating_sub(began), bytes);
                self.counters.rounds.fetch_add(1, Ordering::Relaxed);
                self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(Written::Yes)
            }
            // On a full disk a note may find no room, nor the header of a file on one that writes blocks anew. What is there was not
            // acknowledged, and the next round goes to its place. It may be there in full all the same: then a truncation has to void it.
            Err(error) if error.is_full() && !error.is_sync() => {
                ring.hold_all(&place, &entries);
                Err(error)
            }
            Err(error) => {
                ring.fail();
                self.broken.store(true, Ordering::Release);
                self.note_failure(&error);
                Err(error)
            }
        }
    }
}

/// Bytes of a round, without the padding.
fn length_of(entries: &[Pending<'_>]) -> u64 {
    let bytes: u64 = entries.iter().map(|one| one.bytes.len() as u64 + ENTRY_HEADER as u64).sum();
    bytes.saturating_add(ROUND_HEADER as u64)
}

/// Brings a round to disk; returns its bytes with the padding. The header of its file is synced before, where it is not yet: else a
/// power cut might leave the old header with the old rounds half overwritten, which looks like damage.
fn write_file(ring: &mut Ring, place: &Place, entries: &[Pending<'_>]) -> Result<u64, FileError> {
    let (file, path) = (&place.file, &place.path);
    if let Some(header) = &place.header {
        file.write_at(&mut [IoSlice::new(header)], 0).context("write to", path)?;
        file.sync_data().context("sync", path)?;
        ring.header_written();
    }
    let bytes = write_round(place, entries).context("write to", path)?;
    file.sync_data().context("sync", path)?;
    Ok(bytes)
}

/// Writes a round; returns its bytes with the padding.
fn write_round(place: &Place, entries: &[Pending<'_>]) -> std::io::Result<u64> {
    let length = length_of(entries);
    let mut heads = Vec::with_capacity(ROUND_HEADER + entries.len() * ENTRY_HEADER);
    let round = RoundHeader {
        generation: place.generation,
        sequence: place.sequence,
        entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        bytes: length,
    };
    round.encode(&mut heads, place.position);
    for (one, sequence) in entries.iter().zip(place.sequence..) {
        one.header.encode(&mut heads, place.generation, sequence);
    }
    let mut heads = heads.as_slice();
    let mut next = |length: usize| {
        let (head, rest) = heads.split_at_checked(length).unwrap_or((heads, &[]));
        heads = rest;
        IoSlice::new(head)
    };
    let mut parts = Vec::with_capacity(entries.len() * 2 + 2);
    parts.push(next(ROUND_HEADER));
    for one in entries {
        parts.push(next(ENTRY_HEADER));
        parts.push(IoSlice::new(&one.bytes));
    }
    let padding = usize::try_from(align(length) - length).unwrap_or_default();
    parts.push(IoSlice::new(ZEROS.get(..padding).unwrap_or_default()));
    place.file.write_at(&mut parts, place.position)?;
    Ok(align(length))
}
