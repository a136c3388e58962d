//! Names and small text files of a data folder, as Kafka has them.

use std::path::{Path, PathBuf};

use crate::Uuid;

use crate::{
    env::{Env, version_4},
    error::{FileError, OpenError},
    io::{Context, Disk, Open},
};

pub(crate) const LOG: &str = ".log";
pub(crate) const INDEX: &str = ".index";
pub(crate) const TIME_INDEX: &str = ".timeindex";
pub(crate) const TXN_INDEX: &str = ".txnindex";
pub(crate) const SNAPSHOT: &str = ".snapshot";
/// Esker's own: the size of a segment that a truncation made shorter than its file; removed once the file is cut.
pub(crate) const SEALED: &str = ".sealed";
/// Esker's own: the damaged ranges of a partition.
pub(crate) const DAMAGED: &str = "damaged-ranges";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Esker's own: see [`crate::dir`].
pub(crate) const FAILED_SYNC: &str = ".failed-sync";
pub(crate) const LOCK: &str = ".lock";
pub(crate) const META: &str = "meta.properties";
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Where compaction ended in each log, in Kafka's format.
pub(crate) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// The log of the cluster's metadata, in Kafka and here: it lies among the partitions but is no topic's.
const METADATA_LOG: &str = "__cluster_metadata-0";
/// Suffix of a folder that is to be removed.
pub(crate) const DELETED: &str = "-delete";
/// Suffix of a folder whose topic does not exist in the cluster, as in Kafka. Esker never reads such a folder.
pub(crate) const STRAY: &str = "-stray";
/// Suffix of a folder that a log is being moved to.
pub(crate) const FUTURE: &str = "-future";
/// Marks a folder whose log has moved to another log dir: of two folders of a partition, the marked one is removed.
pub(crate) const MOVED: &str = ".moved";

/// `<20 digits><suffix>` in `dir`.
pub(crate) fn segment_path(dir: &Path, base_offset: i64, suffix: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}{suffix}"))
}

/// The offset in the name of a segment's file, if the name has that suffix.
pub(crate) fn offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// `topic-partition`.
pub(crate) fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Topic and partition of a folder's name; `None` for folders that are no live partition.
pub(crate) fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    if name == METADATA_LOG || name.ends_with(DELETED) || name.ends_with(FUTURE) || name.ends_with(STRAY) {
        return None;
    }
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((topic, partition.parse().ok()?))
}

/// `topic-partition.<uuid>-delete`, cut so that it fits into a file name.
pub(crate) fn deleted_dir(env: &dyn Env, topic: &str, partition: i32) -> String {
    unique_dir(env, topic, partition, DELETED)
}

/// `topic-partition.<uuid><end>`, cut in the same way.
pub(crate) fn unique_dir(env: &dyn Env, topic: &str, partition: i32, end: &str) -> String {
    let suffix = format!("-{partition}.{}{end}", version_4(env).simple());
    let keep = topic.len().min(255usize.saturating_sub(suffix.len()));
    // Topic names are ASCII; another name would be kept whole.
    format!("{}{suffix}", topic.get(..keep).unwrap_or(topic))
}

/// The partition of a folder whose name [`unique_dir`] made.
pub(crate) fn partition_of_unique(name: &str) -> Option<i32> {
    let (front, _) = name.rsplit_once('.')?;
    front.rsplit_once('-')?.1.parse().ok()
}

/// Reads a small file; `None` if it is not there.
pub(crate) fn read_optional(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { action: "read", path: path.to_path_buf(), source }),
    }
}

/// Reads an offset checkpoint (`version 0`, count, `topic partition offset` lines); empty if it is not there.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<Vec<(String, i32, i64)>, OpenError> {
    let Some(bytes) = read_optional(disk, path)? else { return Ok(Vec::new()) };
    let malformed = |what: String| OpenError::Malformed { path: path.to_path_buf(), what };
    let lines = checkpoint_lines(&bytes).map_err(malformed)?;
    lines
        .into_iter()
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next().map(str::parse), words.next().map(str::parse), words.next()) {
                (Some(topic), Some(Ok(partition)), Some(Ok(offset)), None) => Ok((topic.to_owned(), partition, offset)),
                _ => Err(malformed(format!("line {line:?} is not `topic partition offset`"))),
            }
        })
        .collect()
}

/// Replaces an offset checkpoint atomically and flushes it.
pub(crate) fn write_offsets(disk: &dyn Disk, path: &Path, offsets: &[(&str, i32, i64)]) -> Result<(), FileError> {
    use std::fmt::Write as _;
    let mut text = format!("0\n{}\n", offsets.len());
    for (topic, partition, offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    disk.replace(path, text.as_bytes(), true).context("write", path)
}

/// The entry lines of a checkpoint file of version 0, their number checked.
pub(crate) fn checkpoint_lines(bytes: &[u8]) -> Result<Vec<&str>, String> {
    if bytes.is_empty() {
        // Kafka creates the file empty.
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    match lines.next().map(str::trim) {
        Some("0") => {}
        other => return Err(format!("has version {other:?}, 0 is known")),
    }
    let count: usize = match lines.next().map(|line| line.trim().parse()) {
        Some(Ok(count)) => count,
        _ => return Err("has no count in its second line".to_owned()),
    };
    let lines: Vec<&str> = lines.collect();
    if lines.len() != count { Err(format!("says {count} entries and has {}", lines.len())) } else { Ok(lines) }
}

/// The topic id in `partition.metadata`; `None` if the file is not there (folders of old Kafkas), or empty (a power cut
/// before the log's first flush).
pub(crate) fn read_partition_metadata(disk: &dyn Disk, dir: &Path) -> Result<Option<Uuid>, OpenError> {
    let path = dir.join(PARTITION_METADATA);
    let Some(bytes) = read_optional(disk, &path)? else { return Ok(None) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    let id = text.lines().find_map(|line| line.trim().strip_prefix("topic_id:"));
    match id.map(|id| id.trim().parse::<Uuid>()) {
        Some(Ok(id)) => Ok(Some(id)),
        _ => Err(OpenError::Malformed { path, what: "has no line `topic_id: <id>`".to_owned() }),
    }
}

/// Creates the files of an empty segment: the data file first, since the others depend on it. Index files exist from the start, as
/// in Kafka: its tools create a missing one, even in the folder of a running broker.
pub(crate) fn create_segment(disk: &dyn Disk, dir: &Path, base_offset: i64) -> Result<(), FileError> {
    for suffix in [LOG, INDEX, TIME_INDEX] {
        let path = segment_path(dir, base_offset, suffix);
        disk.open(&path, Open::Empty).context("create", &path)?;
    }
    Ok(())
}

/// Creates the index files of a segment that lacks them; the others stay as they are.
pub(crate) fn create_missing_indexes(disk: &dyn Disk, dir: &Path, base_offset: i64) -> Result<(), FileError> {
    for suffix in [INDEX, TIME_INDEX] {
        let path = segment_path(dir, base_offset, suffix);
        disk.open(&path, Open::OrCreate).context("create", &path)?;
    }
    Ok(())
}

/// Writes `partition.metadata`; the first flush of the log makes it durable.
pub(crate) fn write_partition_metadata(disk: &dyn Disk, dir: &Path, topic_id: Uuid) -> Result<(), FileError> {
    let path = dir.join(PARTITION_METADATA);
    let text = format!("version: 0\ntopic_id: {topic_id}");
    disk.replace(&path, text.as_bytes(), false).context("write", &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MachineEnv, io::OsDisk, test_support::random_uuid};

    #[test]
    fn names() {
        assert_eq!(segment_path(Path::new("d"), 42, LOG), Path::new("d/00000000000000000042.log"));
        assert_eq!(offset_of("00000000000000000042.log", LOG), Some(42));
        assert_eq!(offset_of("42.log", LOG), None);
        assert_eq!(offset_of("0000000000000000004x.log", LOG), None);
        assert_eq!(parse_partition_dir("a-b-7"), Some(("a-b", 7)));
        for other in ["a", "-1", "a-", "a-x", "a-1.0123-delete", "a-1.0123-future", "a--1x", METADATA_LOG] {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
        let deleted = deleted_dir(&MachineEnv::default(), &"t".repeat(249), 11);
        assert_eq!(deleted.len(), 255);
        assert!(deleted.ends_with("-delete"));
    }

    #[test]
    fn offset_checkpoints() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        assert!(read_offsets(&OsDisk, &path).unwrap().is_empty());
        write_offsets(&OsDisk, &path, &[("a", 0, 5), ("b", 12, 1 << 40)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n2\na 0 5\nb 12 1099511627776\n");
        assert_eq!(read_offsets(&OsDisk, &path).unwrap(), [("a".to_owned(), 0, 5), ("b".to_owned(), 12, 1 << 40)]);
        std::fs::write(&path, "").unwrap();
        assert!(read_offsets(&OsDisk, &path).unwrap().is_empty());
        for bad in ["1\n0\n", "0\n2\na 0 5\n", "0\nx\n", "0\n1\na 0\n", "0\n1\na 0 5 6\n", "\u{0}\u{0}"] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_offsets(&OsDisk, &path).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn partition_metadata() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_partition_metadata(&OsDisk, dir.path()).unwrap(), None);
        let id = random_uuid();
        write_partition_metadata(&OsDisk, dir.path(), id).unwrap();
        assert_eq!(read_partition_metadata(&OsDisk, dir.path()).unwrap(), Some(id));
        std::fs::write(dir.path().join(PARTITION_METADATA), "version: 0\n").unwrap();
        assert!(read_partition_metadata(&OsDisk, dir.path()).is_err());
    }
}
