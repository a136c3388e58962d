//! A compacted segment that is being written: `.cleaned` files, written through a buffer, and the indexes.

use std::{io::IoSlice, path::PathBuf, sync::Arc};

use crate::{
    compaction::swap::{CLEANED, with_suffix},
    error::FileError,
    files::{INDEX, LOG, TIME_INDEX, TXN_INDEX, segment_path},
    index::{AbortedTxn, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex, TransactionIndex},
    io::{Context, Disk, LogFile, Open},
    walk::Step,
};

/// Bytes written at once.
const BUFFER: usize = 1 << 20;

/// See the module.
pub(super) struct Output {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    base_offset: i64,
    path: PathBuf,
    file: Arc<dyn LogFile>,
    buffer: Vec<u8>,
    written: u64,
    interval: u64,
    since_index: u64,
    offsets: Vec<OffsetEntry>,
    times: TimeIndex,
    newest: Option<(i64, u32)>,
    installed: bool,
}

impl Drop for Output {
    /// Removes the files unless they were swapped in. (The next start removes what could not be removed here.)
    fn drop(&mut self) {
        let written = [LOG, INDEX, TIME_INDEX, TXN_INDEX].iter().filter(|_| !self.installed);
        for suffix in written {
            let _ = self.disk.remove_file(&with_suffix(&segment_path(&self.dir, self.base_offset, suffix), CLEANED));
        }
    }
}

impl Output {
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        base_offset: i64,
        interval: u32,
    ) -> Result<Self, FileError> {
        let path = with_suffix(&segment_path(&dir, base_offset, LOG), CLEANED);
        // An earlier run that failed may have left a file, which has no map.
        let file = disk.open(&path, Open::Empty).context("create", &path)?;
        Ok(Self {
            disk,
            dir,
            base_offset,
            path,
            file,
            buffer: Vec::new(),
            written: 0,
            interval: u64::from(interval),
            since_index: 0,
            offsets: Vec::new(),
            times: TimeIndex::growing(Vec::new()),
            newest: None,
            installed: false,
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.written.saturating_add(self.buffer.len() as u64)
    }

    /// Appends a batch; `step` is its parsed header. Returns the bytes written to the file.
    pub(super) fn append_batch(&mut self, step: &Step, bytes: &[u8]) -> Result<u64, FileError> {
        let relative = |offset: i64| offset.saturating_sub(self.base_offset).clamp(0, i64::from(u32::MAX)) as u32;
        let last = relative(step.last_offset);
        if self.newest.is_none_or(|(newest, _)| step.max_timestamp > newest) {
            self.newest = Some((step.max_timestamp, last));
        }
        if self.since_index > self.interval {
            self.offsets.push(OffsetEntry { relative_offset: last, position: self.size() as u32 });
            self.note_newest();
            self.since_index = 0;
        }
        self.since_index = self.since_index.saturating_add(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush_buffer() } else { Ok(0) }
    }

    fn note_newest(&self) {
        if let Some((timestamp, relative_offset)) = self.newest.filter(|(timestamp, _)| *timestamp >= 0) {
            self.times.push(TimeEntry { timestamp, relative_offset });
        }
    }

    fn flush_buffer(&mut self) -> Result<u64, FileError> {
        let bytes = self.buffer.len() as u64;
        self.file.write_at(&mut [IoSlice::new(&self.buffer)], self.written).context("write to", &self.path)?;
        self.written = self.written.saturating_add(bytes);
        self.buffer.clear();
        Ok(bytes)
    }

    /// Flushes the segment and its indexes, all under names that a start removes. Its modification time is that of its source.
    /// Returns its transaction index.
    pub(super) fn finish(
        &mut self,
        aborted: Vec<AbortedTxn>,
        modified_ms: Option<i64>,
    ) -> Result<TransactionIndex, FileError> {
        self.flush_buffer()?;
        if let Some(modified_ms) = modified_ms {
            self.file.set_modified_ms(modified_ms);
        }
        self.file.sync_data().context("sync", &self.path)?;
        self.note_newest();
        let transactions = TransactionIndex::default();
        aborted.into_iter().for_each(|txn| transactions.push(txn));
        let offsets = OffsetIndex::growing_from(&self.offsets).encode_from(0);
        let files = [(INDEX, offsets), (TIME_INDEX, self.times.encode_from(0)), (TXN_INDEX, transactions.encode())];
        for (suffix, content) in files {
            let path = with_suffix(&segment_path(&self.dir, self.base_offset, suffix), CLEANED);
            let file = self.disk.open(&path, Open::Empty).context("create", &path)?;
            file.write_at(&mut [IoSlice::new(&content)], 0).context("write to", &path)?;
            file.sync_data().context("sync", &path)?;
        }
        Ok(transactions)
    }

    /// Marks that the swap renamed its files: they belong to the log.
    pub(super) fn mark_installed(&mut self) {
        self.installed = true;
    }
}
