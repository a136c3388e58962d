//! A disk that records every operation, fails on demand, and whose power can be cut.
//!
//! It is backed by a real folder (maps must be real), syncs nothing, and keeps a journal of [`Event`]s, from which it builds the
//! image after a power cut at any point. Reads are not recorded, and fail only by a [`Fault`]. Reads through a map never fail.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use esker_storage::{
    Map,
    io::{Disk, LogFile, Open, OsDisk},
};

use crate::state::{Event, Id, Image, State};

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
/// In place of an error: the process dies there.
pub const KILL: i32 = 0;

/// Operations that fail: numbers of steps (see [`SimDisk::steps`]), and the error.
#[derive(Debug, Clone)]
pub struct Plan {
    pub steps: std::ops::Range<usize>,
    pub error: i32,
}

/// An EIO for `times` consecutive operations, after `after` successful operations of the same kind.
#[derive(Debug, Clone)]
pub struct Fault {
    /// As in [`SimDisk::failed`]: "write", "sync", "read", ...
    pub operations: &'static [&'static str],
    /// A part of the path, or empty.
    pub place: &'static str,
    pub after: usize,
    pub times: usize,
}

impl Fault {
    fn strikes(&mut self, what: &str, path: &Path) -> bool {
        let there = path.to_str().is_some_and(|path| path.contains(self.place));
        if self.times == 0 || !self.operations.contains(&what) || !there {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

#[derive(Debug)]
struct Recorder {
    state: State,
    journal: Vec<Event>,
    /// Operations so far that could have failed; reservations too, which leave no event.
    steps: usize,
    plan: Option<Plan>,
    failed: Vec<String>,
    /// See [`SimDisk::lie_about_syncs`].
    lies: bool,
    faults: Vec<Fault>,
    /// See [`SimDisk::trust_failed_syncs`].
    trusts_failed_syncs: bool,
    /// See [`SimDisk::remove_folders`].
    removes_folders: bool,
    /// Bytes that files may have together; `None`: as many as the machine has.
    capacity: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    recorder: Mutex<Recorder>,
}

/// See the module. Clones are the same disk; [`SimDisk::next_process`] is the same disk for another process.
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    alive: Arc<AtomicBool>,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: Arc<dyn LogFile>,
    id: Id,
    /// As it was opened.
    path: PathBuf,
}

/// The result of the fault plan for a call.
enum PlannedFault<'a> {
    Go(MutexGuard<'a, Recorder>),
    Fail(MutexGuard<'a, Recorder>, io::Error),
}

impl SimDisk {
    /// Over the folder `root`, whose content `image` is certain.
    pub fn new(root: &Path, image: &Image) -> Self {
        for (path, content) in image {
            match content {
                Some(bytes) => std::fs::write(root.join(path), bytes).unwrap(),
                None => std::fs::create_dir(root.join(path)).unwrap(),
            }
        }
        let state = State::from_image(image);
        let recorder = Recorder {
            state,
            journal: Vec::new(),
            steps: 0,
            plan: None,
            failed: Vec::new(),
            lies: false,
            faults: Vec::new(),
            trusts_failed_syncs: false,
            removes_folders: false,
            capacity: None,
        };
        let shared = Shared { root: root.to_path_buf(), recorder: Mutex::new(recorder) };
        Self { shared: Arc::new(shared), alive: Arc::new(AtomicBool::new(true)) }
    }

    /// Ends the process that used the disk: its later operations have no effect. Returns the disk for the next process.
    pub fn next_process(&self) -> Self {
        let _recorder = self.shared.recorder.lock().unwrap();
        self.alive.store(false, Ordering::SeqCst);
        Self { shared: Arc::clone(&self.shared), alive: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether the process that uses it was killed.
    pub fn is_dead(&self) -> bool {
        !self.alive.load(Ordering::SeqCst)
    }

    /// From now on a sync of a file returns success without an effect.
    pub fn lie_about_syncs(&self) {
        self.shared.recorder.lock().unwrap().lies = true;
    }

    /// From now on a sync that fails returns success: as if the caller had retried and trusted the second result.
    pub fn trust_failed_syncs(&self) {
        self.shared.recorder.lock().unwrap().trusts_failed_syncs = true;
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.recorder.lock().unwrap().faults = faults;
    }

    /// Bounds the bytes of all files together.
    pub fn set_capacity(&self, capacity: u64) {
        self.shared.recorder.lock().unwrap().capacity = Some(capacity);
    }

    /// From now on `remove_dir_all` has an effect: for callers that remove folders at deterministic times, and not on a thread.
    pub fn remove_folders(&self) {
        self.shared.recorder.lock().unwrap().removes_folders = true;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.shared.recorder.lock().unwrap().state.live_bytes()
    }

    /// Changes bytes of a file on the medium, unknown to the process and to every sync.
    pub fn corrupt(&self, path: &Path, at: u64, bytes: &[u8]) {
        let mut recorder = self.shared.recorder.lock().unwrap();
        let id = recorder.state.find(&self.relative(path)).unwrap();
        OsDisk.open(path, Open::Existing).unwrap().write_at(&mut [IoSlice::new(bytes)], at).unwrap();
        recorder.state.corrupt(id, at, bytes);
    }

    pub fn fail(&self, plan: Option<Plan>) {
        self.shared.recorder.lock().unwrap().plan = plan;
    }

    /// Descriptions of the operations that were made to fail.
    pub fn failed(&self) -> Vec<String> {
        self.shared.recorder.lock().unwrap().failed.clone()
    }

    pub fn steps(&self) -> usize {
        self.shared.recorder.lock().unwrap().steps
    }

    pub fn events(&self) -> usize {
        self.shared.recorder.lock().unwrap().journal.len()
    }

    /// The events since the journal had `at` events.
    pub fn journal_from(&self, at: usize) -> Vec<Event> {
        self.shared.recorder.lock().unwrap().journal.get(at..).unwrap_or_default().to_vec()
    }

    pub fn journal(&self) -> Vec<Event> {
        self.shared.recorder.lock().unwrap().journal.clone()
    }

    pub fn state(&self) -> State {
        self.shared.recorder.lock().unwrap().state.clone()
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.shared.root).unwrap().to_path_buf()
    }

    fn next_fault(&self, what: &str, path: &Path) -> PlannedFault<'_> {
        let mut recorder = self.shared.recorder.lock().unwrap();
        if !self.alive.load(Ordering::SeqCst) {
            return PlannedFault::Fail(recorder, io::Error::other("this process is dead"));
        }
        let step = recorder.steps;
        recorder.steps += 1;
        // A full disk still renames and removes.
        let hits = |plan: &Plan| {
            plan.steps.contains(&step)
                && (plan.error != ENOSPC || !["rename", "remove", "set the length of", "empty"].contains(&what))
        };
        match recorder.plan.clone().filter(hits) {
            Some(plan) if plan.error == KILL => {
                self.alive.store(false, Ordering::SeqCst);
                PlannedFault::Fail(recorder, io::Error::other("the process is killed"))
            }
            Some(plan) => {
                recorder.failed.push(format!("step {step}: {what} {}", self.relative(path).display()));
                PlannedFault::Fail(recorder, io::Error::from_raw_os_error(plan.error))
            }
            None if recorder.faults.iter_mut().fold(false, |hit, fault| fault.strikes(what, path) | hit) => {
                recorder.failed.push(format!("step {step}: {what} {}", self.relative(path).display()));
                PlannedFault::Fail(recorder, io::Error::from_raw_os_error(EIO))
            }
            None if ["create", "make"].contains(&what) && recorder.room() == 0 => {
                recorder.note_full(what, &self.relative(path));
                PlannedFault::Fail(recorder, io::Error::from_raw_os_error(ENOSPC))
            }
            None => PlannedFault::Go(recorder),
        }
    }

    /// A read that may fail; not a step.
    fn check_read_fault(&self, path: &Path) -> io::Result<()> {
        let mut recorder = self.shared.recorder.lock().unwrap();
        let alive = self.alive.load(Ordering::SeqCst);
        if alive && recorder.faults.iter_mut().fold(false, |hit, fault| fault.strikes("read", path) | hit) {
            recorder.failed.push(format!("read {}", self.relative(path).display()));
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    fn run_step(&self, what: &str, path: &Path) -> io::Result<MutexGuard<'_, Recorder>> {
        match self.next_fault(what, path) {
            PlannedFault::Go(recorder) => Ok(recorder),
            PlannedFault::Fail(_, error) => Err(error),
        }
    }
}

impl Recorder {
    /// Bytes that files may still grow by.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.state.live_bytes()))
    }

    fn note_full(&mut self, what: &str, path: &Path) {
        self.failed.push(format!("full: {what} {}", path.display()));
    }

    fn note(&mut self, event: Event) {
        self.state.apply(&event);
        self.journal.push(event);
    }
}

impl LogFile for SimFile {
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (mut recorder, error) = match self.disk.next_fault("write", &self.path) {
            PlannedFault::Go(recorder) => (recorder, None),
            PlannedFault::Fail(_, error) if error.raw_os_error().is_none() => return Err(error),
            PlannedFault::Fail(recorder, error) => (recorder, Some(error)),
        };
        let mut error = error;
        if error.is_some() {
            // Some of it is in the file.
            bytes.truncate(bytes.len() * (recorder.steps % 5) / 4);
        }
        let grows = (offset + bytes.len() as u64).saturating_sub(recorder.state.size(self.id));
        let room = if recorder.capacity.is_some() { recorder.room() } else { u64::MAX };
        if grows > room {
            bytes.truncate(bytes.len().saturating_sub((grows - room) as usize));
            recorder.note_full("write", &self.disk.relative(&self.path));
            error = Some(io::Error::from_raw_os_error(ENOSPC));
        }
        self.file.write_at(&mut [IoSlice::new(&bytes)], offset)?;
        recorder.note(Event::Write(self.id, offset, bytes));
        error.map_or(Ok(()), Err)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.check_read_fault(&self.path)?;
        self.file.read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut recorder = self.disk.run_step("set the length of", &self.path)?;
        self.file.set_len(len)?;
        recorder.note(Event::SetLen(self.id, len));
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut recorder = self.disk.run_step("reserve", &self.path)?;
        let grows = (offset + len).saturating_sub(recorder.state.size(self.id));
        if recorder.capacity.is_some() && grows > recorder.room() {
            recorder.note_full("reserve", &self.disk.relative(&self.path));
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.next_fault("sync", &self.path) {
            PlannedFault::Go(mut recorder) => {
                if !recorder.lies {
                    recorder.note(Event::SyncFile(self.id));
                }
                Ok(())
            }
            PlannedFault::Fail(mut recorder, error) => {
                if error.raw_os_error().is_some() {
                    recorder.note(Event::FailedSync(self.id));
                    if recorder.trusts_failed_syncs {
                        return Ok(());
                    }
                }
                Err(error)
            }
        }
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        self.file.map(len)
    }
}

impl SimDisk {
    fn open_file(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let relative = self.relative(path);
        let there = self.shared.recorder.lock().unwrap().state.find(&relative);
        let id = match there {
            Some(id) if how == Open::Empty => {
                let mut recorder = self.run_step("empty", path)?;
                std::fs::File::create(path)?;
                recorder.note(Event::SetLen(id, 0));
                id
            }
            Some(id) => id,
            None if how == Open::Existing => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let mut recorder = self.run_step("create", path)?;
                std::fs::File::create(path)?;
                let id = recorder.state.next_id();
                recorder.note(Event::Create(relative));
                id
            }
        };
        Ok(SimFile { disk: self.clone(), file: OsDisk.open(path, Open::Existing)?, id, path: path.to_path_buf() })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(self.open_file(path, how)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.exists() {
            self.check_read_fault(path)?;
        }
        OsDisk.read(path)
    }

    fn replace(&self, path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.open_file(&temporary, Open::Empty)?;
        file.write_at(&mut [IoSlice::new(content)], 0)?;
        if sync {
            file.sync_data()?;
        }
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if sync => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut recorder = self.run_step("rename", from)?;
        std::fs::rename(from, to)?;
        recorder.note(Event::Rename(self.relative(from), self.relative(to)));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let mut recorder = self.run_step("remove", path)?;
        std::fs::remove_file(path)?;
        recorder.note(Event::Remove(self.relative(path)));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if !self.shared.recorder.lock().unwrap().removes_folders || !path.exists() {
            // Only deleted partitions are removed so, in the background: the image after a power cut has any part of their files.
            return Ok(());
        }
        for (name, _) in self.list(path)? {
            self.remove_file(&path.join(name))?;
        }
        let mut recorder = self.run_step("remove", path)?;
        std::fs::remove_dir(path)?;
        recorder.note(Event::Remove(self.relative(path)));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        while let Some(path) = missing.pop() {
            let mut recorder = self.run_step("make", path)?;
            std::fs::create_dir(path)?;
            recorder.note(Event::Mkdir(self.relative(path)));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
        let mut found = OsDisk.list(path)?;
        found.sort();
        Ok(found)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut recorder = self.run_step("sync folder", path)?;
        recorder.note(Event::SyncDir(self.relative(path)));
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let mut recorder = self.run_step("sync all", path)?;
        recorder.note(Event::SyncAll);
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let recorder = self.shared.recorder.lock().unwrap();
        match recorder.capacity {
            Some(capacity) => Ok((capacity, recorder.room())),
            None => OsDisk.space(path),
        }
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Debug + Send + Sync>>> {
        Ok(Some(Box::new(())))
    }
}
