//! All logs of one broker over its log dirs (API first; being filled in).

use std::{path::PathBuf, sync::Arc};

use crate::{Log, LogConfig, LogError, OpenError, Uuid};

/// How to open the log dirs.
#[derive(Debug, Clone)]
pub struct LogManagerConfig {
    /// Log dirs; created if missing.
    pub dirs: Vec<PathBuf>,
    /// `node.id`.
    pub node_id: i32,
    /// The cluster it must belong to; `None` takes what the dirs say, or makes a new id for empty dirs.
    pub cluster_id: Option<String>,
    /// Threads that load logs at start; 0 = one a core.
    pub load_threads: usize,
    /// Configuration of logs found at start, until `update_config`.
    pub default_config: LogConfig,
}

/// Facts of one log dir, as DescribeLogDirs tells them.
#[derive(Debug, Clone)]
pub struct LogDirInfo {
    /// The folder.
    pub path: PathBuf,
    /// `directory.id` of its `meta.properties`.
    pub directory_id: Uuid,
    /// After a disk error nothing is written to it any more.
    pub offline: bool,
    /// Size of its file system in bytes, -1 if unknown.
    pub total_bytes: i64,
    /// What is free of that, -1 if unknown.
    pub usable_bytes: i64,
}

/// Several dirs' logs.
#[derive(Debug)]
pub struct LogManager {
    config: LogManagerConfig,
}

#[allow(unused_variables)]
impl LogManager {
    /// Locks the dirs, reads or writes `meta.properties`, loads all logs in parallel, recovers after a crash. Blocks.
    pub fn open(config: LogManagerConfig, now_ms: i64) -> Result<Self, OpenError> {
        Ok(Self { config })
    }
    /// The cluster id of the dirs (made at the first open of empty dirs).
    pub fn cluster_id(&self) -> &str {
        ""
    }
    /// True if the last stop was clean (or the dirs are new).
    pub fn was_clean(&self) -> bool {
        true
    }
    /// The log of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Log>> {
        None
    }
    /// Creates the log of a partition (in the dir with the fewest logs), or returns the one that is there under the same topic id.
    pub fn create(
        &self,
        topic: &str,
        partition: i32,
        topic_id: Uuid,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>, LogError> {
        Err(LogError::Unknown { topic: topic.to_owned(), partition })
    }
    /// Renames the log's folder for deletion; its files go in the background. Readers that hold slices keep them.
    pub fn delete(&self, topic: &str, partition: i32) -> Result<(), LogError> {
        Ok(())
    }
    /// Replaces the configuration of all of a topic's logs here.
    pub fn update_config(&self, topic: &str, config: LogConfig) {}
    /// All logs.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        Vec::new()
    }
    /// The log dirs.
    pub fn dirs(&self) -> Vec<LogDirInfo> {
        Vec::new()
    }
    /// Flushes closed segments, then writes recovery points, log starts and high watermarks. Call every few seconds. Blocks.
    pub fn flush_checkpoints(&self) -> Result<(), LogError> {
        Ok(())
    }
    /// One retention pass over all logs. Blocks.
    pub fn retention_pass(&self, now_ms: i64) -> crate::RetentionOutcome {
        crate::RetentionOutcome::default()
    }
    /// Flushes all, writes checkpoints and clean-shutdown markers, closes the logs. Blocks.
    pub fn shutdown_clean(&self) -> Result<(), LogError> {
        Ok(())
    }
}
