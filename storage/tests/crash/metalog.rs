//! Random changes of the metadata log and its snapshots, with kills and failing disks between them, and a power cut after each
//! event that the disk saw. The state after a cut must be the last acknowledged one, or a later one: no vote goes back, no
//! acknowledged entry is lost, no acknowledged truncation or purge is undone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
};

use bytes::Bytes;
use esker_storage::{
    MachineEnv,
    metalog::{Done, Entry, LogId, Members, MetadataFiles, Payload, SnapshotMeta, Vote, VoterId},
};

use crate::{
    disk::{EIO, ENOSPC, KILL, Plan, SimDisk},
    folder, in_parallel,
    rng::Rng,
    seeds, short,
    state::{Image, State},
    tail,
};

/// The expected content of a log.
#[derive(Clone, Default, PartialEq)]
struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

impl std::fmt::Debug for Log {
    /// Without the content of entries.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |id: Option<LogId>| id.map(|id| (id.term, id.index));
        let entries: Vec<_> = self.entries.iter().map(|entry| (entry.id.term, entry.id.index)).collect();
        let vote = self.vote.map(|vote| (vote.term, vote.candidate));
        write!(f, "vote {vote:?}, committed {:?}, purged {:?}, {entries:?}", at(self.committed), at(self.purged))
    }
}

type Snapshot = Option<(SnapshotMeta, Vec<Bytes>)>;

impl Log {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }

    fn of(files: &MetadataFiles) -> Self {
        let log = &files.log;
        let found = Self {
            vote: log.vote(),
            committed: log.committed(),
            purged: log.purged(),
            entries: log.entries((Bound::<u64>::Unbounded, Bound::Unbounded)),
        };
        assert_eq!(found.last(), log.last_id());
        found
    }
}

fn snapshot_of(files: &MetadataFiles) -> Result<Snapshot, String> {
    let Some(snapshot) = files.snapshots.current() else { return Ok(None) };
    let chunks: Result<Vec<Bytes>, _> = snapshot.chunks().collect();
    Ok(Some((snapshot.meta().clone(), chunks.map_err(|error| error.to_string())?)))
}

/// A state, with the event from which the disk may have it, and the event from which it must have it or a later one.
#[derive(Debug)]
struct Mark<T> {
    op: String,
    begun: usize,
    done: Option<usize>,
    state: T,
}

impl<T> Mark<T> {
    /// Nothing acknowledges a hint.
    fn is_hint(&self) -> bool {
        self.op.starts_with("committed")
    }
}

/// The states in order.
#[derive(Debug)]
struct Marks<T>(Vec<Mark<T>>);

impl<T: PartialEq + std::fmt::Debug> Marks<T> {
    /// Whether `found` may be there when the disk has seen `events`.
    fn allow(&self, found: &T, events: usize) -> Result<(), String> {
        let since = self.0.iter().rposition(|mark| mark.done.is_some_and(|done| done <= events)).unwrap_or(0);
        let candidates = || self.0[since..].iter().take_while(|mark| mark.begun <= events);
        if candidates().any(|mark| mark.state == *found) {
            return Ok(());
        }
        let ops: Vec<&String> = candidates().map(|mark| &mark.op).collect();
        Err(format!("found {found:?}\nwhich is the state after none of {ops:?}, the first of which is acknowledged"))
    }
}

enum Change {
    Vote(Vote),
    Append(Vec<Entry>),
    Committed(Option<LogId>),
    Truncate(Option<LogId>),
    Purge(LogId),
}

impl Change {
    fn apply(&self, log: &mut Log) {
        match self {
            Self::Vote(vote) => log.vote = Some(*vote),
            Self::Append(entries) => log.entries.extend(entries.iter().cloned()),
            Self::Committed(committed) => log.committed = *committed,
            Self::Truncate(last) => log.entries.retain(|entry| last.is_some_and(|last| entry.id.index <= last.index)),
            Self::Purge(upto) => {
                log.entries.retain(|entry| entry.id.index > upto.index);
                log.purged = Some(*upto);
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Vote(vote) => format!("vote {}", vote.term),
            Self::Append(entries) => format!("append {:?}", entries.iter().map(|e| e.id.index).collect::<Vec<_>>()),
            Self::Committed(id) => format!("committed {:?}", id.map(|id| id.index)),
            Self::Truncate(id) => format!("truncate after {:?}", id.map(|id| id.index)),
            Self::Purge(id) => format!("purge {}", id.index),
        }
    }

    /// Sends it to the log. A hint is never acknowledged.
    fn submit(self, files: &MetadataFiles, done: Done) {
        match self {
            Self::Vote(vote) => files.log.save_vote(vote, done),
            Self::Append(entries) => files.log.append(entries, done).unwrap(),
            Self::Committed(committed) => files.log.save_committed(committed).unwrap(),
            Self::Truncate(last) => files.log.truncate_after(last, done),
            Self::Purge(upto) => files.log.purge(upto, done),
        }
    }
}

struct Run {
    disk: SimDisk,
    dir: PathBuf,
    files: MetadataFiles,
    log: Log,
    snapshot: Snapshot,
    logs: Arc<Mutex<Marks<Log>>>,
    snapshots: Marks<Snapshot>,
    rng: Rng,
}

fn open(disk: &SimDisk, dir: &Path) -> Result<MetadataFiles, String> {
    MetadataFiles::open(&MachineEnv::default(), Arc::new(disk.clone()), dir).map_err(|error| error.to_string())
}

impl Run {
    fn new(seed: u64, root: &Path) -> Self {
        let disk = SimDisk::new(root, &Image::new());
        let dir = root.join("__cluster_metadata-0");
        let files = open(&disk, &dir).unwrap();
        let fresh = |events| Mark { op: "new".to_owned(), begun: 0, done: Some(events), state: Log::default() };
        let nothing = Mark { op: "new".to_owned(), begun: 0, done: Some(disk.events()), state: None };
        let logs = Arc::new(Mutex::new(Marks(vec![fresh(disk.events())])));
        let snapshots = Marks(vec![nothing]);
        let (log, snapshot) = (Log::default(), None);
        Self { disk, dir, files, log, snapshot, logs, snapshots, rng: Rng::new(seed) }
    }

    /// Changes the model, and returns a callback that records the acknowledgment and then calls `then`.
    fn note(&mut self, change: &Change, then: impl FnOnce(bool) + Send + 'static) -> Done {
        change.apply(&mut self.log);
        let mut logs = self.logs.lock().unwrap();
        let at = logs.0.len();
        logs.0.push(Mark { op: change.name(), begun: self.disk.events(), done: None, state: self.log.clone() });
        let (logs, disk) = (Arc::clone(&self.logs), self.disk.clone());
        Box::new(move |written: io::Result<()>| {
            if written.is_ok() {
                // All before it in the stream is durable with it.
                logs.lock().unwrap().0[at].done = Some(disk.events());
            }
            then(written.is_ok());
        })
    }

    /// Runs one change and waits for it. `false`: the disk failed.
    fn change(&mut self, change: Change) -> bool {
        let waits = !matches!(change, Change::Committed(_));
        let (sender, receiver) = mpsc::channel();
        let done = self.note(&change, move |written| sender.send(written).unwrap_or_default());
        change.submit(&self.files, done);
        !waits || receiver.recv().unwrap()
    }

    /// Several changes at once: they are sent on the writer's own thread, so that they share a frame in each run.
    fn burst(&mut self) -> bool {
        let first = self.random_vote();
        let (sender, receiver) = mpsc::channel();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (files, rest) = (self.files.clone(), Arc::clone(&begun));
        let done = self.note(&first, move |written| {
            for (change, done) in rest.lock().unwrap().drain(..) {
                let change: Change = change;
                if written { change.submit(&files, done) } else { done(Err(io::Error::other("not reached"))) }
            }
        });
        let count = 2 + self.rng.below(3);
        for _ in 0..count {
            let change = if self.rng.chance(70) { self.random_entries() } else { self.random_vote() };
            let sender = sender.clone();
            let done = self.note(&change, move |written| sender.send(written).unwrap_or_default());
            begun.lock().unwrap().push((change, done));
        }
        first.submit(&self.files, done);
        (0..count).all(|_| receiver.recv().unwrap())
    }

    fn voter(&mut self) -> VoterId {
        VoterId { node_id: self.rng.below(3) as i32, directory: [self.rng.below(2) as u8; 16] }
    }

    fn random_vote(&mut self) -> Change {
        let term = self.log.vote.map_or(1, |vote| vote.term + 1 + self.rng.below(2) as u64);
        Change::Vote(Vote { term, candidate: self.voter(), committed: self.rng.chance(50) })
    }

    fn members(&mut self) -> Members {
        let (a, b) = (self.voter(), self.voter());
        Members {
            voters: vec![BTreeSet::from([a, b])],
            addresses: BTreeMap::from([(a, "a:1".into()), (b, String::new())]),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let longest = [10, 700, 3000][self.rng.below(3)];
        let (len, byte) = (self.rng.below(longest), self.rng.below(256) as u8);
        vec![byte; len].into()
    }

    fn id(&mut self, index: u64) -> LogId {
        LogId { term: self.log.vote.map_or(0, |vote| vote.term), leader: self.voter(), index }
    }

    fn random_entries(&mut self) -> Change {
        let first = self.log.last().map_or(0, |last| last.index + 1);
        let count = 1 + self.rng.below(3) as u64;
        let entry = |index| {
            let payload = match self.rng.below(5) {
                0 => Payload::Blank,
                1 => Payload::Members(self.members()),
                _ => Payload::Records(self.bytes()),
            };
            Entry { id: self.id(index), payload }
        };
        Change::Append((first..first + count).map(entry).collect())
    }

    /// Writes a snapshot of the log so far, or (from another node) of a longer log.
    fn snapshot(&mut self, ahead: u64) -> bool {
        let before = self.snapshot.as_ref().and_then(|(meta, _)| meta.last);
        let Some(last) = self.log.last() else { return true };
        let last = if ahead > 0 { self.id(last.index + ahead) } else { last };
        if before >= Some(last) {
            return true;
        }
        let meta = SnapshotMeta { last: Some(last), members_at: before, members: self.members() };
        let chunks: Vec<Bytes> = (0..self.rng.below(4)).map(|_| self.bytes()).collect();
        self.snapshot = Some((meta.clone(), chunks.clone()));
        let (op, begun) = (format!("snapshot {}", last.index), self.disk.events());
        let written = self.files.snapshots.write(&meta, chunks.into_iter().map(Ok)).is_ok();
        let done = written.then(|| self.disk.events());
        self.snapshots.0.push(Mark { op, begun, done, state: self.snapshot.clone() });
        written
    }

    /// As openraft does: the snapshot first, then the log.
    fn install(&mut self) -> bool {
        let conflict = self.log.purged;
        let ahead = 1 + self.rng.below(5) as u64;
        if !self.snapshot(ahead) || !self.change(Change::Truncate(conflict)) {
            return false;
        }
        self.purge(true)
    }

    fn purge(&mut self, all: bool) -> bool {
        let Some(last) = self.snapshot.as_ref().and_then(|(meta, _)| meta.last) else { return true };
        let kept = self.log.entries.iter().map(|entry| entry.id).filter(|id| id.index < last.index);
        let ids: Vec<LogId> = kept.chain([last]).collect();
        let upto = if all { last } else { ids[self.rng.below(ids.len())] };
        if self.log.purged.is_some_and(|purged| purged.index >= upto.index) {
            return true;
        }
        self.change(Change::Purge(upto))
    }

    fn truncate(&mut self) -> bool {
        let ids: Vec<Option<LogId>> = self.log.entries.iter().map(|entry| Some(entry.id)).collect();
        let last = if ids.is_empty() { self.log.purged } else { ids[self.rng.below(ids.len())] };
        self.change(Change::Truncate(last))
    }

    /// Ends the process, cleanly or not, and starts another on the same files.
    fn restart(&mut self, clean: bool) -> Result<(), String> {
        if clean {
            self.disk.fail(None);
            self.files.close();
        }
        self.disk = self.disk.next_process();
        self.disk.fail(None);
        self.files.close();
        let begun = self.disk.events();
        self.files = open(&self.disk, &self.dir)?;
        let done = self.disk.events();
        let (log, snapshot) = (Log::of(&self.files), snapshot_of(&self.files)?);
        let mut logs = self.logs.lock().unwrap();
        logs.allow(&log, begun)?;
        if clean && log != self.log {
            return Err(format!("found {log:?} after a clean stop with {:?}", self.log));
        }
        self.snapshots.allow(&snapshot, begun)?;
        logs.0.push(Mark { op: "restart".to_owned(), begun, done: Some(done), state: log.clone() });
        // Its name may not be durable yet: that is so at the latest when the log relies on it.
        self.snapshots.0.push(Mark { op: "restart".to_owned(), begun, done: None, state: snapshot.clone() });
        (self.log, self.snapshot) = (log, snapshot);
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let pick = self.rng.below(100);
        if pick < 12 {
            let at = self.disk.steps() + self.rng.below(6);
            let (error, length) = [(KILL, 1), (EIO, 1), (EIO, 40), (ENOSPC, 3)][self.rng.below(4)];
            self.disk.fail(Some(Plan { steps: at..at + length, error }));
        }
        let pick = self.rng.below(100);
        let worked = match pick {
            0..10 => {
                let vote = self.random_vote();
                self.change(vote)
            }
            10..45 => {
                let entries = self.random_entries();
                self.change(entries)
            }
            45..57 => {
                let committed = self.log.last();
                self.change(Change::Committed(committed))
            }
            57..67 => self.truncate(),
            67..77 => self.snapshot(0),
            77..85 => self.purge(false),
            85..89 => self.install(),
            89..96 => self.burst(),
            _ => return self.restart(true),
        };
        if worked {
            return Ok(());
        }
        let last = |marks: &Marks<Log>| marks.0.last().is_some_and(|mark| mark.done.is_none() && !mark.is_hint());
        let broken = last(&self.logs.lock().unwrap());
        self.disk.fail(None);
        let vote = self.random_vote();
        if broken && self.change(vote) {
            return Err("the log goes on after its disk failed".to_owned());
        }
        self.restart(false)
    }
}

/// Opens the image after a power cut; then continues, and the next cut must lose nothing of it.
fn survives(run: &Run, image: &Image, events: usize, rng: &mut Rng) -> Result<(), String> {
    let root = folder();
    let disk = SimDisk::new(root.path(), image);
    let dir = root.path().join("__cluster_metadata-0");
    let files = open(&disk, &dir)?;
    run.logs.lock().unwrap().allow(&Log::of(&files), events)?;
    run.snapshots.allow(&snapshot_of(&files)?, events)?;
    if rng.chance(70) {
        return Ok(());
    }
    let found = Log::of(&files);
    let vote = Vote { term: 1000, ..Vote::default() };
    if rng.chance(50) {
        let (sender, receiver) = mpsc::channel();
        files.log.save_vote(vote, Box::new(move |written| sender.send(written).unwrap()));
        receiver.recv().unwrap().map_err(|error| error.to_string())?;
    }
    let expected = Log { vote: files.log.vote(), ..found };
    let image = disk.state().image(rng);
    let root = folder();
    let files = open(&SimDisk::new(root.path(), &image), &root.path().join("__cluster_metadata-0"))?;
    match Log::of(&files) {
        found if found == expected => Ok(()),
        found => Err(format!("found {found:?} after the second cut, and {expected:?} before it")),
    }
}

#[test]
fn power_cuts_take_nothing_of_the_metadata_log_that_was_acknowledged() {
    in_parallel(&seeds(20), |seed| {
        let root = folder();
        let mut run = Run::new(seed, root.path());
        // A quorum begins with a vote; a snapshot without one is refused.
        let vote = run.random_vote();
        assert!(run.change(vote));
        for _ in 0..60 {
            if let Err(error) = run.step() {
                let marks = run.logs.lock().unwrap();
                let ops: Vec<String> = marks.0.iter().map(|mark| mark.op.clone()).collect();
                panic!("seed {seed}: {error}\nafter\n  {}\nRun it with ESKER_CRASH_SEED={seed}", tail(&ops));
            }
        }
        run.files.close();
        let mut state = State::from_image(&Image::new());
        let mut rng = Rng::new(seed ^ 0xc0ffee);
        let journal = run.disk.journal();
        for (index, event) in journal.iter().enumerate() {
            state.apply(event);
            let image = state.image(&mut rng);
            if let Err(error) = survives(&run, &image, index + 1, &mut rng) {
                let last: Vec<String> = journal[index.saturating_sub(25)..=index].iter().map(short).collect();
                panic!(
                    "seed {seed}, power cut after event {} of {}: {error}\nevents\n  {}\nRun it with ESKER_CRASH_SEED={seed}",
                    index + 1,
                    journal.len(),
                    last.join("\n  "),
                );
            }
        }
    });
}
