//! Makes the node of a folder the only voter, offline: see `esker_storage::metalog` (`recovery`) for the log, and `esker_core::controller` (`recovery`)
//! for what the metadata needs after entries are lost.

use std::io;
use std::path::Path;
use std::sync::Arc;

use esker_core::controller::recover_metadata;
use esker_core::metadata::{MetadataImage, MetadataRecord, snapshot_records};
use esker_storage::Uuid;
use esker_storage::io::Disk;
use esker_storage::metalog::{LogId, QuorumState, VoterId, make_only_voter};
use openraft::EntryPayload;

use super::convert::from_entry;
use super::machine::read_image;

/// Records that are encoded together: a chunk of the snapshot.
const RECORDS: usize = 512;

/// Makes `own` the only voter of the log in `dir`, whose state is `state`; returns the entry that says so. Nothing else may use the folder; blocks
/// for the disk.
pub fn recover_quorum(disk: Arc<dyn Disk>, dir: &Path, own: VoterId, state: QuorumState) -> io::Result<LogId> {
    let mut image = image_of(state)?;
    recover_metadata(&image, own.node_id).iter().for_each(|record| image.apply(record));
    let records = snapshot_records(&image);
    let chunks = records.chunks(RECORDS);
    let chunks = chunks.map(|records| MetadataRecord::encode_all(records, image.level()).map_err(io::Error::other));
    make_only_voter(disk, dir, own, chunks)
}

/// Whether the metadata in `state` knows the node of a folder: as a member of the quorum, or as a broker that pulled its log. Blocks for the disk.
pub fn is_node_of(state: &QuorumState, own: VoterId) -> io::Result<bool> {
    if state.members.addresses.contains_key(&own) {
        return Ok(true);
    }
    Ok(image_of(state.clone())?.reservation(own.node_id) == Some(Uuid(own.directory)))
}

/// The image with all entries, committed or not: they count as committed from here on.
fn image_of(state: QuorumState) -> io::Result<MetadataImage> {
    let mut image = state.snapshot.as_ref().map(read_image).transpose()?.unwrap_or_default();
    let first = state.snapshot.and_then(|snapshot| snapshot.meta().last).map_or(0, |last| last.index.saturating_add(1));
    for entry in state.entries.into_iter().filter(|entry| entry.id.index >= first) {
        let entry = from_entry(entry)?;
        let EntryPayload::Normal(proposal) = entry.payload else { continue };
        if proposal.is_current_at(&entry.log_id) {
            let records = MetadataRecord::decode_all(proposal.records).map_err(io::Error::other)?;
            records.iter().for_each(|record| image.apply(record));
        }
    }
    Ok(image)
}
