//! openraft's state machine: committed records become the published image.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use esker_core::metadata::{MetadataImage, MetadataRecord, snapshot_records};
use esker_storage::metalog::{MetadataFiles, SnapshotFile, Snapshots};
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use tokio::time::Instant;

use super::convert::{from_meta, from_snapshot, to_meta};
use super::types::{Applied, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::node::Node;
use crate::telemetry::QuorumMetrics;

/// The image and its position in the log.
#[derive(Debug)]
pub struct StateMachine {
    node: Node,
    snapshots: Arc<Snapshots>,
    image: MetadataImage,
    applied: Option<LogId>,
    membership: StoredMembership,
    current: Arc<ArcSwap<MetadataImage>>,
    metrics: Arc<QuorumMetrics>,
    published: watch::Sender<Arc<MetadataImage>>,
}

/// Where the image is read: at once, or as it changes.
#[derive(Debug, Clone)]
pub struct Published {
    /// The newest image.
    pub current: Arc<ArcSwap<MetadataImage>>,
    /// Publishes every new image.
    pub changes: watch::Receiver<Arc<MetadataImage>>,
    /// Closed after the quorum's tasks have ended.
    pub(super) files: MetadataFiles,
    /// What the quorum counts.
    pub(super) metrics: Arc<QuorumMetrics>,
}

/// Records that are encoded together: a chunk of the snapshot.
const CHUNK_RECORDS: usize = 512;

impl StateMachine {
    /// Starts from the folder's snapshot, or from nothing. Blocks for the disk.
    pub fn open(node: Node, files: MetadataFiles) -> io::Result<(Self, Published)> {
        let (published, changes) = watch::channel(Arc::default());
        let current: Arc<ArcSwap<MetadataImage>> = Arc::default();
        let metrics = Arc::new(QuorumMetrics::new(Instant::now()));
        let mut machine = Self {
            node,
            snapshots: Arc::clone(&files.snapshots),
            image: MetadataImage::default(),
            applied: None,
            membership: StoredMembership::default(),
            current: Arc::clone(&current),
            metrics: Arc::clone(&metrics),
            published,
        };
        if let Some(snapshot) = machine.snapshots.current() {
            machine.restore(from_meta(snapshot.meta())?, read_image(&snapshot)?);
        }
        Ok((machine, Published { current, changes, files, metrics }))
    }

    fn restore(&mut self, meta: SnapshotMeta, image: MetadataImage) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.image = image;
        self.publish();
    }

    fn publish(&mut self) {
        self.image.set_offset(self.applied.as_ref().map_or(0, |id| id.index + 1));
        let image = Arc::new(self.image.clone());
        self.current.store(Arc::clone(&image));
        self.published.send_replace(image);
    }
}

/// Reads a snapshot chunk by chunk. Blocks for the disk.
pub(super) fn read_image(snapshot: &SnapshotFile) -> io::Result<MetadataImage> {
    let mut image = MetadataImage::default();
    for chunk in snapshot.chunks() {
        for record in MetadataRecord::decode_all(chunk?).map_err(io::Error::other)? {
            image.apply(&record);
        }
    }
    Ok(image)
}

/// Runs work that waits for the disk off the async workers.
async fn blocking<T: Send + 'static>(
    node: &Node,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    node.run_blocking(work).await.map_err(io::Error::other)?
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.applied = Some(entry.log_id());
            let outcome = match entry.payload {
                EntryPayload::Blank => Applied::Nothing,
                EntryPayload::Normal(proposal) if proposal.is_current_at(&entry.log_id) => {
                    let records = MetadataRecord::decode_all(proposal.records);
                    for record in records.inspect_err(|_| self.metrics.record_load_error()).map_err(io::Error::other)? {
                        self.image.apply(&record);
                    }
                    Applied::Changed
                }
                EntryPayload::Normal(_) => Applied::Stale,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(self.applied, membership);
                    Applied::Nothing
                }
            };
            answers.extend(responder.map(|responder| (responder, outcome)));
        }
        // The image has the records before their submitters are answered.
        self.publish();
        answers.into_iter().for_each(|(answer, outcome)| answer.send(outcome));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            node: self.node.clone(),
            snapshots: Arc::clone(&self.snapshots),
            image: self.image.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let snapshots = Arc::clone(&self.snapshots);
        // It is read from the folder's own file, so that nothing is believed that a restart would not find.
        let image = blocking(&self.node, move || read_image(&snapshots.install(&snapshot)?)).await?;
        self.restore(meta.clone(), image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.snapshots.current().map(from_snapshot).transpose()
    }
}

/// Writes a snapshot of one image; the machine applies entries meanwhile.
#[derive(Debug)]
pub struct Builder {
    node: Node,
    snapshots: Arc<Snapshots>,
    image: MetadataImage,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = to_meta(self.applied.as_ref(), &self.membership);
        let (snapshots, image) = (Arc::clone(&self.snapshots), self.image.clone());
        blocking(&self.node, move || {
            let records = snapshot_records(&image);
            let chunks = records.chunks(CHUNK_RECORDS);
            let encoded =
                chunks.map(|records| MetadataRecord::encode_all(records, image.level()).map_err(io::Error::other));
            from_snapshot(snapshots.write(&meta, encoded)?)
        })
        .await
    }
}
