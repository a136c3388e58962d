//! The reserve of a file system, so that offsets can be committed, topics deleted and the metadata log written on a full disk.

use std::path::Path;

use crate::io::Disk;

/// The reserve is a twentieth of the file system, and at most `MAX_RESERVE` bytes.
const RESERVE_PART: u64 = 20;
const MAX_RESERVE: u64 = 64 << 20;

/// Whether the file system that `path` lies on is near the point where producers are refused.
pub(crate) fn is_short(disk: &dyn Disk, path: &Path) -> bool {
    disk.space(path).is_ok_and(|(total, usable)| usable < reserve(total).saturating_mul(2))
}

/// The reserve of a file system of `total` bytes.
pub(crate) fn reserve(total: u64) -> u64 {
    (total / RESERVE_PART).min(MAX_RESERVE)
}
