//! Replaces source segments by the compacted one, so that a crash leaves the old or the new.
//!
//! Kafka's names. `.cleaned` files are being written: a start removes them. Once all are durable they are renamed to `.swap`, the
//! data file last: from that moment on the new segment is valid, and a start finishes the remaining steps. The old data files are
//! renamed to `.deleted`, then the new files get their names, again the data file last.

use std::path::{Path, PathBuf};

use crate::{
    error::FileError,
    files::{INDEX, LOG, SEALED, TIME_INDEX, TXN_INDEX, offset_of, segment_path},
    io::{Context, Disk, Open},
    scan::{Window, scan},
};

pub(super) const CLEANED: &str = ".cleaned";
const SWAP: &str = ".swap";
const DELETED: &str = ".deleted";
/// The data file last, see the module.
const FILES: [&str; 4] = [INDEX, TIME_INDEX, TXN_INDEX, LOG];

/// `path` with `suffix` appended to its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn rename_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), FileError> {
    disk.rename(from, to).context("rename", from)
}

fn remove_file(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    disk.remove_file(path).context("remove", path)
}

/// Replaces the segments of all `bases` by the `.cleaned` files of the first. Returns the old data files, which the caller removes
/// once the names are durable.
pub(crate) fn swap_segments(disk: &dyn Disk, dir: &Path, bases: &[i64]) -> Result<Vec<PathBuf>, FileError> {
    let Some(first) = bases.first() else { return Ok(Vec::new()) };
    for suffix in FILES {
        let path = segment_path(dir, *first, suffix);
        rename_file(disk, &with_suffix(&path, CLEANED), &with_suffix(&path, SWAP))?;
    }
    let mut parked = Vec::with_capacity(bases.len());
    for base in bases {
        let path = segment_path(dir, *base, LOG);
        let deleted = with_suffix(&path, DELETED);
        rename_file(disk, &path, &deleted)?;
        parked.push(deleted);
        remove_derived_files(disk, dir, *base, base != first)?;
    }
    install_files(disk, dir, *first)?;
    Ok(parked)
}

/// Removes the files derived from an old data file; the indexes of the first segment are replaced instead.
fn remove_derived_files(disk: &dyn Disk, dir: &Path, base: i64, with_indexes: bool) -> Result<(), FileError> {
    // The marker belongs to the old file.
    remove_file(disk, &segment_path(dir, base, SEALED))?;
    for suffix in [INDEX, TIME_INDEX, TXN_INDEX].iter().filter(|_| with_indexes) {
        remove_file(disk, &segment_path(dir, base, suffix))?;
    }
    Ok(())
}

fn install_files(disk: &dyn Disk, dir: &Path, base: i64) -> Result<(), FileError> {
    for suffix in FILES {
        let path = segment_path(dir, base, suffix);
        let swap = with_suffix(&path, SWAP);
        match disk.rename(&swap, &path) {
            // A start that continues after a crash finds some files already renamed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && suffix != LOG => {}
            other => other.context("rename", &swap)?,
        }
    }
    Ok(())
}

/// At a start: finishes or undoes a swap that a crash interrupted. No file may be mapped yet.
pub(crate) fn finish_swaps(disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
    let names: Vec<String> = disk.list(dir).context("list", dir)?.into_iter().map(|(name, _)| name).collect();
    let ends = |suffix: &'static str| names.iter().filter(move |name| name.ends_with(suffix));
    for name in ends(CLEANED) {
        remove_file(disk, &dir.join(name))?;
    }
    let base_of = |name: &String, suffix: &str| offset_of(name.strip_suffix(SWAP)?, suffix);
    let mut swaps: Vec<i64> = ends(SWAP).filter_map(|name| base_of(name, LOG)).collect();
    swaps.sort_unstable();
    for name in ends(SWAP) {
        let base = FILES.iter().find_map(|suffix| base_of(name, suffix));
        if base.is_some_and(|base| !swaps.contains(&base)) {
            remove_file(disk, &dir.join(name))?;
        }
    }
    for base in &swaps {
        let next = end_of(disk, &with_suffix(&segment_path(dir, *base, LOG), SWAP), *base)?;
        let old = names.iter().filter_map(|name| offset_of(name, LOG)).filter(|old| *old > *base && *old < next);
        for old in old {
            remove_file(disk, &segment_path(dir, old, LOG))?;
            remove_derived_files(disk, dir, old, true)?;
        }
        remove_derived_files(disk, dir, *base, false)?;
        install_files(disk, dir, *base)?;
        tracing::info!(dir = %dir.display(), base, "finished a compaction that the last stop cut short");
    }
    if !swaps.is_empty() {
        disk.sync_dir(dir).context("sync", dir)?;
    }
    Ok(())
}

/// Offset after the last record: a compacted segment keeps its last batch, if only as a bare header.
fn end_of(disk: &dyn Disk, path: &Path, base: i64) -> Result<i64, FileError> {
    let file = disk.open(path, Open::Existing).context("open", path)?;
    let size = file.size().context("look at", path)?;
    let mut end = base;
    scan(&mut Window::new(file.as_ref(), path), 0, size, base, i64::MAX, i64::MAX, |_, step, _| {
        end = step.last_offset.saturating_add(1);
    })?;
    Ok(end)
}
