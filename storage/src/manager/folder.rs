//! A folder beside the log dirs: locked and formatted as they are, with an id of its own (`metadata.log.dir`).

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use super::{
    claim::{create_dir, lock},
    load::check,
    meta::Meta,
};
use crate::{Env, OpenError, Uuid, env::random_uuid, io::Disk};

/// See the module. The lock is released when it is dropped.
#[derive(Debug)]
pub struct Folder {
    /// Path of the folder.
    pub path: PathBuf,
    /// `directory.id` of its `meta.properties`.
    pub directory_id: Uuid,
    _lock: Box<dyn Debug + Send + Sync>,
}

/// What a folder's `meta.properties` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderIdentity {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`; folders of old versions of Kafka have none.
    pub directory_id: Option<Uuid>,
}

impl Folder {
    /// The cluster that the folder was formatted for; `None` for an unformatted or missing folder. Changes nothing.
    pub fn cluster_id(disk: &dyn Disk, path: &Path) -> Result<Option<String>, OpenError> {
        Ok(Meta::read(disk, path)?.map(|meta| meta.cluster_id))
    }

    /// What the folder was formatted as; `None` for one that is not, or is not there. Changes nothing.
    pub fn identity(disk: &dyn Disk, path: &Path) -> Result<Option<FolderIdentity>, OpenError> {
        let identity = |meta: Meta| {
            let Meta { cluster_id, node_id, directory_id } = meta;
            FolderIdentity { cluster_id, node_id, directory_id }
        };
        Ok(Meta::read(disk, path)?.map(identity))
    }

    /// Creates, locks and formats the folder, or checks that it belongs to this cluster and node. A folder without an id gets
    /// `new_id`, or a random one.
    pub fn open(
        env: &dyn Env,
        disk: &dyn Disk,
        path: &Path,
        cluster_id: &str,
        node_id: i32,
        new_id: Option<Uuid>,
    ) -> Result<Self, OpenError> {
        create_dir(disk, path)?;
        let lock = lock(disk, path)?;
        let meta = Meta::read(disk, path)?;
        if let Some(meta) = &meta {
            check(meta, path, cluster_id, node_id)?;
        }
        let directory_id = match meta.and_then(|meta| meta.directory_id) {
            Some(id) => id,
            None => {
                let id = new_id.unwrap_or_else(|| random_uuid(env));
                Meta { cluster_id: cluster_id.to_owned(), node_id, directory_id: Some(id) }.write(disk, path)?;
                id
            }
        };
        Ok(Self { path: path.to_owned(), directory_id, _lock: lock })
    }
}
