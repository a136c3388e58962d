//! openraft's state machine: committed records become the image that everybody reads.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use esker_core::metadata::{MetadataImage, MetadataRecord, snapshot_records};
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

const SNAPSHOT: &str = "metadata.snapshot";

/// The image and where in the log it stands.
#[derive(Debug)]
pub struct StateMachine {
    dir: PathBuf,
    image: MetadataImage,
    applied: Option<LogId>,
    membership: StoredMembership,
    current: Arc<ArcSwap<MetadataImage>>,
    published: watch::Sender<Arc<MetadataImage>>,
    ended: Ended,
}

/// Held while a snapshot is written, which goes on beside openraft's own end; true once none may be written any more. Whoever has the
/// folder next would find a newer snapshot there than the one that it began with.
pub(super) type Ended = Arc<Mutex<bool>>;

/// Where the image is read: at once, or as it changes.
#[derive(Debug, Clone)]
pub struct Published {
    /// The newest image.
    pub current: Arc<ArcSwap<MetadataImage>>,
    /// Tells of every new one.
    pub changes: watch::Receiver<Arc<MetadataImage>>,
    /// See [`Ended`].
    pub(super) ended: Ended,
}

impl StateMachine {
    /// Starts from the snapshot in `dir`, or from nothing.
    pub fn open(dir: &Path) -> io::Result<(Self, Published)> {
        let (published, changes) = watch::channel(Arc::default());
        let (current, ended): (Arc<ArcSwap<MetadataImage>>, Ended) = Default::default();
        let mut machine = Self {
            dir: dir.to_owned(),
            image: MetadataImage::default(),
            applied: None,
            membership: StoredMembership::default(),
            current: Arc::clone(&current),
            published,
            ended: Arc::clone(&ended),
        };
        if let Some((meta, records)) = read_snapshot(dir)? {
            machine.restore(&meta, records)?;
        }
        Ok((machine, Published { current, changes, ended }))
    }

    fn restore(&mut self, meta: &SnapshotMeta, records: Bytes) -> io::Result<()> {
        let mut image = MetadataImage::default();
        for record in MetadataRecord::decode_all(records).map_err(io::Error::other)? {
            image.apply(&record);
        }
        self.applied.clone_from(&meta.last_log_id);
        self.membership = meta.last_membership.clone();
        self.image = image;
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        self.image.set_offset(self.applied.as_ref().map_or(0, |id| id.index + 1));
        let image = Arc::new(self.image.clone());
        self.current.store(Arc::clone(&image));
        self.published.send_replace(image);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.clone(), self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.applied = Some(entry.log_id());
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    for record in MetadataRecord::decode_all(proposal.records.into()).map_err(io::Error::other)? {
                        self.image.apply(&record);
                    }
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(self.applied.clone(), membership);
                }
            }
            answers.extend(responder);
        }
        // Who asked must find what it asked for in the image.
        self.publish();
        answers.into_iter().for_each(|answer| answer.send(()));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            dir: self.dir.clone(),
            image: self.image.clone(),
            ended: Arc::clone(&self.ended),
            meta: SnapshotMeta { last_log_id: self.applied.clone(), last_membership: self.membership.clone() },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        write_snapshot(&self.dir, meta, &snapshot)?;
        self.restore(meta, snapshot)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(read_snapshot(&self.dir)?.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes a snapshot of one image; the machine goes on meanwhile.
#[derive(Debug)]
pub struct Builder {
    dir: PathBuf,
    image: MetadataImage,
    meta: SnapshotMeta,
    ended: Ended,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (dir, meta, image) = (self.dir.clone(), self.meta.clone(), self.image.clone());
        let ended = Arc::clone(&self.ended);
        let written = tokio::task::spawn_blocking(move || {
            let records = MetadataRecord::encode_all(&snapshot_records(&image)).map_err(io::Error::other)?;
            let ended = ended.lock();
            if *ended {
                return Err(io::Error::other("the broker has stopped"));
            }
            write_snapshot(&dir, &meta, &records)?;
            Ok(Snapshot { meta, snapshot: records })
        });
        written.await.map_err(io::Error::other)?
    }
}

/// `crc32c u32, length of meta u32, meta, records`.
fn write_snapshot(dir: &Path, meta: &SnapshotMeta, records: &[u8]) -> io::Result<()> {
    let meta = postcard::to_stdvec(meta).map_err(io::Error::other)?;
    let mut body = u32::try_from(meta.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
    body.extend(meta);
    body.extend(records);
    let fresh = dir.join("metadata.snapshot.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_data()?;
    std::fs::rename(&fresh, dir.join(SNAPSHOT))?;
    File::open(dir)?.sync_all()
}

fn read_snapshot(dir: &Path) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
    let bytes = match std::fs::read(dir.join(SNAPSHOT)) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || {
        let what = "the metadata snapshot is damaged; restore metadata.snapshot from a backup";
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let (length, rest) = body.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (meta, records) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
    let meta = postcard::from_bytes(meta).map_err(|_| damaged())?;
    Ok(Some((meta, bytes.slice_ref(records))))
}
