//! A folder is made, and locked against other processes, before anything in it is read.
//!
//! Must never: wait for a lock.

use std::{fmt::Debug, path::Path};

use crate::{
    OpenError,
    error::FileError,
    files::LOCK,
    io::{Context, Disk},
};

/// Takes a folder's lock; it is held until the lock is dropped.
pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Debug + Send + Sync>, OpenError> {
    let path = dir.join(LOCK);
    let lock = disk.lock(&path).context("lock", &path)?;
    lock.ok_or_else(|| OpenError::Locked { dir: dir.to_owned() })
}

/// Makes a folder with its parents if it is not there, and flushes their names: without them a power cut would take all that
/// is flushed inside.
pub(super) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| disk.list(dir).is_err()).collect();
    disk.create_dir_all(dir).context("create", dir)?;
    for parent in missing.iter().rev().filter_map(|dir| dir.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        disk.sync_dir(parent).context("sync", parent)?;
    }
    Ok(())
}
