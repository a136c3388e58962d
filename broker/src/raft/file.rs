//! The file beneath the metadata log: one ordered stream of framed steps, written by a thread of its own.
//!
//! A frame is `length u32, crc32c u32, body`; bodies are [`Step`]s. Votes, entries and truncations go through the same
//! stream, so that no crash can reorder them. Steps that wait together are written together and share one fdatasync. After
//! a failed write or sync nothing is accepted any more: what is on disk is then unknown.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::types::{Entry, LogId, Vote};

/// One thing that happened to the log.
#[derive(Debug, Serialize, Deserialize)]
pub enum Step {
    /// A vote was given.
    Vote(Vote),
    /// An entry was appended.
    Entry(Entry),
    /// The log is committed up to here, as far as this node knew.
    Committed(Option<LogId>),
    /// All entries behind this one are gone (all, if there is none).
    TruncateAfter(Option<LogId>),
    /// All entries up to this one are in a snapshot.
    Purge(LogId),
}

/// What happens when a step is on disk.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Work {
    Append {
        frames: Vec<u8>,
        sync: bool,
        done: Done,
    },
    /// Replaces the file: what it held is not needed any more.
    Rewrite {
        frames: Vec<u8>,
        done: Done,
    },
}

/// The file, open for writing.
#[derive(Debug)]
pub struct LogFile {
    work: mpsc::Sender<Work>,
}

const NAME: &str = "metadata.log";

/// The frame of one step.
pub fn frame(step: &Step, out: &mut Vec<u8>) -> io::Result<()> {
    let body = postcard::to_stdvec(step).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.extend(length.to_le_bytes());
    out.extend(crc32c::crc32c(&body).to_le_bytes());
    out.extend(body);
    Ok(())
}

impl LogFile {
    /// Opens the file in `dir`, gives all its steps to `replay`, cuts a torn tail, and starts the writer.
    pub fn open(dir: &Path, mut replay: impl FnMut(Step)) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        while let Some((step, after)) = next_step(rest) {
            replay(step);
            rest = after;
        }
        let sound = bytes.len() - rest.len();
        if !rest.is_empty() {
            tracing::warn!(cut = rest.len(), file = %path.display(), "cutting the torn end of the metadata log");
            file.set_len(sound as u64)?;
            file.sync_data()?;
        }
        File::open(dir)?.sync_all()?;
        drop(file);
        let file = OpenOptions::new().append(true).open(&path)?;
        let (work, inbox) = mpsc::channel();
        let writer = Writer { dir: dir.to_owned(), file, broken: false };
        std::thread::Builder::new()
            .name("metadata-log".to_owned())
            .stack_size(256 << 10)
            .spawn(move || writer.run(&inbox))?;
        Ok(Self { work })
    }

    /// Appends frames; `done` is called when they are on disk (or in the file, without `sync`).
    pub fn append(&self, frames: Vec<u8>, sync: bool, done: Done) {
        self.send(Work::Append { frames, sync, done });
    }

    /// Replaces all frames.
    pub fn rewrite(&self, frames: Vec<u8>, done: Done) {
        self.send(Work::Rewrite { frames, done });
    }

    fn send(&self, work: Work) {
        if let Err(mpsc::SendError(Work::Append { done, .. } | Work::Rewrite { done, .. })) = self.work.send(work) {
            done(Err(io::Error::other("the metadata log's writer has ended")));
        }
    }
}

fn next_step(bytes: &[u8]) -> Option<(Step, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (body, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, after))
}

struct Writer {
    dir: PathBuf,
    file: File,
    broken: bool,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Work>) {
        while let Ok(first) = inbox.recv() {
            let (mut frames, mut sync, mut waiting) = (Vec::new(), false, Vec::new());
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Work::Append { frames: more, sync: also, done } => {
                        frames.extend(more);
                        sync |= also;
                        waiting.push(done);
                        next = inbox.try_recv().ok();
                    }
                    Work::Rewrite { frames: all, done } => {
                        let written = self.guarded(|w| w.append(&std::mem::take(&mut frames), true));
                        finish(std::mem::take(&mut waiting), &written);
                        let rewritten = self.guarded(|w| w.rewrite(&all));
                        finish(vec![done], &rewritten);
                        next = inbox.try_recv().ok();
                    }
                }
            }
            let written = self.guarded(|w| w.append(&frames, sync));
            finish(waiting, &written);
        }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the metadata log failed earlier; see the log, mend the disk, restart"));
        }
        let written = write(self);
        if let Err(error) = &written {
            tracing::error!(%error, dir = %self.dir.display(), "the metadata log cannot be written");
            self.broken = true;
        }
        written
    }

    fn append(&mut self, frames: &[u8], sync: bool) -> io::Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        self.file.write_all(frames)?;
        if sync { self.file.sync_data() } else { Ok(()) }
    }

    fn rewrite(&mut self, frames: &[u8]) -> io::Result<()> {
        let fresh = self.dir.join("metadata.log.new");
        let mut file = File::create(&fresh)?;
        file.write_all(frames)?;
        file.sync_data()?;
        std::fs::rename(&fresh, self.dir.join(NAME))?;
        File::open(&self.dir)?.sync_all()?;
        self.file = OpenOptions::new().append(true).open(self.dir.join(NAME))?;
        Ok(())
    }
}

fn finish(waiting: Vec<Done>, written: &io::Result<()>) {
    for done in waiting {
        done(match written {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}
