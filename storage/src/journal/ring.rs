//! The files of a journal: which one is written, which are free, and what the others wait for.
//!
//! Files are used in a circle, oldest first, so that what a file holds is never older than what the file before holds. A file is free
//! when each log with entries in it has its segments synced past them. Its old entries stay readable until it is written again, or
//! until a file's header raises the floor above its generation; for that long the logs that they are of count as held.
//!
//! Must never: give out a place in a file that is not free, or one that is not written with zeros yet.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use super::{
    format::{FileHeader, PAGE, align},
    scan::Key,
    user::{JournaledLog, Pending},
};
use crate::{Uuid, io::LogFile};

/// Files of a journal.
pub(super) const FILES: usize = 4;
/// A file is prepared in steps of at least so many bytes, each as large as all before.
const FIRST_STEP: u64 = 1 << 20;
/// Name of a file in the log dir, before its number.
pub(super) const NAME: &str = "esker-journal-";

/// A log with entries in a file.
#[derive(Debug)]
struct User {
    log: Weak<dyn JournaledLog>,
    /// Its segments must be on disk up to here.
    next_offset: i64,
}

/// One file.
#[derive(Debug, Default)]
struct Slot {
    path: PathBuf,
    file: Option<Arc<dyn LogFile>>,
    /// Written before, and on disk, up to here.
    prepared: u64,
    /// Of its last use; 0 if there was none.
    generation: u64,
    /// Where the next round begins, in the file that is written.
    position: u64,
    users: BTreeMap<Key, User>,
    /// Logs with entries that a start after a crash would find.
    held: HashSet<Key>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    /// Bytes that a file may have.
    file_bytes: u64,
    current: Option<usize>,
    generation: u64,
    sequence: u64,
    /// A disk without room: files are not prepared further.
    disk_full: bool,
    /// A write failed: it is not known which entries a start would find.
    failed: bool,
    /// Header of the file that is written, until it is on disk.
    unwritten: Option<FileHeader>,
}

/// Where a round goes.
#[derive(Debug)]
pub(super) struct Place {
    slot: usize,
    pub path: PathBuf,
    pub file: Arc<dyn LogFile>,
    pub generation: u64,
    pub sequence: u64,
    pub position: u64,
    /// The first page of the file, if it is not on disk yet.
    pub header: Option<Vec<u8>>,
}

/// What keeps the ring ahead of its writers.
#[derive(Debug)]
pub(super) enum Job {
    /// Writes zeros to a file, and syncs it.
    Prepare { slot: usize, path: PathBuf, new: bool, from: u64, to: u64 },
    /// Syncs the segments of these logs up to these offsets.
    Sync { slot: usize, logs: Vec<(Arc<dyn JournaledLog>, i64)> },
}

impl Ring {
    /// Files in `dir` that have `bytes` in all; nothing is known of them yet.
    pub(super) fn new(dir: &Path, bytes: u64) -> Self {
        let slot = |number| Slot { path: dir.join(format!("{NAME}{number}")), ..Slot::default() };
        Self {
            slots: (0..FILES).map(slot).collect(),
            file_bytes: align(bytes / FILES as u64).max(2 * PAGE),
            current: None,
            generation: 0,
            sequence: 0,
            disk_full: false,
            failed: false,
            unwritten: None,
        }
    }

    /// Generations up to this one were used.
    pub(super) fn used_generation(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    /// Takes in a file that is there.
    pub(super) fn found(&mut self, number: usize, file: Arc<dyn LogFile>, size: u64, header: Option<&FileHeader>) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        slot.file = Some(file);
        slot.prepared = size / PAGE * PAGE;
        if let Some(header) = header {
            slot.generation = header.generation;
            self.generation = self.generation.max(header.generation);
            self.sequence = self.sequence.max(header.sequence);
        }
    }

    /// The sequence number of the next entry is at least this.
    pub(super) fn go_on_from(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// A file whose entries a start found: it is needed until `log` is on disk up to `next_offset`.
    pub(super) fn adopt(&mut self, number: usize, key: Key, log: &Arc<dyn JournaledLog>, next_offset: i64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.users.insert(key, User { log: Arc::downgrade(log), next_offset });
        }
    }

    /// A file holds entries of a log, needed or not.
    pub(super) fn hold(&mut self, number: usize, key: Key) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.held.insert(key);
        }
    }

    /// Whether a start after a crash would find entries of this log.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.failed || self.slots.iter().any(|slot| slot.held.contains(key))
    }

    /// A write or sync of the journal failed.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// A file is written with zeros up to here.
    pub(super) fn prepared_up_to(&self, number: usize) -> u64 {
        self.slots.get(number).map_or(0, |slot| slot.prepared)
    }

    /// The file that follows on the newest one.
    fn following(&self) -> usize {
        let newest = self.slots.iter().enumerate().max_by_key(|(_, slot)| slot.generation);
        newest.filter(|(_, slot)| slot.generation > 0).map_or(0, |(number, _)| (number + 1) % FILES)
    }

    /// The file that was used last.
    pub(super) fn newest(&self) -> Option<usize> {
        let newest = self.slots.iter().enumerate().filter(|(_, slot)| slot.file.is_some());
        newest.max_by_key(|(_, slot)| slot.generation).map(|(number, _)| number)
    }

    /// Where a round of `length` bytes goes; `None` if there is no room.
    pub(super) fn place(&mut self, length: u64, directory_id: Uuid) -> Option<Place> {
        if let Some(slot) = self.current.and_then(|current| self.slots.get(current))
            && slot.position.saturating_add(length) <= slot.prepared
        {
            return self.place_in(self.current?);
        }
        let current_can_grow = self.current.and_then(|current| self.slots.get(current)).is_some_and(|slot| {
            !self.disk_full
                && slot.prepared < self.file_bytes
                && slot.position.saturating_add(length) <= self.file_bytes
        });
        if current_can_grow {
            return None;
        }
        let next = self.following();
        let free = self.slots.get(next)?;
        if !free.users.is_empty() || PAGE.saturating_add(length) > free.prepared {
            return None;
        }
        self.open_file(next, directory_id)?;
        self.place_in(next)
    }

    /// Where an entry goes that must be written: past what is prepared, if need be. `None` if nothing was ever written here.
    pub(super) fn place_anyway(&self) -> Option<Place> {
        self.place_in(self.current?)
    }

    /// The free file `number` begins its next use, once its header is written.
    pub(super) fn open_file(&mut self, number: usize, directory_id: Uuid) -> Option<FileHeader> {
        let generation = self.generation.saturating_add(1);
        let needed = self.slots.iter().filter(|slot| !slot.users.is_empty()).map(|slot| slot.generation);
        let floor = needed.min().unwrap_or(generation);
        let slot = self.slots.get_mut(number)?;
        (slot.generation, slot.position) = (generation, PAGE);
        slot.users.clear();
        self.generation = generation;
        self.current = Some(number);
        let header = FileHeader { directory_id, generation, floor, sequence: self.sequence };
        self.unwritten = Some(header);
        Some(header)
    }

    /// The header of the file that is written is on disk: a start finds nothing of what its floor excludes.
    pub(super) fn header_written(&mut self) {
        let Some(FileHeader { generation, floor, .. }) = self.unwritten.take() else { return };
        for slot in self.slots.iter_mut().filter(|slot| slot.generation < floor || slot.generation == generation) {
            slot.held.clear();
        }
    }

    fn place_in(&self, number: usize) -> Option<Place> {
        let slot = self.slots.get(number)?;
        Some(Place {
            slot: number,
            path: slot.path.clone(),
            file: Arc::clone(slot.file.as_ref()?),
            generation: slot.generation,
            sequence: self.sequence,
            position: slot.position,
            header: self.unwritten.map(|header| header.encode()),
        })
    }

    /// A round may be at `place`, although it was not acknowledged.
    pub(super) fn hold_all(&mut self, place: &Place, entries: &[Pending<'_>]) {
        let keys = entries.iter().map(|one| (one.header.topic_id, one.header.partition));
        keys.for_each(|key| self.hold(place.slot, key));
    }

    /// A round of `bytes` is on disk at `place`.
    pub(super) fn advance(&mut self, place: &Place, bytes: u64, entries: &[Pending<'_>]) {
        self.sequence = self.sequence.saturating_add(entries.len() as u64);
        let Some(slot) = self.slots.get_mut(place.slot) else { return };
        slot.position = slot.position.saturating_add(bytes);
        slot.prepared = slot.prepared.max(slot.position);
        for one in entries {
            let key = (one.header.topic_id, one.header.partition);
            slot.held.insert(key);
            let Some((log, _)) = one.round_of else { continue };
            let next_offset = one.header.next_offset;
            let user = slot.users.entry(key).or_insert_with(|| User { log: Arc::downgrade(log), next_offset });
            // A truncated log goes back; another log may have its key now.
            user.next_offset = next_offset;
            if !std::ptr::addr_eq(user.log.as_ptr(), Arc::as_ptr(log)) {
                user.log = Arc::downgrade(log);
            }
        }
    }

    /// Whether [`Ring::next_job`] has one.
    pub(super) fn is_behind(&self) -> bool {
        self.to_prepare().is_some() || self.to_sync().is_some()
    }

    /// Files that are needed and not written any more, the oldest.
    fn to_sync(&self) -> Option<usize> {
        let full = self.slots.iter().enumerate().filter(|(number, _)| Some(*number) != self.current);
        let full = full.filter(|(_, slot)| !slot.users.is_empty());
        full.min_by_key(|(_, slot)| slot.generation).map(|(number, _)| number)
    }

    /// The file that is to be prepared further, and up to where: the one that is written once half of it is used, and the next one once
    /// that is prepared whole.
    fn to_prepare(&self) -> Option<(usize, u64)> {
        if self.disk_full {
            return None;
        }
        let grown =
            |slot: &Slot| slot.prepared.saturating_mul(2).clamp(FIRST_STEP.min(self.file_bytes), self.file_bytes);
        let current = self.current.and_then(|current| Some((current, self.slots.get(current)?)));
        if let Some((number, slot)) = current {
            if slot.prepared < self.file_bytes {
                return (slot.position > slot.prepared / 2).then(|| (number, grown(slot)));
            }
            if slot.position <= self.file_bytes / 2 {
                return None;
            }
        }
        let next = self.following();
        let slot = self.slots.get(next)?;
        let enough = if current.is_some() { self.file_bytes } else { FIRST_STEP.min(self.file_bytes) };
        (slot.users.is_empty() && slot.prepared < enough).then(|| (next, grown(slot)))
    }

    /// What is to be done next to stay ahead.
    pub(super) fn next_job(&self) -> Option<Job> {
        if let Some((number, to)) = self.to_prepare() {
            let slot = self.slots.get(number)?;
            let (path, new) = (slot.path.clone(), slot.file.is_none());
            return Some(Job::Prepare { slot: number, path, new, from: slot.prepared, to });
        }
        self.sync_job()
    }

    /// The logs that the oldest file waits for.
    pub(super) fn sync_job(&self) -> Option<Job> {
        let number = self.to_sync()?;
        let users = &self.slots.get(number)?.users;
        let logs = users.values().filter_map(|user| Some((user.log.upgrade()?, user.next_offset)));
        Some(Job::Sync { slot: number, logs: logs.collect() })
    }

    /// A file is prepared up to `to`.
    pub(super) fn prepared(&mut self, number: usize, file: Arc<dyn LogFile>, to: u64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.file.get_or_insert(file);
            slot.prepared = slot.prepared.max(to);
        }
    }

    /// The disk is full, or has room again.
    pub(super) fn set_disk_full(&mut self, full: bool) {
        self.disk_full = full;
    }

    /// Everything in this file is in segments and on disk.
    pub(super) fn synced(&mut self, number: usize) {
        if Some(number) != self.current
            && let Some(slot) = self.slots.get_mut(number)
        {
            slot.users.clear();
        }
    }

    /// Nothing that lies in the files is needed any more.
    pub(super) fn all_synced(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.users.clear());
    }

    /// The file that a start continues with, if it is free.
    pub(super) fn free_file(&self) -> Option<usize> {
        let next = self.following();
        self.slots.get(next).filter(|slot| slot.users.is_empty() && slot.prepared >= 2 * PAGE).map(|_| next)
    }

    /// Files that are longer than they may be, and that length: `log.journal.bytes` was larger before.
    pub(super) fn oversized(&self) -> (Vec<usize>, u64) {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.prepared > self.file_bytes);
        (slots.map(|(number, _)| number).collect(), self.file_bytes)
    }

    /// A file was cut to `length`.
    pub(super) fn shortened(&mut self, number: usize, length: u64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.prepared = slot.prepared.min(length);
        }
    }

    /// Path and handle of a file.
    pub(super) fn file(&self, number: usize) -> Option<(PathBuf, Arc<dyn LogFile>)> {
        let slot = self.slots.get(number)?;
        Some((slot.path.clone(), Arc::clone(slot.file.as_ref()?)))
    }

    /// Bytes that are prepared; that are needed; that are needed in files which are full.
    pub(super) fn fill(&self) -> (u64, u64, u64) {
        let prepared = self.slots.iter().map(|slot| slot.prepared).sum();
        let needed = |(_, slot): &(usize, &Slot)| !slot.users.is_empty();
        let slots = || self.slots.iter().enumerate().filter(needed);
        let used = slots().map(|(_, slot)| slot.position).sum();
        let behind = slots().filter(|(number, _)| Some(*number) != self.current).map(|(_, slot)| slot.position).sum();
        (prepared, used, behind)
    }
}
