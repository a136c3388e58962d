//! Moving a log to another log dir while it is written to (KIP-113).
//!
//! Whole segments are copied beside the running log, in rounds until the copy is near its end. Then the rest is copied while the
//! caller blocks appends. The new folder is completely durable before it takes the old one's name. A crash at any moment leaves one
//! of the two folders, or both with a moved marker in the old one, which the next start removes.
//!
//! Must never: leave a moment in which no durable folder has the partition's name, or change the old files.

use std::{
    collections::HashMap,
    io::IoSlice,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use super::LogManager;
use crate::{
    Log, LogError, OpenError, Uuid,
    dir::LogDir,
    error::FileError,
    files::{
        self, FUTURE, INDEX, LEADER_EPOCHS, LOG, MOVED, PARTITION_METADATA, SNAPSHOT, TIME_INDEX, TXN_INDEX,
        segment_path,
    },
    io::{Context, Open},
    log::Load,
    segment::Segment,
    throttle::Throttle,
};

/// Bytes read and written at once.
const STEP: usize = 1 << 20;

/// A running move of a log to another dir.
#[derive(Debug)]
pub struct Move {
    log: Arc<Log>,
    to: Arc<LogDir>,
    future: PathBuf,
    limit: Arc<(Throttle, AtomicBool)>,
    /// By base offset: the copied segment, and the bytes copied.
    copied: HashMap<i64, (Arc<Segment>, u64)>,
}

impl Move {
    /// The destination log dir.
    pub fn destination(&self) -> &Path {
        self.to.path()
    }

    /// Bytes that are in the new folder.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.values().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that are still to be copied.
    pub fn bytes_behind(&self) -> u64 {
        self.log.size_bytes().saturating_sub(self.copied_bytes())
    }

    /// Copies and flushes the records appended since the last call, within the byte rate of moves. Blocks.
    pub fn copy(&mut self) -> Result<(), LogError> {
        let limit = Arc::clone(&self.limit);
        self.copy_throttled(Some(&limit))
    }

    fn copy_throttled(&mut self, limit: Option<&(Throttle, AtomicBool)>) -> Result<(), LogError> {
        self.to.check_online()?;
        if self.bytes_behind() > self.to.writable_bytes() {
            // Copies must not use the reserve for commits and admin requests either.
            let (path, source) = (self.future.clone(), std::io::ErrorKind::StorageFull.into());
            return Err(FileError { action: "find room in", path, source }.into());
        }
        let copied = self.copy_segments(limit);
        // A failure concerns the dir of the failed file only.
        let at_fault = |error: FileError| match error.path.starts_with(self.log.dir()) {
            true => self.log.home().classify_error(error),
            false => self.to.classify_error(error),
        };
        copied.map_err(at_fault)?;
        Ok(())
    }

    fn copy_segments(&mut self, limit: Option<&(Throttle, AtomicBool)>) -> Result<(), FileError> {
        let segments = self.log.segments();
        let gone = |base: &i64| !segments.iter().any(|segment| segment.base_offset == *base);
        for base in self.copied.keys().copied().filter(gone).collect::<Vec<_>>() {
            let path = segment_path(&self.future, base, LOG);
            self.to.disk.remove_file(&path).context("remove", &path)?;
            self.copied.remove(&base);
        }
        let mut buffer = vec![0; STEP];
        for segment in segments.iter() {
            let (known, from) = match self.copied.get(&segment.base_offset) {
                // Compacted or truncated since the last round: another file.
                Some((before, _)) if !Arc::ptr_eq(before, segment) => (true, 0),
                Some((_, bytes)) => (true, *bytes),
                None => (false, 0),
            };
            let end = segment.size();
            if known && from == end {
                continue;
            }
            let source = match segment.file_once() {
                Ok(source) => source,
                // Retention removed the segment. The next round finds the new list.
                Err(_) if !self.log.contains_all(std::slice::from_ref(segment)) => continue,
                Err(error) => return Err(error),
            };
            let path = segment_path(&self.future, segment.base_offset, LOG);
            let how = if from == 0 { Open::Empty } else { Open::Existing };
            let target = self.to.disk.open(&path, how).context("open", &path)?;
            let mut at = from;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
                let part = buffer.get_mut(..want).unwrap_or_default();
                source.read_ahead(at + want as u64, (end - at - want as u64).min(STEP as u64));
                let read = source.read_at(part, at).context("read", &segment.path(LOG))?;
                if read == 0 {
                    let source = std::io::ErrorKind::UnexpectedEof.into();
                    return Err(FileError { action: "read all of", path: segment.path(LOG), source });
                }
                let part = part.get(..read).unwrap_or_default();
                target.write_at(&mut [IoSlice::new(part)], at).context("write to", &path)?;
                at += read as u64;
                if let Some((throttle, stop)) = limit {
                    throttle.acquire(self.to.env(), read as u64, stop);
                }
            }
            target.sync_data().context("sync", &path)?;
            self.copied.insert(segment.base_offset, (Arc::clone(segment), at));
        }
        Ok(())
    }

    /// Copies indexes, snapshots and the epoch checkpoint of the closed log, and flushes all names.
    fn copy_rest(&self) -> Result<(), FileError> {
        let disk = &self.to.disk;
        let from = self.log.dir();
        for (name, size) in disk.list(from).context("list", from)? {
            let derived = [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT].iter().any(|suffix| name.ends_with(suffix));
            if size.is_none() || !(derived || name == LEADER_EPOCHS) {
                continue;
            }
            let path = from.join(&name);
            let content = disk.read(&path).context("read", &path)?;
            let path = self.future.join(&name);
            disk.replace(&path, &content, false).context("write", &path)?;
            let file = disk.open(&path, Open::Existing).context("open", &path)?;
            file.sync_data().context("sync", &path)?;
        }
        // The journal of the new dir names the log by its topic id.
        let path = self.future.join(PARTITION_METADATA);
        let file = disk.open(&path, Open::Existing).context("open", &path)?;
        file.sync_data().context("sync", &path)?;
        disk.sync_dir(&self.future).context("sync", &self.future)
    }
}

impl LogManager {
    /// Begins to move a log to the log dir `to`. `None` if the log is already in that dir.
    pub fn begin_move(&self, topic: &str, partition: i32, to: &Path) -> Result<Option<Move>, LogError> {
        let log = self.get(topic, partition).ok_or_else(|| LogError::Unknown { topic: topic.to_owned(), partition })?;
        let to = self.dirs.iter().find(|dir| dir.path == to);
        let to = to.ok_or_else(|| LogError::Unknown { topic: topic.to_owned(), partition })?;
        to.check_online()?;
        if Arc::ptr_eq(to, log.home()) {
            return Ok(None);
        }
        let future = to.path.join(files::unique_dir(to.env(), topic, partition, FUTURE));
        let made = to.disk.create_dir_all(&future).context("create", &future);
        to.record_failure(made)?;
        let written = files::write_partition_metadata(to.disk.as_ref(), &future, log.topic_id());
        to.record_failure(written)?;
        Ok(Some(Move { log, to: Arc::clone(to), future, limit: Arc::clone(&self.moves), copied: HashMap::new() }))
    }

    /// Ends a move: copies the rest and replaces the old log by the new one; `install` publishes it before the old one is closed.
    /// The caller blocks appends and truncations meanwhile. On an error the old log stays in use. Blocks.
    pub fn finish_move(
        &self,
        moving: &mut Move,
        now_ms: i64,
        install: impl FnOnce(&Arc<Log>),
    ) -> Result<Arc<Log>, LogError> {
        let _changing = self.changing.lock();
        let old = Arc::clone(&moving.log);
        let here = self.get(old.topic(), old.partition());
        if !here.is_some_and(|log| Arc::ptr_eq(&log, &old)) || old.is_offline() {
            return Err(LogError::Unknown { topic: old.topic().to_string(), partition: old.partition() });
        }
        let placed = old.replace_with(|| self.install_copy(moving, now_ms).map(Arc::new).inspect(install));
        if let Ok(new) = &placed {
            let mut logs = self.logs.write();
            logs.entry(Arc::clone(new.topic())).or_default().insert(new.partition(), Arc::clone(new));
        }
        moving.to.checkpoints.remove_arriving(old.as_ref());
        let new = placed?;
        // From here on the move cannot be undone: the new folder has the name.
        let (home, doomed) =
            (old.home(), old.home().path.join(files::deleted_dir(old.home().env(), old.topic(), old.partition())));
        let renamed = home.disk.rename(old.dir(), &doomed).context("rename", old.dir());
        match renamed.and_then(|()| home.disk.sync_dir(&home.path).context("sync", &home.path)) {
            Ok(()) => self.reaper.remove_folder(&home.disk, doomed, old.config().file_delete_delay_ms),
            Err(error) => tracing::warn!(%error, "the old copy of a moved log stays until the next start"),
        }
        Ok(new)
    }

    fn install_copy(&self, moving: &mut Move, now_ms: i64) -> Result<Log, LogError> {
        // No byte rate here, since appends wait.
        moving.copy_throttled(None)?;
        let (old, to) = (&moving.log, &moving.to);
        to.record_failure(moving.copy_rest())?;
        // The log may have been in that dir before.
        to.record_failure(to.journal.void(old.key(), i64::MIN))?;
        // Before the new folder counts: after a crash only this row has the log start.
        to.record_failure(to.checkpoints.add_arriving(to.disk.as_ref(), &to.path, old.as_ref()))?;
        let marker = old.dir().join(MOVED);
        let marked = old.home().disk.replace(&marker, b"", true).context("write", &marker);
        old.home().record_failure(marked)?;
        let dir = to.path.join(files::partition_dir(old.topic(), old.partition()));
        let named = to.disk.rename(&moving.future, &dir).context("rename", &moving.future);
        to.record_failure(named)?;
        let synced = to.disk.sync_dir(&to.path).context("sync", &to.path);
        to.record_failure(synced)?;
        let opened = Load {
            log_dir: Arc::clone(to),
            topic: Arc::clone(old.topic()),
            partition: old.partition(),
            topic_id: old.topic_id(),
            dir: dir.clone(),
            config: (*old.config()).clone(),
            recovery_point: old.log_end_offset(),
            log_start: old.log_start_offset(),
            high_watermark: old.high_watermark(),
            clean: true,
            created_now: false,
            cleaned: old.cleaned_offset(),
            progress: Arc::default(),
            now_ms,
            journal: Vec::new(),
            journaled: 0,
        }
        .open();
        if let Ok(new) = &opened {
            new.set_cleaned_offset(old.cleaned_offset());
        }
        opened.map_err(|error| {
            // The old folder keeps the name: a start must not find the copy beside it.
            let doomed = to.path.join(files::deleted_dir(old.home().env(), old.topic(), old.partition()));
            if to.disk.rename(&dir, &doomed).is_ok() {
                self.reaper.remove_folder(&to.disk, doomed, 0);
            }
            let source = match error {
                OpenError::File(error) => return error.into(),
                other => std::io::Error::new(std::io::ErrorKind::InvalidData, other),
            };
            FileError { action: "open the moved log in", path: dir.clone(), source }.into()
        })
    }

    /// Abandons a move: its folder is removed.
    pub fn abandon_move(&self, moving: Move) {
        self.reaper.remove_folder(&moving.to.disk, moving.future, 0);
    }

    /// Moves that the last stop interrupted: topic id, partition, and destination log dir. They start again.
    pub fn unfinished_moves(&self) -> Vec<(Uuid, i32, PathBuf)> {
        std::mem::take(&mut *self.unfinished.lock())
    }
}
