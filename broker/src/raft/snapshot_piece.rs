//! A snapshot's file in pieces, as it is sent to another node.

use bytes::{Bytes, BytesMut};
use esker_storage::metalog::SnapshotFile;

/// Bytes of a snapshot that are sent at once.
const PIECE: usize = 1 << 20;

/// Reads the piece at `offset`; it is empty behind the end. Blocks for the disk.
pub(super) fn read_piece(snapshot: &SnapshotFile, offset: u64) -> std::io::Result<Bytes> {
    let left = usize::try_from(snapshot.size().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut piece = BytesMut::zeroed(left.min(PIECE));
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match snapshot.read_at(rest, offset.saturating_add(filled as u64))? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    piece.truncate(filled);
    Ok(piece.freeze())
}
