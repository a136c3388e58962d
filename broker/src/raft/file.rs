//! The file beneath the metadata log: one ordered stream of steps, written by a thread of its own.
//!
//! Votes, entries and truncations go through the same stream, so that no crash can reorder them. Steps that wait together
//! are written together as one frame, `length u32, crc32c u32, steps`, with one fdatasync: so only the last frame can be
//! torn, and it was acknowledged to nobody. A frame that is not sound and has a sound one behind it is damage; that stops
//! the start, because cutting there would lose what was acknowledged. After a failed write or sync nothing is accepted any
//! more: what is on disk is then unknown.

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
        steps: Vec<u8>,
        done: Done,
    },
    /// A step that nobody waits for; written with the next that somebody does.
    Hint {
        steps: Vec<u8>,
    },
    /// Replaces the file: what it held is not needed any more.
    Rewrite {
        steps: Vec<u8>,
        done: Done,
    },
}

/// The file, open for writing.
#[derive(Debug)]
pub struct LogFile {
    work: mpsc::Sender<Work>,
}

const NAME: &str = "metadata.log";

/// Length and checksum before a frame's steps.
const HEADER: usize = 8;

/// Writes a step behind others of the same frame.
pub fn put(step: &Step, out: &mut Vec<u8>) -> io::Result<()> {
    out.extend(postcard::to_stdvec(step).map_err(io::Error::other)?);
    Ok(())
}

/// Steps as they stand in the file.
fn frame(steps: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(steps.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEADER + steps.len());
    frame.extend(length.to_le_bytes());
    frame.extend(crc32c::crc32c(steps).to_le_bytes());
    frame.extend(steps);
    Ok(frame)
}

/// The steps of the frame at the front, if it is sound, and what stands behind it. Zeros are no frame.
fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (steps, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let sound = !steps.is_empty() && crc32c::crc32c(steps) == u32::from_le_bytes(*crc);
    sound.then_some((steps, after))
}

/// Gives all steps to `replay`; returns how many bytes are sound.
fn read(bytes: &[u8], mut replay: impl FnMut(Step)) -> io::Result<usize> {
    let mut rest = bytes;
    while let Some((mut steps, after)) = next_frame(rest) {
        while !steps.is_empty() {
            let (step, left) = postcard::take_from_bytes(steps).map_err(|error| {
                let what = format!("the metadata log has a step that this version of Esker does not know ({error})");
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            replay(step);
            steps = left;
        }
        rest = after;
    }
    let sound = bytes.len() - rest.len();
    let behind = (1..rest.len()).find(|at| rest.get(*at..).and_then(next_frame).is_some());
    if let Some(behind) = behind {
        let what = format!(
            "{NAME} is damaged at byte {sound} (it is sound again from byte {}): restore the file from a backup",
            sound + behind
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(sound)
}

/// Whether `dir` holds a metadata log.
pub fn is_in(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// The last vote in the log in `dir`, if it can be read. Changes nothing.
pub fn last_vote(dir: &Path) -> Option<Vote> {
    let bytes = std::fs::read(dir.join(NAME)).ok()?;
    let mut last = None;
    let replay = |step| {
        if let Step::Vote(vote) = step {
            last = Some(vote);
        }
    };
    read(&bytes, replay).ok()?;
    last
}

impl LogFile {
    /// Opens the file in `dir`, gives all its steps to `replay`, cuts a torn tail, and starts the writer.
    pub fn open(dir: &Path, replay: impl FnMut(Step)) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let sound = read(&bytes, replay)?;
        if sound < bytes.len() {
            tracing::warn!(cut = bytes.len() - sound, file = %path.display(), "cutting the torn end of the metadata log");
            file.set_len(sound as u64)?;
            file.sync_data()?;
        }
        if bytes.is_empty() {
            // The file's name, and that of its folder, must not be lost with what is written into it.
            File::open(dir)?.sync_all()?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
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

    /// Appends steps; `done` is called when they are on disk.
    pub fn append(&self, steps: Vec<u8>, done: Done) {
        self.send(Work::Append { steps, done });
    }

    /// Appends steps with whatever is appended next. A crash may lose them.
    pub fn hint(&self, steps: Vec<u8>) {
        self.send(Work::Hint { steps });
    }

    /// Replaces all steps.
    pub fn rewrite(&self, steps: Vec<u8>, done: Done) {
        self.send(Work::Rewrite { steps, done });
    }

    fn send(&self, work: Work) {
        if let Err(mpsc::SendError(Work::Append { done, .. } | Work::Rewrite { done, .. })) = self.work.send(work) {
            done(Err(io::Error::other("the metadata log's writer has ended")));
        }
    }
}

struct Writer {
    dir: PathBuf,
    file: File,
    broken: bool,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Work>) {
        let (mut steps, mut waiting) = (Vec::new(), Vec::new());
        while let Ok(first) = inbox.recv() {
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Work::Append { steps: more, done } => {
                        steps.extend(more);
                        waiting.push(done);
                    }
                    Work::Hint { steps: more } => steps.extend(more),
                    Work::Rewrite { steps: all, done } => {
                        self.write(&mut steps, &mut waiting);
                        let rewritten = self.guarded(|w| w.rewrite(&all));
                        finish([done], &rewritten);
                    }
                }
                next = inbox.try_recv().ok();
            }
            if !waiting.is_empty() {
                self.write(&mut steps, &mut waiting);
            }
        }
        self.write(&mut steps, &mut waiting);
    }

    fn write(&mut self, steps: &mut Vec<u8>, waiting: &mut Vec<Done>) {
        let written = if steps.is_empty() { Ok(()) } else { self.guarded(|w| w.append(steps)) };
        steps.clear();
        finish(waiting.drain(..), &written);
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

    fn append(&mut self, steps: &[u8]) -> io::Result<()> {
        self.file.write_all(&frame(steps)?)?;
        self.file.sync_data()
    }

    fn rewrite(&mut self, steps: &[u8]) -> io::Result<()> {
        let fresh = self.dir.join("metadata.log.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&frame(steps)?)?;
        file.sync_data()?;
        std::fs::rename(&fresh, self.dir.join(NAME))?;
        File::open(&self.dir)?.sync_all()?;
        self.file = OpenOptions::new().append(true).open(self.dir.join(NAME))?;
        Ok(())
    }
}

fn finish(waiting: impl IntoIterator<Item = Done>, written: &io::Result<()>) {
    for done in waiting {
        done(match written {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Vote;

    fn vote(term: u64) -> Step {
        Step::Vote(Vote::new(term, Default::default()))
    }

    /// Writes each of the batches with a sync of its own.
    fn write(dir: &Path, batches: &[&[Step]]) {
        let file = LogFile::open(dir, |_| {}).unwrap();
        for batch in batches {
            let mut steps = Vec::new();
            batch.iter().for_each(|step| put(step, &mut steps).unwrap());
            let (sender, written) = mpsc::channel();
            file.append(steps, Box::new(move |result| sender.send(result).unwrap()));
            written.recv().unwrap().unwrap();
        }
    }

    fn replay(dir: &Path) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        LogFile::open(dir, |step| steps.push(step)).map(|_| steps)
    }

    #[test]
    fn a_torn_end_is_cut_at_any_byte_and_damage_before_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[&[vote(1)], &[vote(2), vote(3)], &[vote(4)]]);
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(replay(dir.path()).unwrap().len(), 4);
        let last = frame(&whole[whole.len() - (whole.len() - HEADER * 3) / 4..]).unwrap().len();
        for cut in 1..=last {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(replay(dir.path()).unwrap().len(), 3, "without the last {cut} bytes");
            assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, whole.len() - last);
        }
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            match replay(dir.path()) {
                Ok(steps) => assert!(byte >= whole.len() - last && steps.len() == 3, "byte {byte}: {}", steps.len()),
                Err(error) => {
                    assert!(byte < whole.len() - last, "byte {byte}: {error}");
                    assert_eq!(std::fs::read(&path).unwrap(), damaged, "what is refused is left as it is");
                }
            }
        }
        // A power cut may leave a longer file than was written, filled with zeros.
        std::fs::write(&path, [&whole[..], &[0; 4096]].concat()).unwrap();
        assert_eq!(replay(dir.path()).unwrap().len(), 4);
    }

    #[test]
    fn hints_are_written_with_what_follows_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let hint = |file: &LogFile, step: &Step| {
            let mut steps = Vec::new();
            put(step, &mut steps).unwrap();
            file.hint(steps);
        };
        let file = LogFile::open(dir.path(), |_| {}).unwrap();
        hint(&file, &vote(7));
        drop(file);
        // The writer ends by itself; the file tells when.
        while std::fs::metadata(dir.path().join(NAME)).unwrap().len() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(replay(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_rewritten_file_holds_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[&[vote(1)], &[vote(2)]]);
        let file = LogFile::open(dir.path(), |_| {}).unwrap();
        let mut steps = Vec::new();
        put(&vote(3), &mut steps).unwrap();
        let (sender, written) = mpsc::channel();
        file.rewrite(steps, Box::new(move |result| sender.send(result).unwrap()));
        written.recv().unwrap().unwrap();
        drop(file);
        assert!(matches!(replay(dir.path()).unwrap().as_slice(), [Step::Vote(v)] if v.leader_id().term == 3));
    }
}
