//! In which folder the journal of a log dir lies: in the log dir itself, or in a folder of its own on another disk (`log.journal.dir`).
//!
//! After a crash the journal holds acknowledged records. A start with another folder, or before the folder's disk is mounted, would lose
//! them without a word. So the log dir names the folder (`esker-journal.dir`), the folder names the log dir (`esker-journal.owner`), and both
//! files carry the random id of this pair. After a crash a start is refused where the two do not match. After a clean stop the journal
//! holds nothing, and log dir and folder may be paired anew.
//!
//! Must never: make a new pair while the journal of the one before may hold something; use a folder of another log dir.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use super::claim::{create_dir, lock};
use crate::{Env, OpenError, Uuid, env::random_uuid, error::FileError, files, io::Context, io::Disk, journal};

/// In the log dir: names the folder.
const FOLDER: &str = "esker-journal.dir";
/// In the folder: names the log dir by its directory id.
const OWNER: &str = "esker-journal.owner";
/// First line of both files.
const VERSION: &str = "0";

/// A log dir whose journal is about to be opened.
pub(super) struct LogDirParts<'a> {
    pub disk: &'a dyn Disk,
    pub env: &'a dyn Env,
    pub path: &'a Path,
    pub directory_id: Uuid,
    /// The last stop was clean: the journal holds nothing.
    pub clean: bool,
}

/// A folder for a journal, and its lock if it is not the log dir.
type Locked = (PathBuf, Option<Box<dyn Debug + Send + Sync>>);

/// One of the two files.
struct Pair {
    id: Uuid,
    /// The folder, or the log dir's directory id.
    other: String,
}

impl LogDirParts<'_> {
    /// The folder of the journal: `configured`, or the log dir. `wanted`: there is to be a journal from now on. Blocks for the disk.
    pub(super) fn journal_folder(&self, configured: Option<&Path>, wanted: bool) -> Result<Locked, OpenError> {
        let named = self.read(&self.path.join(FOLDER))?;
        let configured = configured.filter(|folder| *folder != self.path && (wanted || named.is_some()));
        let Some(folder) = configured else {
            match named {
                Some(named) if self.clean => self.leave(&named)?,
                Some(named) => return Err(self.refuse(elsewhere(&named.other))),
                None => {}
            }
            return Ok((self.path.to_path_buf(), None));
        };
        if let Some(named) = named.as_ref().filter(|_| !self.clean && self.disk.list(folder).is_err()) {
            return Err(self.refuse(elsewhere(&named.other)));
        }
        create_dir(self.disk, folder)?;
        let lock = lock(self.disk, folder)?;
        let owner = self.read(&folder.join(OWNER))?;
        if let Some(owner) = owner.as_ref().filter(|owner| owner.other != self.directory_id.to_string()) {
            let what = format!(
                "{} holds the journal of another log dir, the one with directory.id={} in its meta.properties: name the folders in log.journal.dir \
                 in the order of log.dirs, one for each log dir",
                folder.display(),
                owner.other
            );
            return Err(self.refuse(what));
        }
        match named {
            Some(named) if owner.is_some_and(|owner| owner.id == named.id) => {}
            Some(named) if !self.clean => return Err(self.refuse(elsewhere(&named.other))),
            None if !self.clean && journal::has_files(self.disk, self.path)? => {
                let what = "it lies in the log dir, and the last stop was not clean: start without log.journal.dir and stop cleanly first";
                return Err(self.refuse(what.to_owned()));
            }
            named => {
                self.pair(folder)?;
                if let Some(before) = named.filter(|before| Path::new(&before.other) != folder) {
                    self.drop_files(&before)?;
                }
            }
        }
        // After a clean stop nothing in them counts.
        if self.clean {
            journal::remove_files(self.disk, self.path)?;
        }
        Ok((folder.to_path_buf(), Some(lock)))
    }

    /// The journal is not wanted any more, and its files are removed.
    pub(super) fn forget_journal_folder(&self) -> Result<(), OpenError> {
        match self.read(&self.path.join(FOLDER))? {
            Some(named) => Ok(self.leave(&named)?),
            None => Ok(()),
        }
    }

    /// Both files are on disk on return, the one in the log dir last.
    fn pair(&self, folder: &Path) -> Result<(), FileError> {
        let id = random_uuid(self.env);
        let others = [
            (folder.join(OWNER), self.directory_id.to_string()),
            (self.path.join(FOLDER), folder.display().to_string()),
        ];
        for (path, other) in others {
            let text = format!("{VERSION}\n{id}\n{other}\n");
            self.disk.replace(&path, text.as_bytes(), true).context("write", &path)?;
        }
        Ok(())
    }

    /// The journal lies in the log dir from now on. On disk on return.
    fn leave(&self, named: &Pair) -> Result<(), FileError> {
        let path = self.path.join(FOLDER);
        self.disk.remove_file(&path).context("remove", &path)?;
        self.disk.sync_dir(self.path).context("sync", self.path)?;
        self.drop_files(named)
    }

    /// Removes what lies in a folder that is not this log dir's any more. A folder that cannot be reached keeps it.
    fn drop_files(&self, named: &Pair) -> Result<(), FileError> {
        let folder = Path::new(&named.other);
        let owner = folder.join(OWNER);
        if self.read(&owner).ok().flatten().is_none_or(|owner| owner.id != named.id) {
            tracing::info!(folder = %folder.display(), "the journal of a log dir lay here and holds nothing any more: its files may be removed");
            return Ok(());
        }
        journal::remove_files(self.disk, folder)?;
        self.disk.remove_file(&owner).context("remove", &owner)
    }

    fn read(&self, path: &Path) -> Result<Option<Pair>, OpenError> {
        let Some(bytes) = files::read_optional(self.disk, path)? else { return Ok(None) };
        let parse = || {
            let mut lines = std::str::from_utf8(&bytes).ok()?.lines();
            let (version, id, other) = (lines.next()?, lines.next()?, lines.next()?);
            (version == VERSION).then_some(())?;
            Some(Pair { id: id.parse().ok()?, other: other.to_owned() })
        };
        let malformed = || OpenError::Malformed { path: path.to_path_buf(), what: "cannot be understood".to_owned() };
        parse().ok_or_else(malformed).map(Some)
    }

    fn refuse(&self, what: String) -> OpenError {
        OpenError::JournalFolder { dir: self.path.to_path_buf(), what }
    }
}

fn elsewhere(named: &str) -> String {
    format!(
        "it lies in {named}, and the last stop was not clean: mount the disk of that folder and name it (log.journal.dir, or --journal-dir of \
         esker journal apply); it may be changed after a clean stop"
    )
}
