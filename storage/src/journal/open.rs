//! A journal at a start, and what keeps it ahead of its writers afterwards.

use std::{
    collections::{BTreeMap, HashMap},
    io::IoSlice,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    choose::Costs,
    format::{BadHeader, FileHeader, PAGE, VERSION},
    ring::{FILES, Job, NAME, Ring},
    rounds::{Counters, Journal},
    scan::{Entry, Key, live, newest_generation, scan},
    user::JournaledLog,
};
use crate::{
    OpenError, Uuid,
    error::FileError,
    io::{Context, Disk, LogFile, Open},
    open_files::OpenFiles,
    reserve::reserve,
};

/// Zeros are written in pieces of so many bytes.
const PIECE: usize = 256 << 10;

/// What a start after a crash found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By log: what is to be in its segments.
    pub logs: HashMap<Key, Vec<Entry>>,
    /// Files, the logs with entries in them, and up to which offset those go.
    users: Vec<(usize, Key, i64)>,
}

/// One file that is there.
struct Used {
    number: usize,
    file: Arc<dyn LogFile>,
    size: u64,
    header: Option<FileHeader>,
    /// The newest that lies in it.
    generation: u64,
}

/// Opens the journal of a log dir, of at most `bytes` in all files together; without `bytes` there is none, and [`Journal::begin`]
/// removes its files. After a clean stop nothing in it counts. Blocks.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    files: &OpenFiles,
    dir: &Path,
    directory_id: Uuid,
    bytes: u64,
    clean: bool,
) -> Result<(Journal, Found), OpenError> {
    let mut ring = Ring::new(dir, bytes);
    let (used, mut damaged) = files_of(disk.as_ref(), dir, directory_id)?;
    for one in &used {
        ring.found(one.number, Arc::clone(&one.file), one.size, one.header.as_ref());
        ring.used_generation(one.generation);
    }
    let mut found = Found::default();
    if clean {
        if used.iter().any(|one| one.header.is_some()) {
            begin_anew(&mut ring, directory_id)?;
        }
        damaged = 0;
    } else {
        damaged += read(&used, dir, &mut ring, &mut found)?;
    }
    let journal = Journal {
        disk: Arc::clone(disk),
        env: Arc::clone(&files.env),
        read_admission: Arc::clone(&files.read_admission),
        dir: dir.to_path_buf(),
        directory_id,
        ring: Mutex::new(ring),
        costs: Mutex::new(Costs::default()),
        broken: AtomicBool::new(bytes == 0),
        failed: AtomicBool::new(false),
        keeping_up: AtomicBool::new(false),
        preparing: Mutex::new(()),
        counters: Counters { damaged: AtomicU64::new(damaged), ..Counters::default() },
    };
    Ok((journal, found))
}

fn files_of(disk: &dyn Disk, dir: &Path, directory_id: Uuid) -> Result<(Vec<Used>, u64), OpenError> {
    let (mut used, mut damaged) = (Vec::new(), 0);
    for (name, size) in disk.list(dir).context("list", dir)? {
        let number = name.strip_prefix(NAME).and_then(|number| number.parse::<usize>().ok());
        let (Some(number), Some(size)) = (number.filter(|number| *number < FILES), size) else { continue };
        let path = dir.join(&name);
        let file = disk.open(&path, Open::Existing).context("open", &path)?;
        let mut page = [0; PAGE as usize];
        let length = file.read_at(&mut page, 0).context("read", &path)?;
        let mut generation = 0;
        let header = match FileHeader::decode(page.get(..length).unwrap_or_default()) {
            Ok(header) if header.directory_id == directory_id => Some(header),
            Ok(header) => {
                tracing::warn!(path = %path.display(), "this journal file is of another log dir: nothing in it counts");
                generation = header.generation;
                None
            }
            Err(BadHeader::Unused) => None,
            Err(BadHeader::Damaged) => {
                tracing::error!(path = %path.display(), "the header of this journal file is damaged: what was acknowledged through it may be lost");
                damaged += 1;
                // What lies in it must not be taken for rounds of the next use.
                generation = newest_generation(&map_whole(file.as_ref(), size).context("map", &path)?);
                None
            }
            Err(BadHeader::Newer(version)) => {
                let what = format!(
                    "the journal has version {version}, and this Esker reads up to {VERSION}: start the newer Esker again, and stop it cleanly first"
                );
                return Err(OpenError::Malformed { path, what });
            }
        };
        used.push(Used { number, file, size, header, generation });
    }
    Ok((used, damaged))
}

fn map_whole(file: &dyn LogFile, size: u64) -> std::io::Result<Bytes> {
    if size == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(file.map(usize::try_from(size).unwrap_or(usize::MAX))?))
}

/// The sync of the last round may not have returned, or have failed: then its pages are in memory only, and no later sync writes
/// them. What a start relies on is written again.
fn keep(file: &dyn LogFile, bytes: &Bytes, rounds: (u64, u64)) -> std::io::Result<()> {
    for (from, to) in [(0, PAGE), rounds] {
        let range =
            usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(range).unwrap_or_default().to_vec();
        file.write_at(&mut [IoSlice::new(&bytes)], from)?;
    }
    file.sync_data()
}

/// Nothing that lies in the files is needed, and never counts again. On disk on return.
fn begin_anew(ring: &mut Ring, directory_id: Uuid) -> Result<(), FileError> {
    let Some(number) = ring.free_file().or_else(|| ring.newest()) else { return Ok(()) };
    let Some(header) = ring.open_file(number, directory_id) else { return Ok(()) };
    let Some((path, file)) = ring.file(number) else { return Ok(()) };
    file.write_at(&mut [IoSlice::new(&header.encode())], 0).context("write to", &path)?;
    file.sync_data().context("sync", &path)?;
    ring.header_written();
    Ok(())
}

/// Cuts files that are too long: `log.journal.bytes` is less than before. Nothing that lies in them is needed.
fn shorten(ring: &mut Ring) -> Result<(), FileError> {
    let (numbers, length) = ring.oversized();
    for number in numbers {
        let Some((path, file)) = ring.file(number) else { continue };
        file.set_len(length).context("set the length of", &path)?;
        file.sync_data().context("sync", &path)?;
        ring.shortened(number, length);
    }
    Ok(())
}

/// Reads what the files hold, the oldest first; returns in how many places they are damaged.
fn read(used: &[Used], dir: &Path, ring: &mut Ring, found: &mut Found) -> Result<u64, FileError> {
    let mut valid: Vec<(&Used, FileHeader)> = used.iter().filter_map(|one| Some((one, one.header?))).collect();
    let floor = valid.iter().map(|(_, header)| header.floor).max().unwrap_or_default();
    valid.retain(|(_, header)| header.generation >= floor);
    valid.sort_unstable_by_key(|(_, header)| header.generation);
    let (mut entries, mut damaged) = (Vec::new(), 0);
    for (index, (one, header)) in valid.iter().enumerate() {
        let path = dir.join(format!("{NAME}{}", one.number));
        let bytes = map_whole(one.file.as_ref(), one.size).context("map", &path)?;
        let follows = valid.get(index + 1).map(|(_, next)| next.sequence);
        let scanned = scan(&bytes, header, follows);
        for position in &scanned.damage {
            tracing::error!(path = %path.display(), position, "the journal is damaged here: what was acknowledged through it may be lost where segments lack it");
        }
        damaged += scanned.damage.len() as u64;
        if follows.is_none() {
            keep(one.file.as_ref(), &bytes, scanned.last.unwrap_or((0, PAGE))).context("write to", &path)?;
        }
        ring.go_on_from(scanned.next_sequence);
        let mut users: BTreeMap<Key, i64> = BTreeMap::new();
        for Entry { header, .. } in &scanned.entries {
            let end = users.entry((header.topic_id, header.partition)).or_default();
            *end = header.next_offset.max(*end);
        }
        found.users.extend(users.into_iter().map(|(key, end)| (one.number, key, end)));
        entries.extend(scanned.entries);
    }
    found.logs = live(entries);
    Ok(damaged)
}

/// Whether files of a journal are in a folder.
pub(crate) fn has_files(disk: &dyn Disk, dir: &Path) -> Result<bool, FileError> {
    Ok(disk.list(dir).context("list", dir)?.iter().any(|(name, _)| name.starts_with(NAME)))
}

/// Removes the files of a journal that is not wanted any more. Nothing in them is needed.
pub(crate) fn remove_files(disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
    let there = disk.list(dir).context("list", dir)?;
    let mut files = there.iter().filter(|(name, _)| name.starts_with(NAME)).peekable();
    if files.peek().is_none() {
        return Ok(());
    }
    for (name, _) in files {
        let path = dir.join(name);
        disk.remove_file(&path).context("remove", &path)?;
    }
    disk.sync_dir(dir).context("sync", dir)
}

impl Journal {
    /// Goes on after the logs of the dir were opened: what was found is needed until they are on disk. Blocks, rarely for long.
    /// With `doubts` about what is on disk, all of it is synced now. `note_synced` writes down what is: without the journal's word the next start
    /// would take damage there for a torn tail.
    pub(crate) fn begin(
        &self,
        found: &Found,
        doubts: bool,
        log_of: impl Fn(&Key) -> Option<Arc<dyn JournaledLog>>,
        note_synced: impl Fn() -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let mut ring = self.ring.lock();
        for (number, key, end) in &found.users {
            ring.hold(*number, *key);
            if let Some(log) = found.logs.contains_key(key).then(|| log_of(key)).flatten() {
                ring.adopt(*number, *key, &log, *end);
            }
        }
        let wanted = !self.broken.load(Ordering::Acquire);
        let full = |ring: &Ring| !found.users.is_empty() && (doubts || ring.free_file().is_none());
        let job = if wanted && full(&ring) { ring.next_job() } else { None };
        drop(ring);
        if let Some(Job::Prepare { slot, path, new, from, to }) = job
            && let Err(error) = self.prepare(slot, &path, new, from, to)
            && !error.is_full()
        {
            return Err(error);
        }
        let oversized = |ring: &Ring| !ring.oversized().0.is_empty();
        if !wanted || full(&self.ring.lock()) || oversized(&self.ring.lock()) {
            self.sync_all()?;
            if !found.users.is_empty() {
                note_synced()?;
            }
            if wanted {
                let mut ring = self.ring.lock();
                begin_anew(&mut ring, self.directory_id)?;
                shorten(&mut ring)?;
            } else {
                *self.ring.lock() = Ring::new(&self.dir, 0);
                remove_files(self.disk.as_ref(), &self.dir)?;
            }
        }
        Ok(())
    }

    /// Before the mark of a clean stop, once all segments are on disk: nothing in the journal counts any more, also for a start after
    /// another broker had the dir and did not stop cleanly. Nothing is written here after that. Blocks for the disk.
    pub(crate) fn retire(&self) -> Result<(), FileError> {
        let mut ring = self.ring.lock();
        if self.broken.swap(true, Ordering::AcqRel) || ring.newest().is_none() {
            return Ok(());
        }
        ring.all_synced();
        begin_anew(&mut ring, self.directory_id)
    }

    /// Files may be prepared again, should the disk have room by now.
    pub(crate) fn look_for_room(&self) {
        self.ring.lock().set_disk_full(false);
    }

    /// Syncs the segments of all logs that have entries.
    fn sync_all(&self) -> Result<(), FileError> {
        loop {
            let job = self.ring.lock().sync_job();
            let Some(Job::Sync { slot, logs }) = job else { return Ok(()) };
            self.sync(slot, &logs)?;
        }
    }

    /// Prepares files and syncs segments until the ring is ahead again. Does nothing where another thread does. Blocks for the disk.
    pub fn keep_up(&self) {
        if self.broken.load(Ordering::Acquire) || self.keeping_up.swap(true, Ordering::AcqRel) {
            return;
        }
        // Also after a panic: else no file would ever be free again.
        let _done = Done(&self.keeping_up);
        loop {
            let job = self.ring.lock().next_job();
            let done = match job {
                Some(Job::Prepare { slot, path, new, from, to }) => self.prepare(slot, &path, new, from, to),
                Some(Job::Sync { slot, logs }) => self.sync(slot, &logs),
                None => break,
            };
            if let Err(error) = done {
                tracing::warn!(dir = %self.dir.display(), %error, "the journal cannot keep up");
                break;
            }
        }
    }

    /// Writes zeros from `from` (or what was written meanwhile) up to `to`.
    pub(super) fn prepare(&self, slot: usize, path: &Path, new: bool, from: u64, to: u64) -> Result<(), FileError> {
        self.write_ahead(slot, path, new, from, to).inspect_err(|error| {
            self.ring.lock().set_disk_full(true);
            self.note_failure(error);
        })
    }

    fn write_ahead(&self, slot: usize, path: &Path, new: bool, from: u64, to: u64) -> Result<(), FileError> {
        let (total, usable) = self.disk.space(&self.dir).context("look at", &self.dir)?;
        // The space is the producers' first.
        if usable.saturating_sub(reserve(total)) < to.saturating_sub(from).saturating_mul(2) {
            self.ring.lock().set_disk_full(true);
            return Ok(());
        }
        let _preparing = self.preparing.lock();
        // A note that found no room lies behind what was prepared before.
        let from = from.max(self.ring.lock().prepared_up_to(slot));
        if from >= to {
            return Ok(());
        }
        // Not the rounds' handle: the kernel reports a failed sync once to each handle, and it may be a round's pages that failed.
        let file = self.disk.open(path, Open::OrCreate).context("open", path)?;
        write_zeros(file.as_ref(), from, to).context("write to", path)?;
        file.sync_data().context("sync", path)?;
        if new {
            self.disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        }
        self.ring.lock().prepared(slot, file, to);
        Ok(())
    }

    fn sync(&self, slot: usize, logs: &[(Arc<dyn JournaledLog>, i64)]) -> Result<(), FileError> {
        for (log, _) in logs.iter().filter(|(log, next_offset)| !log.is_synced(*next_offset)) {
            // A closed one may be about to be synced; of a deleted one an error says nothing.
            if let Err(error) = log.sync_segments() {
                let source = std::io::Error::other(error);
                return Err(FileError { action: "flush", path: log.dir().to_path_buf(), source });
            }
        }
        self.ring.lock().synced(slot);
        Ok(())
    }
}

/// Records that no thread prepares files any more.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn write_zeros(file: &dyn LogFile, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        file.write_at(&mut [IoSlice::new(zeros.get(..length).unwrap_or_default())], at)?;
        at = at.saturating_add(length as u64);
    }
    Ok(())
}
