//! Support for tests of replicas without a whole broker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use esker_core::metadata::MetadataImage;
use esker_protocol::compression::Compression;
use esker_protocol::primitives::Uuid;
use esker_protocol::records::{Batch, BatchBuilder};
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::{LogConfig, LogManager, LogManagerConfig, Origin};
use tempfile::TempDir;

use super::flusher::Flusher;
use super::partition::Partition;
use super::role::{Assignment, Role};
use super::settings::TopicSettings;
use crate::config::{BrokerConfig, Sources};
use crate::node::{Machine, Node};
use crate::telemetry::Metrics;

pub(super) const NOW: i64 = 1_700_000_000_000;

/// A node with the built-in configuration.
pub(super) fn node() -> Node {
    Node::new(BrokerConfig::resolve(&Sources::default()).unwrap(), Arc::new(Machine::default()))
}

/// Counts disk operations.
#[derive(Debug, Default)]
pub(super) struct CountedDisk {
    calls: AtomicUsize,
}

impl CountedDisk {
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Hooks for CountedDisk {
    fn before(&self, _: Doing<'_>) -> io::Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Logs in a folder of their own.
pub(super) fn logs(disk: &Arc<CountedDisk>) -> (TempDir, Arc<LogManager>) {
    let dir = tempfile::tempdir().unwrap();
    let config = LogManagerConfig {
        dirs: vec![dir.path().to_path_buf()],
        node_id: 1,
        cluster_id: None,
        load_threads: 1,
        journal_bytes: 0,
        journal_dirs: Vec::new(),
        default_config: LogConfig::default(),
        progress: Arc::default(),
    };
    let hooks: Arc<dyn Hooks> = Arc::<CountedDisk>::clone(disk);
    (dir, Arc::new(LogManager::open_on(Arc::new(HookedDisk(hooks)), config, NOW).unwrap()))
}

/// One partition of broker 1.
pub(super) struct Replica {
    _dir: TempDir,
    _logs: Arc<LogManager>,
    pub(super) disk: Arc<CountedDisk>,
    pub(super) partition: Arc<Partition>,
    pub(super) settings: Arc<TopicSettings>,
}

impl Replica {
    /// Broker 1 leads in epoch 0, brokers 1, 2 and 3 have replicas.
    pub(super) fn leading(isr: &[i32]) -> Self {
        Self::leading_at(0, isr)
    }

    /// As [`Replica::leading`], of another partition of the topic.
    pub(super) fn leading_at(index: i32, isr: &[i32]) -> Self {
        Self::made(index, isr, false)
    }

    /// As [`Replica::leading_at`], where flushed offsets count.
    pub(super) fn flushing_at(index: i32, isr: &[i32]) -> Self {
        Self::made(index, isr, true)
    }

    fn made(index: i32, isr: &[i32], flush_before_ack: bool) -> Self {
        let disk = Arc::<CountedDisk>::default();
        let (dir, logs) = logs(&disk);
        let settings = TopicSettings::resolve(&MetadataImage::default(), "t", 1, &node().config().statics);
        // Log ends decide, unless a test sets flushed offsets.
        let settings = Arc::new(TopicSettings { flush_before_ack, ..settings });
        let metrics = Metrics::new(std::iter::empty()).unwrap();
        let flusher = Arc::new(Flusher::new(node(), [], metrics.flushes.clone()));
        let id = Uuid([1; 16]);
        let log = logs.create("t", index, id, settings.log.clone(), NOW).unwrap();
        let role = Role::of(1, assignment(1, 0, isr), Arc::clone(&settings));
        let partition = Partition::new(id, log, metrics.topics.of("t"), flusher, role).unwrap();
        Self { _dir: dir, _logs: logs, disk, partition: Arc::new(partition), settings }
    }

    pub(super) fn set_role(&self, leader: i32, leader_epoch: i32, isr: &[i32]) {
        let role = Role::of(1, assignment(leader, leader_epoch, isr), Arc::clone(&self.settings));
        self.partition.set_role(role).unwrap();
    }

    /// Appends a batch of one record as leader.
    pub(super) fn append(&self) {
        self.append_batch(plain(), Origin::Client { transaction_v2: false });
    }

    /// Appends batches of so many bytes in all.
    pub(super) fn append_bytes(&self, bytes: usize) {
        for _ in 0..bytes.div_ceil(256 << 10) {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(0, NOW, None, Some(&vec![1; 256 << 10]), &[]);
            self.append_batch(builder.build().unwrap(), Origin::Client { transaction_v2: false });
        }
    }

    pub(super) fn append_batch(&self, bytes: Bytes, origin: Origin) {
        let (batch, _) = Batch::parse(bytes).unwrap();
        self.partition.append(&batch.header, &batch.bytes, origin, false, NOW).unwrap();
    }
}

pub(super) fn assignment(leader: i32, leader_epoch: i32, isr: &[i32]) -> Assignment {
    Assignment { leader, leader_epoch, replicas: vec![1, 2, 3], isr: isr.to_vec(), partition_epoch: 0 }
}

fn plain() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(&[7; 100]), &[]);
    builder.build().unwrap()
}
