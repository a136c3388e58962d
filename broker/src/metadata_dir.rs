//! Where the metadata log is, and whether its folder is a log dir or a folder of its own.
//!
//! The metadata log is the cluster: topics, configs, producer ids. A start that does not find it would make a new cluster
//! over the data of the old one. So the broker looks for it in every folder that the configuration names, in any order. A
//! start is refused where there are two, where one is in another folder than `metadata.log.dir`, and where there is none but a
//! log dir records its location: a log dir without the metadata log names the folder in a small file. Nothing is written
//! before.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_protocol::primitives::Uuid;
use esker_storage::io::Disk;
use esker_storage::{Folder, LogManager, OpenError};
use thiserror::Error;

use crate::config::BrokerConfig;
use crate::node::Node;
use crate::raft;

/// The folder within a log dir, as Kafka calls it.
const NAME: &str = "__cluster_metadata-0";

/// In a log dir that does not hold the metadata log: the folder that does.
const LOCATION: &str = "metadata.location";

/// Beside the metadata log's folder: see [`MetadataDir::record_promise`].
const PROMISE: &str = "cluster.joining";

/// In a folder that is not formatted yet: see [`MetadataDir::record_directory`].
const DIRECTORY: &str = "directory.joining";

/// Before the name of a file of a metadata log that another one has replaced.
const REPLACED: &str = "replaced-";

/// Beside the metadata log's folder, after a clean stop: the broker epoch.
const CLEAN_EPOCH: &str = "broker.epoch";

/// Why no metadata log can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataDirError {
    /// Each would be another cluster.
    #[error(
        "there are several metadata logs: {}. Each stands for a cluster of its own: keep the one whose topics are the right ones, \
         and move the others out of these folders",
        list(.0)
    )]
    Several(Vec<PathBuf>),
    /// A new one would be begun beside it.
    #[error(
        "metadata.log.dir is {}, but the metadata log is {}: set metadata.log.dir to {}{}",
        configured.display(), found.join(NAME).display(), found.display(), move_hint(configured, *own)
    )]
    Elsewhere {
        /// `metadata.log.dir`.
        configured: PathBuf,
        /// The log dir that holds it.
        found: PathBuf,
        /// The configured folder is none of the log dirs.
        own: bool,
    },
    /// The cluster is elsewhere, or lost.
    #[error(
        "the metadata log of this cluster was in {}, and is in none of the configured folders: name that folder in metadata.log.dir \
         or log.dirs, or restore it from a backup. To begin a new cluster with what lies in the log dirs, remove {}",
        last.join(NAME).display(), said_by.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ")
    )]
    Missing {
        /// The folder that held it.
        last: PathBuf,
        /// The files that record it.
        said_by: Vec<PathBuf>,
    },
    /// A metadata log may be there.
    #[error("cannot look for the metadata log in {}: {cause}", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        cause: String,
    },
    /// No folder is given.
    #[error("log.dirs names no folder; give one with --data-dir")]
    NoFolder,
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.join(NAME).display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// A log keeps its controller's identity when it moves into a folder without one; a log dir has its own.
fn move_hint(configured: &Path, own: bool) -> String {
    if own { format!(", or move that folder to {}", configured.join(NAME).display()) } else { String::new() }
}

/// The folder of the metadata log: the one that holds it already, else the configured one, else the first log dir. `holding`
/// are the folders that hold one, each once; `remembered` are the files in log dirs that name the folder, with their content.
fn choose(
    configured: Option<&Path>,
    log_dirs: &[PathBuf],
    holding: Vec<PathBuf>,
    remembered: Vec<(PathBuf, PathBuf)>,
) -> Result<PathBuf, MetadataDirError> {
    match (holding.as_slice(), configured) {
        ([], configured) => {
            if let Some((_, last)) = remembered.first() {
                let last = last.clone();
                let said_by = remembered.into_iter().map(|(file, _)| file).collect();
                return Err(MetadataDirError::Missing { last, said_by });
            }
            let folder = configured.map(Path::to_owned).or_else(|| log_dirs.first().cloned());
            folder.ok_or(MetadataDirError::NoFolder)
        }
        ([found], Some(configured)) if found != configured => {
            let own = !log_dirs.iter().any(|dir| dir == configured);
            Err(MetadataDirError::Elsewhere { configured: configured.to_owned(), found: found.clone(), own })
        }
        ([found], _) => Ok(found.clone()),
        (_, _) => Err(MetadataDirError::Several(holding)),
    }
}

/// Two names of one folder are equal by this, if it is there.
fn real(folder: &Path) -> PathBuf {
    std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

/// The folder that holds, or is to hold, the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataDir {
    folder: PathBuf,
    /// It is none of the log dirs.
    own: bool,
}

impl MetadataDir {
    /// Looks into all folders that the configuration names. Changes nothing.
    pub fn find(disk: &dyn Disk, config: &BrokerConfig) -> Result<Self, MetadataDirError> {
        let unreadable = |folder: &Path, error: io::Error| MetadataDirError::Unreadable {
            folder: folder.to_owned(),
            cause: error.to_string(),
        };
        let configured = config.metadata_log_dir.as_deref();
        let mut holding: Vec<PathBuf> = Vec::new();
        for folder in configured.into_iter().chain(config.log_dirs.iter().map(PathBuf::as_path)) {
            let known = holding.iter().any(|other| real(other) == real(folder));
            let holds = raft::is_log_in(disk, &folder.join(NAME)).map_err(|error| unreadable(folder, error))?;
            if !known && holds {
                holding.push(folder.to_owned());
            }
        }
        let mut remembered = Vec::new();
        for dir in &config.log_dirs {
            let file = dir.join(LOCATION);
            if let Some(text) = read_location(disk, &file).map_err(|error| unreadable(dir, error))? {
                remembered.push((file, PathBuf::from(text.trim_end())));
            }
        }
        let folder = choose(configured, &config.log_dirs, holding, remembered)?;
        let own = !config.log_dirs.iter().any(|dir| real(dir) == real(&folder));
        Ok(Self { folder, own })
    }

    /// The folder that holds the log's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is a log already.
    pub fn holds_log(&self, disk: &dyn Disk) -> io::Result<bool> {
        raft::is_log_in(disk, &self.log())
    }

    /// How often the quorum was recovered by hand, as far as the log here says; 0 where it says nothing.
    pub fn recovery(&self, disk: &dyn Disk) -> i64 {
        raft::recovery_in(disk, &self.log()).map_or(0, |recovery| i64::try_from(recovery).unwrap_or(i64::MAX))
    }

    /// Renames the files of the log, which the cluster has replaced by another: this node joins it as one without metadata. It stays promised
    /// to that cluster from the first step on, so that a start after a crash begins no other.
    pub fn replace_log(&self, disk: &dyn Disk, cluster_id: &str) -> io::Result<()> {
        self.record_promise(disk, cluster_id)?;
        let log = self.log();
        // The log goes last: while it is there it says that it is the old one.
        for name in raft::LOG_FILES {
            match disk.rename(&log.join(name), &log.join(format!("{REPLACED}{name}"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        disk.sync_dir(&log)
    }

    /// Records that this node was promised a place in a cluster, before it has the metadata log of that cluster: a start that is not told to
    /// join must not begin another cluster under its name.
    pub fn record_promise(&self, disk: &dyn Disk, cluster_id: &str) -> io::Result<()> {
        disk.replace(&self.folder.join(PROMISE), format!("{cluster_id}\n").as_bytes(), true)
    }

    /// The cluster that this node was promised a place in, and has not entered.
    pub fn promise(&self, disk: &dyn Disk) -> io::Result<Option<String>> {
        promise_in(disk, &self.folder)
    }

    /// The node has entered: the log says so from here on.
    pub fn record_seat(&self, disk: &dyn Disk) {
        let file = self.folder.join(PROMISE);
        if let Err(error) = disk.remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %file.display(), "cannot remove a file that is not needed any more");
        }
    }

    /// A clean stop: everything is flushed that this broker held under `epoch`. The next start shows the controller that nothing was lost.
    pub fn record_clean_epoch(&self, disk: &dyn Disk, epoch: i64) -> io::Result<()> {
        disk.replace(&self.folder.join(CLEAN_EPOCH), format!("{epoch}\n").as_bytes(), true)
    }

    /// The epoch of the clean stop before, if there was one; from here on a crash is a crash.
    pub fn take_clean_epoch(&self, disk: &dyn Disk) -> io::Result<Option<i64>> {
        let file = self.folder.join(CLEAN_EPOCH);
        let Some(text) = read_location(disk, &file)? else { return Ok(None) };
        disk.remove_file(&file)?;
        disk.sync_dir(&self.folder)?;
        Ok(text.trim_end().parse().ok())
    }

    /// Records the directory id that this node joins a cluster with. The cluster binds the node id to it before the folder is formatted: a start
    /// after a crash in between must join with the same directory id, or it is refused as another node.
    pub fn record_directory(&self, disk: &dyn Disk, directory: Uuid) -> io::Result<()> {
        disk.create_dir_all(&self.folder)?;
        write_text(disk, &self.folder.join(DIRECTORY), &format!("{directory}\n"))
    }

    /// The directory id of the folder, or the recorded one of a folder without one.
    pub fn directory(&self, disk: &dyn Disk) -> Result<Option<Uuid>, OpenError> {
        let formatted = Folder::identity(disk, &self.folder)?.and_then(|identity| identity.directory_id);
        if formatted.is_some() {
            return Ok(formatted);
        }
        // A file that cannot be read costs the node id, not the start.
        let text = read_location(disk, &self.folder.join(DIRECTORY)).ok().flatten();
        Ok(text.and_then(|text| text.trim_end().parse().ok()))
    }

    /// Formats the folder as one of `cluster_id`, with the id that the cluster knows it by.
    pub fn format(
        &self,
        disk: &dyn Disk,
        node: &Node,
        (cluster_id, node_id): (&str, i32),
        directory: Uuid,
    ) -> Result<(), OpenError> {
        Folder::open(node.storage().as_ref(), disk, &self.folder, cluster_id, node_id, Some(directory))?;
        // The folder has its id from here on. A file that stays is not read any more.
        let _ = disk.remove_file(&self.folder.join(DIRECTORY));
        Ok(())
    }

    /// The folder of the log itself.
    pub fn log(&self) -> PathBuf {
        log_in(&self.folder)
    }

    /// Has every log dir remember where the metadata log is. What cannot be written is logged: it is missed only by a
    /// configuration that lacks the folder.
    pub fn record_location(&self, disk: &dyn Disk, log_dirs: &[PathBuf]) {
        let folder = real(&self.folder);
        for dir in log_dirs {
            let file = dir.join(LOCATION);
            let done = if real(dir) == folder { disk.remove_file(&file) } else { write(disk, &file, &folder) };
            if let Err(error) = done {
                tracing::warn!(%error, file = %file.display(), "cannot note where the metadata log is");
            }
        }
    }

    /// The cluster that a folder of its own was formatted for.
    pub fn cluster_id(&self, disk: &dyn Disk) -> Result<Option<String>, OpenError> {
        if self.own { Folder::cluster_id(disk, &self.folder) } else { Ok(None) }
    }

    /// The id of the folder, which is part of this controller's identity. A folder of its own is formatted and locked as a log
    /// dir is; the lock goes with what is returned.
    pub fn open(
        &self,
        disk: &dyn Disk,
        logs: &Arc<LogManager>,
        node_id: i32,
    ) -> Result<(Uuid, Option<Folder>), OpenError> {
        if self.own {
            // A log that was moved here knows this controller by the folder that it was in.
            let known = raft::directory_of(disk, &self.log(), node_id).map(Uuid);
            let folder = Folder::open(logs.env().as_ref(), disk, &self.folder, logs.cluster_id(), node_id, known)?;
            return Ok((folder.directory_id, Some(folder)));
        }
        let dirs = logs.dirs();
        let it = dirs.iter().find(|dir| real(&dir.path) == real(&self.folder)).or(dirs.first());
        Ok((it.map(|dir| dir.directory_id).unwrap_or_default(), None))
    }
}

/// The folder of the metadata log in a data folder.
pub fn log_in(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// The cluster that a data folder was promised to, and has not entered.
pub fn promise_in(disk: &dyn Disk, folder: &Path) -> io::Result<Option<String>> {
    Ok(read_location(disk, &folder.join(PROMISE))?.map(|text| text.trim_end().to_owned()))
}

fn read_location(disk: &dyn Disk, file: &Path) -> io::Result<Option<String>> {
    match disk.read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(disk: &dyn Disk, file: &Path, folder: &Path) -> io::Result<()> {
    write_text(disk, file, &format!("{}\n", folder.display()))
}

fn write_text(disk: &dyn Disk, file: &Path, text: &str) -> io::Result<()> {
    if read_location(disk, file)?.is_some_and(|old| old == text) {
        return Ok(());
    }
    disk.replace(file, text.as_bytes(), true)
}

#[cfg(test)]
mod tests {
    use esker_storage::io::OsDisk;

    use super::*;

    #[test]
    fn where_the_metadata_log_is_looked_for_and_what_is_refused() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let elsewhere = |configured: &str, found: &str| {
            let own = configured == "m";
            Err(MetadataDirError::Elsewhere { configured: configured.into(), found: found.into(), own })
        };
        for (configured, log_dirs, holding, expected) in [
            // A new broker.
            (None, &["a", "b"][..], &[][..], Ok("a")),
            (Some("m"), &["a", "b"], &[], Ok("m")),
            (Some("b"), &["a", "b"], &[], Ok("b")),
            (None, &[], &[], Err(MetadataDirError::NoFolder)),
            // It is where it was, whatever the order of the log dirs.
            (None, &["a"], &["a"], Ok("a")),
            (None, &["a", "b"], &["a"], Ok("a")),
            (None, &["b", "a"], &["a"], Ok("a")),
            (None, &["new", "a", "b"], &["a"], Ok("a")),
            (Some("a"), &["b", "a"], &["a"], Ok("a")),
            (Some("m"), &["a", "b"], &["m"], Ok("m")),
            // It is elsewhere than configured.
            (Some("m"), &["a", "b"], &["a"], elsewhere("m", "a")),
            (Some("b"), &["a", "b"], &["a"], elsewhere("b", "a")),
            // It is unknown which is the right one.
            (None, &["a", "b"], &["a", "b"], Err(MetadataDirError::Several(paths(&["a", "b"])))),
            (Some("m"), &["a"], &["m", "a"], Err(MetadataDirError::Several(paths(&["m", "a"])))),
        ] {
            let expected = expected.map(PathBuf::from);
            let (configured, log_dirs) = (configured.map(Path::new), paths(log_dirs));
            let chosen = choose(configured, &log_dirs, paths(holding), Vec::new());
            assert_eq!(chosen, expected, "{configured:?} {log_dirs:?} {holding:?}");
            // What log dirs remember counts where no log is found, and only there.
            let remembered = vec![(PathBuf::from("b/metadata.location"), PathBuf::from("old"))];
            let chosen = choose(configured, &log_dirs, paths(holding), remembered);
            let missing = MetadataDirError::Missing { last: "old".into(), said_by: paths(&["b/metadata.location"]) };
            assert_eq!(chosen, if holding.is_empty() { Err(missing) } else { expected });
        }
    }

    #[test]
    fn a_node_that_crashes_while_it_joins_keeps_its_directory_id() {
        let root = tempfile::tempdir().unwrap();
        let dir = MetadataDir { folder: root.path().join("data"), own: false };
        assert_eq!(dir.directory(&OsDisk).unwrap(), None);
        dir.record_directory(&OsDisk, Uuid([7; 16])).unwrap();
        assert_eq!(dir.directory(&OsDisk).unwrap(), Some(Uuid([7; 16])));
        // Once the folder is formatted, its own id counts.
        dir.format(&OsDisk, &crate::test_support::node(), ("cluster", 1), Uuid([8; 16])).unwrap();
        assert_eq!(dir.directory(&OsDisk).unwrap(), Some(Uuid([8; 16])));
        assert!(!dir.folder.join(DIRECTORY).exists());
    }

    #[test]
    fn a_refusal_names_all_paths() {
        let text =
            choose(Some(Path::new("/m")), &["/a".into()], vec!["/a".into()], Vec::new()).unwrap_err().to_string();
        assert!(text.contains("metadata.log.dir is /m") && text.contains("/a/__cluster_metadata-0"), "{text}");
        let text = choose(None, &[], vec!["/a".into(), "/b".into()], Vec::new()).unwrap_err().to_string();
        assert!(text.contains("/a/__cluster_metadata-0 and /b/__cluster_metadata-0"), "{text}");
        let remembered = vec![(PathBuf::from("/b/metadata.location"), PathBuf::from("/a"))];
        let text = choose(None, &["/b".into()], Vec::new(), remembered).unwrap_err().to_string();
        assert!(text.contains("/a/__cluster_metadata-0") && text.contains("remove /b/metadata.location"), "{text}");
    }
}
