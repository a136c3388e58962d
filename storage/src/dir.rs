//! One log dir: its path, the file system behind it, and whether it is offline.
//!
//! After a failed fsync the kernel marks pages as clean that are not durable: a restart without a reboot reads them, and no later
//! fsync writes them. So the failure creates an empty file, `.failed-sync`. A start that finds the file writes all recovered data
//! again. The file need not be synced: a power cut that loses it loses the pages, too.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    Env, Uuid,
    checkpoints::Checkpoints,
    error::{FileError, LogError},
    files::{self, FAILED_SYNC},
    io::{Context, Disk, Open},
    journal::Journal,
    open_files::OpenFiles,
    reaper::Reaper,
    reserve::reserve,
};

/// Is called when a log dir goes offline.
pub trait LogDirListener: Debug + Send + Sync {
    /// A log dir is offline now. Called on the thread that met the error, under locks of its log: must not block.
    fn log_dir_failed(&self);
}

/// See the module. Shared by all logs of the dir.
#[derive(Debug)]
pub(crate) struct LogDir {
    pub(crate) path: PathBuf,
    pub(crate) directory_id: Uuid,
    pub(crate) disk: Arc<dyn Disk>,
    /// The open files of all logs, in this dir and others.
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) journal: Journal,
    offline: AtomicBool,
    listener: OnceLock<Arc<dyn LogDirListener>>,
    /// A sync failed in the previous process: pages in the page cache may not be durable.
    had_failed_sync: AtomicBool,
}

impl LogDir {
    pub(crate) fn new(
        path: PathBuf,
        directory_id: Uuid,
        disk: Arc<dyn Disk>,
        files: Arc<OpenFiles>,
        reaper: Arc<Reaper>,
        journal: Journal,
    ) -> Self {
        let (checkpoints, offline, listener, had_failed_sync) = Default::default();
        Self { path, directory_id, disk, files, checkpoints, reaper, journal, offline, listener, had_failed_sync }
    }

    /// `listener` is called when the dir goes offline. Only the first one counts.
    pub(crate) fn set_listener(&self, listener: Arc<dyn LogDirListener>) {
        let _ = self.listener.set(listener);
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire) || self.journal.has_failed()
    }

    /// Classifies a failed write or sync. A full disk and a lack of file handles are temporary. Every other error takes the dir
    /// offline for good, since the state of its files is then unknown. So does every failed sync: with delayed allocation a full
    /// disk may show only there, and the written data is lost then.
    pub(crate) fn classify_error(&self, error: FileError) -> FileError {
        let passes = error.is_full() && !error.is_sync() || error.is_exhausted();
        if passes { error } else { self.take_offline(error) }
    }

    /// Takes the dir offline, whatever the error: an operation that must not stop half way has failed.
    pub(crate) fn take_offline(&self, error: FileError) -> FileError {
        if !self.offline.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.path.display(), %error, "log dir is offline after a disk error; restart the broker once the disk is sound");
            if let Some(listener) = self.listener.get() {
                listener.log_dir_failed();
            }
        }
        if error.is_sync()
            && let Err(cause) = self.disk.open(&self.path.join(FAILED_SYNC), Open::OrCreate)
        {
            tracing::error!(dir = %self.path.display(), %cause, "the failed sync cannot be noted; reboot the machine before the next start");
        }
        error
    }

    /// Detects whether a sync failed in the previous process.
    pub(crate) fn detect_failed_sync(&self) -> Result<(), FileError> {
        let path = self.path.join(FAILED_SYNC);
        let found = files::read_optional(self.disk.as_ref(), &path)?.is_some();
        self.had_failed_sync.store(found, Ordering::Release);
        Ok(())
    }

    pub(crate) fn had_failed_sync(&self) -> bool {
        self.had_failed_sync.load(Ordering::Acquire)
    }

    /// Removes the mark: all logs have written their recovered data again.
    pub(crate) fn clear_failed_sync(&self) -> Result<(), FileError> {
        if !self.had_failed_sync.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let path = self.path.join(FAILED_SYNC);
        self.disk.remove_file(&path).context("remove", &path)
    }

    /// Bytes that producers and replicas may still write: the free space without a reserve. The reserve is kept so that offsets can
    /// be committed, topics deleted and the metadata log written on a full disk. Queries the file system.
    pub(crate) fn writable_bytes(&self) -> u64 {
        let Ok((total, usable)) = self.disk.space(&self.path) else { return u64::MAX };
        usable.saturating_sub(reserve(total))
    }

    pub(crate) fn check_online(&self) -> Result<(), LogError> {
        if self.is_offline() { Err(LogError::Offline { dir: self.path.clone() }) } else { Ok(()) }
    }

    /// [`Self::classify_error`] for results.
    pub(crate) fn record_failure<T>(&self, result: Result<T, FileError>) -> Result<T, FileError> {
        result.map_err(|error| self.classify_error(error))
    }

    /// Called before a log's offsets decrease to `offset` (`None`: a new log). Blocks on the disk.
    pub(crate) fn lower_checkpoints(&self, partition: (&str, i32), offset: Option<i64>) -> Result<(), FileError> {
        self.checkpoints.lower_row(self.disk.as_ref(), &self.path, partition, offset)
    }

    pub(crate) fn env(&self) -> &dyn Env {
        self.files.env.as_ref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
