//! The thread that writes `metadata.log`. (In an environment without threads, the call that changes the log writes.)
//!
//! Pending steps are written as one frame with one sync; their order is the order of the calls. After a failed write or sync
//! nothing is accepted any more: the content of the disk is then unknown.

use std::{fmt, io, sync::mpsc, thread::JoinHandle};

use parking_lot::Mutex;

use super::file::StepFile;
use crate::{Env, error::FileError};

/// Called when steps are durable, or cannot be made so. Runs on the writer's thread and must not block it. In an
/// environment without threads it runs before the call that was given it returns, and must not call the log.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Steps that have to be in the file.
pub(super) enum Work {
    Append {
        steps: Vec<u8>,
        done: Done,
    },
    /// Steps without a waiter: written with the next steps that have one.
    Hint {
        steps: Vec<u8>,
    },
    /// All that the log holds: replaces the file.
    Rewrite {
        steps: Vec<u8>,
        done: Done,
    },
}

/// Steps of so many bytes are written before more are added to their frame.
const FRAME_BYTES: usize = 4 << 20;

/// The stack of the thread.
const STACK_BYTES: usize = 256 << 10;

/// The handle of the writer.
pub(super) enum Writer {
    /// A thread.
    Thread { work: Mutex<Option<mpsc::Sender<Work>>>, thread: Mutex<Option<JoinHandle<()>>> },
    /// The caller itself; `None` once closed.
    Caller(Mutex<Option<Writing>>),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread, where there are threads.
    pub(super) fn start(env: &dyn Env, file: StepFile) -> io::Result<Self> {
        let writing = Writing { file, steps: Vec::new(), waiting: Vec::new(), broken: false };
        if !env.has_threads() {
            return Ok(Self::Caller(Mutex::new(Some(writing))));
        }
        let (work, inbox) = mpsc::channel();
        let thread = env.spawn("metadata-log", Some(STACK_BYTES), Box::new(move || writing.run(&inbox)))?;
        Ok(Self::Thread { work: Mutex::new(Some(work)), thread: Mutex::new(Some(thread)) })
    }

    /// Sends work to the writer; does not wait, unless there are no threads.
    pub(super) fn send(&self, work: Work) {
        let refused = match self {
            Self::Thread { work: sender, .. } => match sender.lock().as_ref() {
                Some(sender) => sender.send(work).err().map(|mpsc::SendError(work)| work),
                None => Some(work),
            },
            Self::Caller(writing) => match writing.lock().as_mut() {
                Some(writing) => {
                    writing.add(work);
                    writing.write_due();
                    None
                }
                None => Some(work),
            },
        };
        if let Some(Work::Append { done, .. } | Work::Rewrite { done, .. }) = refused {
            done(Err(io::Error::other("the metadata log is closed")));
        }
    }

    /// Refuses further work and waits until the thread has ended.
    pub(super) fn close(&self) {
        match self {
            Self::Thread { work, thread } => {
                drop(work.lock().take());
                if let Some(thread) = thread.lock().take()
                    && thread.join().is_err()
                {
                    tracing::error!("the thread that writes the metadata log has panicked");
                }
            }
            Self::Caller(writing) => {
                if let Some(mut writing) = writing.lock().take() {
                    writing.write();
                }
            }
        }
    }
}

/// The pending steps and the file.
pub(super) struct Writing {
    file: StepFile,
    /// Steps of the next frame, and their waiters.
    steps: Vec<u8>,
    waiting: Vec<Done>,
    broken: bool,
}

impl Writing {
    fn run(mut self, inbox: &mpsc::Receiver<Work>) {
        while let Ok(first) = inbox.recv() {
            let mut next = Some(first);
            while let Some(work) = next {
                self.add(work);
                next = if self.steps.len() < FRAME_BYTES { inbox.try_recv().ok() } else { None };
            }
            self.write_due();
        }
        self.write();
    }

    /// Writes the pending steps, unless they are few and have no waiter.
    fn write_due(&mut self) {
        if !self.waiting.is_empty() || self.steps.len() >= FRAME_BYTES {
            self.write();
        }
    }

    fn add(&mut self, work: Work) {
        match work {
            Work::Append { steps, done } => {
                self.steps.extend(steps);
                self.waiting.push(done);
            }
            Work::Hint { steps } => self.steps.extend(steps),
            Work::Rewrite { steps, done } => {
                // It includes all steps that were sent before it.
                self.steps.clear();
                self.waiting.push(done);
                let rewritten = self.guarded(|file| file.rewrite(&steps));
                self.finish(&rewritten);
            }
        }
    }

    fn write(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let written = if steps.is_empty() { Ok(()) } else { self.guarded(|file| file.append(&steps)) };
        self.finish(&written);
        // The buffer is used again, unless it grew large.
        if steps.capacity() <= 64 << 10 {
            self.steps = steps;
            self.steps.clear();
        }
    }

    fn guarded(&mut self, write: impl FnOnce(&mut StepFile) -> Result<(), FileError>) -> io::Result<()> {
        if self.broken {
            let what = "the metadata log is read-only after a disk error; restart the broker once the disk is sound";
            return Err(io::Error::other(what));
        }
        write(&mut self.file).map_err(|error| {
            tracing::error!(%error, "the metadata log is read-only after a disk error; restart the broker once the disk is sound");
            self.broken = true;
            io::Error::new(error.source.kind(), error)
        })
    }

    fn finish(&mut self, written: &io::Result<()>) {
        for done in self.waiting.drain(..) {
            done(match written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }
}
