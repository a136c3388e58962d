//! The state of a file system for power cuts: for every file and folder the durable content, and, in order, the later operations
//! that may or may not have reached the disk.
//!
//! Rules: data is certain after the file's sync, a name after its folder's sync. Unsynced writes reach the disk in any
//! subset, torn at sector borders. Unsynced names of one folder reach it in order (as journals do), of several folders
//! in any.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use crate::rng::Rng;

const SECTOR: usize = 512;

pub type Id = usize;

/// One change that a file system saw. Paths are relative to its root.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new empty file; its id is the next free one.
    Create(PathBuf),
    Mkdir(PathBuf),
    Write(Id, u64, Vec<u8>),
    SetLen(Id, u64),
    SyncFile(Id),
    /// A sync that failed: unsynced data may be on disk or not, and no later sync flushes it.
    FailedSync(Id),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
    SyncAll,
}

#[derive(Debug, Clone)]
enum DataOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl DataOp {
    /// The parts of a write that `later` has not replaced.
    fn without(self, later: &Self) -> Vec<Self> {
        let Self::Write(offset, bytes) = self else { return Vec::new() };
        let gone = match later {
            Self::Write(from, bytes) => *from..*from + bytes.len() as u64,
            Self::SetLen(len) => *len..u64::MAX,
        };
        let end = offset + bytes.len() as u64;
        let part = |from: u64, to: u64| {
            (from < to).then(|| Self::Write(from, bytes[(from - offset) as usize..(to - offset) as usize].to_vec()))
        };
        let (head, tail) = (part(offset, end.min(gone.start)), part(offset.max(gone.end), end));
        head.into_iter().chain(tail).collect()
    }
}

#[derive(Debug, Clone)]
enum Node {
    File {
        durable: Vec<u8>,
        pending: Vec<DataOp>,
        /// Pending operations before this index were in a sync that failed.
        doubtful: usize,
        len: u64,
    },
    Dir {
        live: BTreeMap<String, Id>,
    },
}

#[derive(Debug, Clone)]
enum NameOp {
    Add { dir: Id, name: String, id: Id },
    Drop { dir: Id, name: String },
    Move { from: (Id, String), to: (Id, String), id: Id },
}

impl NameOp {
    /// Storage never moves a file to another folder.
    fn folder(&self) -> Id {
        match self {
            Self::Add { dir, .. } | Self::Drop { dir, .. } | Self::Move { from: (dir, _), .. } => *dir,
        }
    }
}

/// Files and folders (`None`) that a power cut left, by path.
pub type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// See the module.
#[derive(Debug, Clone)]
pub struct State {
    nodes: Vec<Node>,
    /// Names that are certain.
    durable: Folders,
    names: Vec<NameOp>,
}

fn new_dir() -> Node {
    Node::Dir { live: BTreeMap::new() }
}

fn new_file(durable: Vec<u8>) -> Node {
    let len = durable.len() as u64;
    Node::File { durable, pending: Vec::new(), doubtful: 0, len }
}

fn set_len(content: &mut Vec<u8>, len: u64) {
    content.resize(len as usize, 0);
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

impl State {
    pub fn new() -> Self {
        Self { nodes: vec![new_dir()], durable: Folders::new(), names: Vec::new() }
    }

    /// A disk on which all of `image` is certain.
    pub fn from_image(image: &Image) -> Self {
        let mut state = Self::new();
        for (path, content) in image {
            let id = state.nodes.len();
            state.nodes.push(content.as_ref().map_or_else(new_dir, |bytes| new_file(bytes.clone())));
            let (dir, name) = state.place(path);
            state.names_in(dir).insert(name.clone(), id);
            state.durable.entry(dir).or_default().insert(name, id);
        }
        state
    }

    pub fn next_id(&self) -> Id {
        self.nodes.len()
    }

    fn names_in(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[dir] {
            Node::Dir { live } => live,
            Node::File { .. } => panic!("a file is no folder"),
        }
    }

    /// The file or folder of a path, if it is there.
    pub fn find(&self, path: &Path) -> Option<Id> {
        path.components().try_fold(0, |dir, part| match (&self.nodes[dir], part) {
            (Node::Dir { live }, Component::Normal(name)) => live.get(name.to_str()?).copied(),
            _ => None,
        })
    }

    /// Bytes of a file as readers see it.
    pub fn size(&self, id: Id) -> u64 {
        match &self.nodes[id] {
            Node::File { len, .. } => *len,
            Node::Dir { .. } => 0,
        }
    }

    /// Bytes of all files that have a name.
    pub fn live_bytes(&self) -> u64 {
        let named = self.nodes.iter().filter_map(|node| match node {
            Node::Dir { live } => Some(live.values()),
            Node::File { .. } => None,
        });
        named.flatten().map(|id| self.size(*id)).sum()
    }

    /// Changes bytes on the medium.
    pub fn corrupt(&mut self, id: Id, at: u64, bytes: &[u8]) {
        let Node::File { durable, pending, .. } = &mut self.nodes[id] else { panic!("a folder has no data") };
        let rot = DataOp::Write(at, bytes.to_vec());
        if durable.len() as u64 >= at + bytes.len() as u64 {
            write(durable, at, bytes);
        }
        *pending = std::mem::take(pending)
            .into_iter()
            .flat_map(|op| match op {
                DataOp::Write(..) => op.without(&rot),
                DataOp::SetLen(_) => vec![op],
            })
            .collect();
    }

    fn place(&self, path: &Path) -> (Id, String) {
        let dir = self.find(path.parent().unwrap()).unwrap_or_else(|| panic!("no folder for {path:?}"));
        (dir, path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(path) | Event::Mkdir(path) => {
                let (dir, name) = self.place(path);
                let id = self.nodes.len();
                self.nodes.push(if matches!(event, Event::Mkdir(_)) { new_dir() } else { new_file(Vec::new()) });
                self.names_in(dir).insert(name.clone(), id);
                self.names.push(NameOp::Add { dir, name, id });
            }
            Event::Write(id, offset, bytes) => self.data(*id, DataOp::Write(*offset, bytes.clone())),
            Event::SetLen(id, len) => self.data(*id, DataOp::SetLen(*len)),
            Event::SyncFile(id) => self.sync_file(*id),
            Event::FailedSync(id) => {
                if let Node::File { pending, doubtful, .. } = &mut self.nodes[*id] {
                    *doubtful = pending.len();
                }
            }
            Event::Rename(from, to) => {
                let (from, to) = (self.place(from), self.place(to));
                let id = self.names_in(from.0).remove(&from.1).unwrap();
                self.names_in(to.0).insert(to.1.clone(), id);
                self.names.push(NameOp::Move { from, to, id });
            }
            Event::Remove(path) => {
                let (dir, name) = self.place(path);
                self.names_in(dir).remove(&name);
                self.names.push(NameOp::Drop { dir, name });
            }
            Event::SyncDir(path) => {
                let Some(dir) = self.find(path) else { return };
                self.sync_names(|op| op.folder() == dir);
            }
            Event::SyncAll => {
                self.sync_names(|_| true);
                (0..self.nodes.len()).for_each(|id| self.sync_file(id));
            }
        }
    }

    fn data(&mut self, id: Id, op: DataOp) {
        let Node::File { pending, len, .. } = &mut self.nodes[id] else { panic!("a folder has no data") };
        match &op {
            DataOp::Write(offset, bytes) => *len = (*len).max(offset + bytes.len() as u64),
            DataOp::SetLen(new) => *len = *new,
        }
        pending.push(op);
    }

    fn sync_file(&mut self, id: Id) {
        let Node::File { durable, pending, doubtful, .. } = &mut self.nodes[id] else { return };
        // After a failed sync the kernel marks the pages as clean: a later sync writes nothing of them, but a new write or cut at
        // the same place and its sync replace them.
        for op in pending.split_off(*doubtful) {
            *pending = std::mem::take(pending).into_iter().flat_map(|earlier| earlier.without(&op)).collect();
            *doubtful = pending.len();
            match op {
                DataOp::Write(offset, bytes) => write(durable, offset, &bytes),
                DataOp::SetLen(len) => set_len(durable, len),
            }
        }
    }

    fn sync_names(&mut self, which: impl Fn(&NameOp) -> bool) {
        let (synced, rest): (Vec<NameOp>, _) = std::mem::take(&mut self.names).into_iter().partition(which);
        self.names = rest;
        synced.iter().for_each(|op| settle(op, &mut self.durable));
    }

    /// The content of the disk after a power cut now. `rng` decides which of the unsynced operations have reached it.
    pub fn image(&self, rng: &mut Rng) -> Image {
        let luck = [0, 100, 50, 85, 96][rng.below(5)];
        self.image_with(rng, luck, |rng| [0, 100, 50, 90][rng.below(4)])
    }

    /// As [`State::image`]: no unsynced operation has reached the disk.
    #[allow(dead_code, reason = "only the simulation of a cluster has disks that stall")]
    pub fn synced_image(&self, rng: &mut Rng) -> Image {
        self.image_with(rng, 0, |_| 0)
    }

    fn image_with(&self, rng: &mut Rng, luck: usize, data_luck: impl Fn(&mut Rng) -> usize) -> Image {
        let mut folders = self.durable.clone();
        let mut stopped: BTreeSet<Id> = BTreeSet::new();
        for op in &self.names {
            let dir = op.folder();
            if stopped.contains(&dir) {
                continue;
            }
            if rng.chance(luck) {
                settle(op, &mut folders);
            } else {
                stopped.insert(dir);
            }
        }
        let data_luck = data_luck(rng);
        let mut image = Image::new();
        self.copy_out(0, Path::new(""), &folders, rng, data_luck, &mut image);
        image
    }

    fn copy_out(&self, dir: Id, path: &Path, folders: &Folders, rng: &mut Rng, luck: usize, image: &mut Image) {
        // A deleted partition's files are removed in the background, at a random time.
        let doomed = path.to_str().is_some_and(|path| path.ends_with("-delete"));
        for (name, id) in folders.get(&dir).into_iter().flatten() {
            let path = path.join(name);
            match &self.nodes[*id] {
                Node::Dir { .. } => {
                    image.insert(path.clone(), None);
                    self.copy_out(*id, &path, folders, rng, luck, image);
                }
                Node::File { durable, pending, len, .. } => {
                    let content = torn(durable, pending, *len, rng, luck);
                    if !doomed || rng.chance(50) {
                        image.insert(path, Some(content));
                    }
                }
            }
        }
    }
}

type Folders = BTreeMap<Id, BTreeMap<String, Id>>;

fn settle(op: &NameOp, folders: &mut Folders) {
    match op {
        NameOp::Add { dir, name, id } => drop(folders.entry(*dir).or_default().insert(name.clone(), *id)),
        NameOp::Drop { dir, name } => drop(folders.entry(*dir).or_default().remove(name)),
        NameOp::Move { from, to, id } => {
            let source = folders.entry(from.0).or_default();
            if source.get(&from.1) == Some(id) {
                source.remove(&from.1);
            }
            folders.entry(to.0).or_default().insert(to.1.clone(), *id);
        }
    }
}

/// A file's content after any sectors of its pending operations reached the disk.
fn torn(durable: &[u8], pending: &[DataOp], len: u64, rng: &mut Rng, luck: usize) -> Vec<u8> {
    let mut content = durable.to_vec();
    let mut longest = content.len() as u64;
    for op in pending {
        match op {
            DataOp::SetLen(len) if rng.chance(luck) => set_len(&mut content, *len),
            DataOp::SetLen(_) => {}
            DataOp::Write(offset, bytes) => {
                longest = longest.max(offset + bytes.len() as u64);
                let mut at = 0;
                while at < bytes.len() {
                    let position = *offset as usize + at;
                    let end = bytes.len().min(at + SECTOR - position % SECTOR);
                    if rng.chance(luck) {
                        write(&mut content, position as u64, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
    // The length may have reached the disk without the data: the file has zeros then.
    if luck != 100 && luck != 0 && !pending.is_empty() && rng.chance(30) {
        let up_to = longest.max(len).max(content.len() as u64);
        let len = rng.between(content.len() as i64, up_to as i64);
        set_len(&mut content, len as u64);
    }
    content
}
