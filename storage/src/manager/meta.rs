//! `meta.properties`: the cluster and node that a folder belongs to. Version 1, as Kafka 4 writes it.

use std::path::Path;

use crate::{
    OpenError, Uuid,
    files::{META, read_optional},
    io::{Context, Disk, OsDisk},
};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub cluster_id: String,
    pub node_id: i32,
    /// Absent in folders of Kafkas before 3.7.
    pub directory_id: Option<Uuid>,
}

impl Meta {
    /// Reads the file; `None` for a folder that is not formatted yet.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(META);
        let Some(bytes) = read_optional(disk, &path)? else { return Ok(None) };
        let malformed = |what: &str| OpenError::Malformed { path: path.clone(), what: what.to_owned() };
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed("is not text"))?;
        let get = |key: &str| {
            text.lines().filter_map(|line| line.trim().split_once('=')).find_map(|(found, value)| {
                // Java escapes colons and equals signs in properties.
                (found.trim() == key).then(|| value.trim().replace('\\', ""))
            })
        };
        if get("version").as_deref() != Some("1") {
            return Err(malformed("has no line version=1"));
        }
        let cluster_id = get("cluster.id").ok_or_else(|| malformed("has no cluster.id"))?;
        let node_id = get("node.id").and_then(|id| id.parse().ok()).ok_or_else(|| malformed("has no node.id"))?;
        let directory_id = match get("directory.id").map(|id| id.parse::<Uuid>()) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Err(malformed("has a directory.id that is no uuid")),
        };
        Ok(Some(Self { cluster_id, node_id, directory_id }))
    }

    /// Writes the file and flushes it.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(META);
        let mut text = format!("version=1\ncluster.id={}\nnode.id={}\n", self.cluster_id, self.node_id);
        if let Some(id) = &self.directory_id {
            text.push_str(&format!("directory.id={id}\n"));
        }
        Ok(disk.replace(&path, text.as_bytes(), true).context("write", &path)?)
    }
}

/// The node that a log dir was formatted for; `None` if it is not formatted.
pub fn node_id_of(dir: &Path) -> Result<Option<i32>, OpenError> {
    Ok(Meta::read(&OsDisk, dir)?.map(|meta| meta.node_id))
}
