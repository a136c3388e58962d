//! A segment's offset and time index: loaded at first use, checked against the data, and rebuilt from it if they do not match.

use std::{io::IoSlice, path::Path};

use super::Segment;
use crate::{
    error::FileError,
    files::{INDEX, LOG, TIME_INDEX, TXN_INDEX},
    index::{OffsetEntry, OffsetIndex, TimeEntry, TimeIndex, sound_entries, sound_times},
    io::{Context, Open},
    mmap::Map,
    open_files::Opened,
    scan::{Damage, Window, scan, scan_through},
    segment::Rebuilt,
    walk::{self, STEP_BYTES},
};

impl Segment {
    /// The offset index: the growing one, or that of a closed segment, which is loaded, or rebuilt if it is missing or wrong, at the
    /// first call.
    pub(crate) fn offsets<'a>(&'a self, opened: &'a Opened) -> Result<&'a OffsetIndex, FileError> {
        if let Some((offsets, _)) = self.growing.get() {
            return Ok(offsets);
        }
        if let Some(offsets) = opened.offsets.get() {
            return if offsets.is_damaged() { Ok(&self.rebuilt(opened)?.0) } else { Ok(offsets) };
        }
        let (offsets, times) = self.load_offsets()?;
        if let Some(times) = times {
            let _ = opened.times.set(times);
        }
        Ok(opened.offsets.get_or_init(|| offsets))
    }

    /// The time index, likewise. It is loaded separately: to verify that no later timestamp follows, a segment may have to be
    /// walked, and fetches need no times.
    pub(crate) fn times<'a>(&'a self, opened: &'a Opened) -> Result<&'a TimeIndex, FileError> {
        if let Some((_, times)) = self.growing.get() {
            return Ok(times);
        }
        let sound = || opened.times.get().filter(|times| !times.is_damaged());
        if let Some(times) = sound() {
            return Ok(times);
        }
        let offsets = self.offsets(opened)?;
        // The offset index may have been rebuilt together with the time index.
        if let Some(times) = sound() {
            return Ok(times);
        }
        if opened.times.get().is_some() || opened.rebuilt.get().is_some() {
            return Ok(&self.rebuilt(opened)?.1);
        }
        let loaded = self.load_times(offsets)?;
        Ok(opened.times.get_or_init(|| loaded))
    }

    /// Both indexes, rebuilt from the data in memory and as files, after the mapped ones were damaged. Blocks on the disk the first
    /// time.
    fn rebuilt<'a>(&self, opened: &'a Opened) -> Result<&'a (OffsetIndex, TimeIndex), FileError> {
        if let Some(rebuilt) = opened.rebuilt.get() {
            return Ok(rebuilt);
        }
        tracing::warn!(segment = %self.path(LOG).display(), "an index file was cut short by another process, or cannot be read");
        let rebuilt = self.rebuild_indexes()?;
        Ok(opened.rebuilt.get_or_init(|| rebuilt))
    }

    /// The indexes of the active segment, which are in memory.
    pub(crate) fn growing(&self) -> Option<&(OffsetIndex, TimeIndex)> {
        self.growing.get()
    }

    /// Loads the offset index, and the time index if it had to be rebuilt, too.
    fn load_offsets(&self) -> Result<(OffsetIndex, Option<TimeIndex>), FileError> {
        if let Some(file) = self.mapped_index(INDEX, 8) {
            let size = file.as_ref().len() as u64;
            let offsets = OffsetIndex::File(file);
            // The file was checked before and closed since.
            if self.checked_offsets.get() == Some(&size) {
                return Ok((offsets, None));
            }
            if self.offsets_fit(&offsets)? && !offsets.is_damaged() {
                let _ = self.checked_offsets.set(size);
                return Ok((offsets, None));
            }
        }
        self.rebuild_indexes().map(|(offsets, times)| (offsets, Some(times)))
    }

    fn load_times(&self, offsets: &OffsetIndex) -> Result<TimeIndex, FileError> {
        if let Some(file) = self.mapped_index(TIME_INDEX, 12) {
            let size = file.as_ref().len() as u64;
            let times = TimeIndex::File(file);
            if self.checked_times.get() == Some(&size) {
                return Ok(times);
            }
            if self.times_fit(offsets, &times)? && !times.is_damaged() {
                let _ = self.checked_times.set(size);
                return Ok(times);
            }
        }
        Ok(self.rebuild_indexes()?.1)
    }

    fn rebuild_indexes(&self) -> Result<(OffsetIndex, TimeIndex), FileError> {
        tracing::info!(segment = %self.path(LOG).display(), "rebuilding the indexes of a segment");
        let rebuilt = self.rebuild(Vec::new(), Vec::new(), i64::MAX, i64::MAX)?;
        if rebuilt.damaged.len() > self.damaged.len() {
            tracing::error!(segment = %self.path(LOG).display(), damaged = ?rebuilt.damaged, "a segment is damaged");
        }
        *self.max_time.lock() = rebuilt.max_time;
        let offsets = OffsetIndex::growing_from(&rebuilt.offsets);
        let times = TimeIndex::growing(rebuilt.times);
        if let Some((timestamp, offset)) = rebuilt.max_time {
            // As at a roll: without its largest timestamp the file would not fit the next time either.
            times.push(TimeEntry { timestamp, relative_offset: self.relative(offset) });
        }
        if let Err(error) = self.write_synced(&offsets, &times) {
            // Reads continue on a full or failed disk: the indexes are in memory, and the next start rebuilds the files.
            tracing::warn!(segment = %self.path(LOG).display(), %error, "cannot write the indexes of a segment");
        }
        Ok((offsets, times))
    }

    fn mapped_index(&self, suffix: &str, entry: u64) -> Option<Map> {
        let file = self.disk.open(&self.path(suffix), Open::Existing).ok()?;
        let len = file.size().ok().filter(|len| len % entry == 0)?;
        let mut map = file.map(usize::try_from(len).ok()?).ok()?;
        self.handle.files().count_map(&mut map);
        Some(map)
    }

    /// Whether the last entry of an offset index file matches the data.
    fn offsets_fit(&self, offsets: &OffsetIndex) -> Result<bool, FileError> {
        match offsets.last() {
            Some(last) => self.entry_matches(last),
            // Too few bytes for an entry; the last batch itself may be large.
            None => {
                let far = u64::from(self.index_interval).saturating_mul(64);
                Ok(self.size() <= far || self.last_position()? <= far)
            }
        }
    }

    /// Whether the last entry of a time index file matches the data.
    fn times_fit(&self, offsets: &OffsetIndex, times: &TimeIndex) -> Result<bool, FileError> {
        let Some(last) = times.last() else {
            // A closed segment's time index ends with its largest timestamp, unless no batch has a time.
            return Ok(self.size() == 0);
        };
        if last.relative_offset >= self.relative(self.next_offset()) {
            return Ok(false);
        }
        if let Some((timestamp, offset)) = *self.max_time.lock() {
            return Ok((last.timestamp, last.relative_offset) == (timestamp, self.relative(offset)));
        }
        self.is_latest(offsets, last)
    }

    /// Whether the last entry of the time index is true, and no later batch has a larger timestamp: the file could be truncated.
    fn is_latest(&self, offsets: &OffsetIndex, last: TimeEntry) -> Result<bool, FileError> {
        let from = offsets.floor_entry(last.relative_offset);
        let from = match from {
            Some(entry) if self.entry_matches(entry)? => u64::from(entry.position),
            Some(_) => return Ok(false),
            None => 0,
        };
        let path = self.path(LOG);
        let file = self.file_once()?;
        let mut window = Window::new(file.as_ref(), &path);
        let offset = self.base_offset.saturating_add(i64::from(last.relative_offset));
        let (mut there, mut later) = (false, false);
        let (base, size) = (self.base_offset, self.size());
        scan(&mut window, from, size, base, i64::MAX, i64::MAX, |_, step, _| {
            there |= step.last_offset == offset && step.max_timestamp == last.timestamp;
            later |= step.max_timestamp > last.timestamp;
        })?;
        Ok(there && !later)
    }

    /// Where the last batch begins. Walks the segment.
    fn last_position(&self) -> Result<u64, FileError> {
        let path = self.path(LOG);
        let file = self.file_once()?;
        let mut window = Window::new(file.as_ref(), &path);
        let mut last = 0;
        scan(&mut window, 0, self.size(), self.base_offset, i64::MAX, i64::MAX, |position, _, _| last = position)?;
        Ok(last)
    }

    /// Whether a batch lies where an entry says, ending with the entry's offset.
    fn entry_matches(&self, entry: OffsetEntry) -> Result<bool, FileError> {
        if u64::from(entry.position) >= self.size() {
            return Ok(false);
        }
        let path = self.path(LOG);
        let file = self.file_once()?;
        let mut window = Window::new(file.as_ref(), &path);
        let view = window.view(u64::from(entry.position), STEP_BYTES, 0)?;
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        Ok(walk::step(view).is_ok_and(|step| step.last_offset == offset))
    }

    /// Rebuilds the indexes from the data, beginning with trusted entries. Batches at or above `check_from` have their CRC checked.
    /// Data below `durable_up_to` was durable, so damage there is skipped. Changes nothing.
    pub(crate) fn rebuild(
        &self,
        mut offsets: Vec<OffsetEntry>,
        mut times: Vec<TimeEntry>,
        check_from: i64,
        durable_up_to: i64,
    ) -> Result<Rebuilt, FileError> {
        // Entries of a damaged batch and of all later ones are dropped: a batch behind damage gets a new entry.
        if let Some(first) = self.damaged.first() {
            offsets.retain(|entry| u64::from(entry.position) < first.position);
        }
        while let Some(last) = offsets.last() {
            if self.entry_matches(*last)? {
                break;
            }
            offsets.pop();
        }
        let start = offsets.pop();
        // The batch of the last trusted entry is walked again, which adds the time entries of it and of later batches again.
        let (position, from) = start.map_or((0, 0), |entry| (u64::from(entry.position), entry.relative_offset));
        times.retain(|entry| entry.relative_offset < from);
        let absolute = |relative: u32| self.base_offset.saturating_add(i64::from(relative));
        let mut out = Rebuilt {
            max_time: times.last().map(|entry| (entry.timestamp, absolute(entry.relative_offset))),
            kept: (offsets.len(), times.len()),
            offsets,
            times,
            // Adds the entry at `position` again, if there was one.
            bytes_since_index: if start.is_some() { u64::from(self.index_interval) + 1 } else { 0 },
            first_timestamp: None,
            end_position: 0,
            next_offset: self.base_offset,
            gaps: false,
            damage: None,
            damaged: Vec::new(),
        };
        let path = self.path(LOG);
        let file = self.file_once()?;
        let mut window = Window::new(file.as_ref(), &path);
        let mut expected = self.base_offset;
        if position > 0 {
            // The entry is true, so the header there can be read.
            expected =
                walk::step(window.view(position, STEP_BYTES, 0)?).map_or(absolute(from), |step| step.base_offset);
            out.next_offset = expected;
            out.first_timestamp = walk::step(window.view(0, STEP_BYTES, 0)?).ok().map(|step| step.max_timestamp);
        }
        let interval = u64::from(self.index_interval);
        let mut damage = Damage {
            segment: self.base_offset,
            durable_up_to,
            next: self.next_offset(),
            known: &self.damaged,
            found: Vec::new(),
        };
        let mut last_end = position;
        let size = self.size();
        let end = scan_through(&mut window, position, size, expected, check_from, &mut damage, |position, step, _| {
            if position > last_end {
                // Readers continue behind damage by this entry.
                out.bytes_since_index = interval.saturating_add(1);
            }
            last_end = position.saturating_add(step.size as u64);
            out.first_timestamp.get_or_insert(step.max_timestamp);
            if out.max_time.is_none_or(|(max, _)| step.max_timestamp > max) {
                out.max_time = Some((step.max_timestamp, step.last_offset));
            }
            if out.bytes_since_index > interval {
                let relative_offset = self.relative(step.last_offset);
                out.offsets.push(OffsetEntry { relative_offset, position: position as u32 });
                if let Some((timestamp, offset)) = out.max_time {
                    let entry = TimeEntry { timestamp, relative_offset: self.relative(offset) };
                    if timestamp >= 0 && out.times.last().is_none_or(|last| timestamp > last.timestamp) {
                        out.times.push(entry);
                    }
                }
                out.bytes_since_index = 0;
            }
            out.bytes_since_index = out.bytes_since_index.saturating_add(step.size as u64);
            out.gaps |= step.base_offset > out.next_offset;
            out.next_offset = step.last_offset.saturating_add(1);
        })?;
        out.end_position = end.position;
        out.damage = end.damage;
        out.damaged = damage.found;
        Ok(out)
    }

    /// Plausible entries of the index files, as the start of a rebuild.
    pub(crate) fn stored_entries(&self, below: i64) -> (Vec<OffsetEntry>, Vec<TimeEntry>) {
        let mut offsets = sound_entries(&self.disk.read(&self.path(INDEX)).unwrap_or_default(), self.size());
        let limit = self.relative(below);
        offsets.retain(|entry| entry.relative_offset < limit);
        let last = offsets.last().map_or(0, |entry| entry.relative_offset);
        (offsets, sound_times(&self.disk.read(&self.path(TIME_INDEX)).unwrap_or_default(), last))
    }

    /// Records an appended batch: largest timestamp, and index entries `with_entry`.
    pub(crate) fn record_batch(&self, position: u64, last_offset: i64, max_timestamp: i64, with_entry: bool) {
        let mut max_time = self.max_time.lock();
        if max_time.is_none_or(|(max, _)| max_timestamp > max) {
            *max_time = Some((max_timestamp, last_offset));
        }
        if with_entry && let Some((offsets, times)) = self.growing.get() {
            offsets.push(OffsetEntry { relative_offset: self.relative(last_offset), position: position as u32 });
            if let Some((timestamp, offset)) = *max_time {
                times.push(TimeEntry { timestamp, relative_offset: self.relative(offset) });
            }
        }
    }

    /// Largest timestamp and the last offset of the batch that contains it; `None` if no record has a timestamp.
    pub(crate) fn max_time(&self) -> Result<Option<(i64, i64)>, FileError> {
        if self.size() == 0 {
            return Ok(None);
        }
        if let Some(known) = *self.max_time.lock() {
            return Ok(Some(known).filter(|(timestamp, _)| *timestamp >= 0));
        }
        let last = match self.growing.get() {
            Some((_, times)) => times.last(),
            // Retention calls this for all segments, which must not close segments that are read.
            None => match self.handle.get() {
                Some(opened) => match last_if_sound(self.times(&opened)?) {
                    Some(last) => last,
                    None => self.rebuilt(&opened)?.1.last(),
                },
                None => {
                    let times = match self.load_offsets()? {
                        (_, Some(times)) => times,
                        (offsets, None) => self.load_times(&offsets)?,
                    };
                    match last_if_sound(&times) {
                        Some(last) => last,
                        None => self.rebuild_indexes()?.1.last(),
                    }
                }
            },
        };
        let mut max_time = self.max_time.lock();
        if max_time.is_none() {
            *max_time = last
                .map(|e| (e.timestamp, self.base_offset.saturating_add(i64::from(e.relative_offset))))
                .or(Some((-1, self.base_offset)));
        }
        Ok(max_time.filter(|(timestamp, _)| *timestamp >= 0))
    }

    /// Resets the cached largest timestamp.
    #[cfg(test)]
    pub(crate) fn forget_max_time(&self) {
        if self.growing.get().is_none() {
            *self.max_time.lock() = None;
        }
    }

    /// Writes both index files whole, ending the time index with the largest timestamp (as Kafka closes a segment).
    pub(crate) fn write_indexes(&self) -> Result<(), FileError> {
        let Some((offsets, times)) = self.growing.get() else { return Ok(()) };
        if let Some((timestamp, offset)) = *self.max_time.lock() {
            times.push(TimeEntry { timestamp, relative_offset: self.relative(offset) });
        }
        let mut written = self.written.lock();
        written.times =
            self.write_index_file(&self.path(TIME_INDEX), |from| times.encode_from(from), (written.times, 12))?;
        written.offsets =
            self.write_index_file(&self.path(INDEX), |from| offsets.encode_from(from), (written.offsets, 8))?;
        Ok(())
    }

    /// Writes an index file from entry number `known` on; `encode` gives the entries from a number on, `entry` is the size of one. Returns
    /// how many are in the file then: appends may add more meanwhile.
    pub(super) fn write_index_file(
        &self,
        path: &Path,
        encode: impl Fn(usize) -> Vec<u8>,
        (known, entry): (usize, usize),
    ) -> Result<usize, FileError> {
        let replace = || {
            let bytes = encode(0);
            self.disk.replace(path, &bytes, false).context("write", path)?;
            Ok(bytes.len() / entry)
        };
        let from = known * entry;
        let file = match self.disk.open(path, Open::Existing) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match known {
                0 => return replace(),
                // Another process removed the file: the next start rebuilds it.
                _ => return Ok(known),
            },
            file => file.context("open", path)?,
        };
        let size = file.size().context("look at", path)?;
        // Another process truncated the file: entries behind a hole would never be found. Or it is older than the walk of this
        // segment. (The file that was created with the segment is empty. It is not replaced: some file systems flush a file that is
        // renamed over another.)
        if size < from as u64 || known == 0 && size > 0 {
            return replace();
        }
        let bytes = encode(known);
        if !bytes.is_empty() {
            file.write_at(&mut [IoSlice::new(&bytes)], from as u64).context("write to", path)?;
        }
        let end = (from + bytes.len()) as u64;
        if file.size().context("look at", path)? > end {
            file.set_len(end).context("cut", path)?;
        }
        Ok(known + bytes.len() / entry)
    }

    /// Flushes the index files that exist.
    pub(crate) fn sync_indexes(&self) -> Result<(), FileError> {
        for suffix in [TIME_INDEX, INDEX, TXN_INDEX] {
            if suffix == TXN_INDEX && self.transactions.is_empty() {
                continue;
            }
            let path = self.path(suffix);
            match self.disk.open(&path, Open::Existing) {
                Ok(file) => file.sync_data().context("sync", &path)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("open", &path),
            }
        }
        Ok(())
    }

    /// Rewrites both index files. Their content is synced before the rename, since no flush will sync this segment again. Nothing
    /// is written for a segment whose names retention, compaction or a new log in its folder has taken over.
    fn write_synced(&self, offsets: &OffsetIndex, times: &TimeIndex) -> Result<(), FileError> {
        let owns_names = self.handle.owns_names.lock();
        if !*owns_names {
            return Ok(());
        }
        for (suffix, bytes) in [(TIME_INDEX, times.encode_from(0)), (INDEX, offsets.encode_from(0))] {
            let path = self.path(suffix);
            // If the name is lost, the next start rebuilds the file.
            let temporary = path.with_extension("index.tmp");
            let file = self.disk.open(&temporary, Open::Empty).context("create", &temporary)?;
            file.write_at(&mut [IoSlice::new(&bytes)], 0).context("write to", &temporary)?;
            file.sync_data().context("sync", &temporary)?;
            self.disk.rename(&temporary, &path).context("rename", &temporary)?;
        }
        Ok(())
    }
}

/// The last entry of a time index; `None` if its file is damaged: retention must not delete by the timestamps of zeros.
fn last_if_sound(times: &TimeIndex) -> Option<Option<TimeEntry>> {
    let last = times.last();
    (!times.is_damaged()).then_some(last)
}
