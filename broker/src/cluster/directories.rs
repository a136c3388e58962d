//! The broker's reports on its log dirs (KIP-858): which of them failed, and in which of them its replicas are.
//!
//! The active controller takes the replicas of a failed log dir out of leadership and of the in-sync replicas, while this broker serves its
//! other log dirs. What is reported follows from a comparison of the metadata with the log dirs, so that a report that was lost is made
//! again. A broker with one log dir reports only replicas that the metadata has in another one, which failed or was lost with its disk. A cluster of one reports nothing: no other
//! broker could lead. Must never: hold back the report of a failed log dir behind another.

use std::sync::Arc;
use std::time::Duration;

use esker_core::controller::{AssignDirectories, FailDirectories, Refusal, is_misplaced};
use esker_core::metadata::{MetadataImage, PartitionId};
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use super::route::RoutedController;
use crate::controller::{SubmitError, submit};
use crate::replica::{Partition, ReplicaManager, TopicRef};
use crate::session::BrokerSession;

/// How long the controller may take to decide a report.
const DECIDE: Duration = Duration::from_secs(5);
/// Until a report that failed is made again.
const RETRY: Duration = Duration::from_millis(50);
/// How often log dirs are looked at even though nothing has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Replicas of one report.
const MAX_REPLICAS: usize = 2_000;

/// See the module.
#[derive(Debug)]
pub struct DirectoryReports {
    controller: Arc<Controller>,
    routed: Arc<RoutedController>,
    session: Arc<BrokerSession>,
    replicas: Arc<ReplicaManager>,
    /// All replicas are as the controller knows them in this image; `None`: all are to be compared.
    compared: Option<Arc<MetadataImage>>,
}

impl DirectoryReports {
    /// Of this broker.
    pub fn new(
        controller: &Arc<Controller>,
        routed: &Arc<RoutedController>,
        session: &Arc<BrokerSession>,
        replicas: &Arc<ReplicaManager>,
    ) -> Self {
        Self {
            controller: Arc::clone(controller),
            routed: Arc::clone(routed),
            session: Arc::clone(session),
            replicas: Arc::clone(replicas),
            compared: None,
        }
    }

    /// Reports until it is dropped.
    pub async fn run(mut self) {
        let mut images = self.replicas.applied();
        let changes = Arc::clone(self.replicas.directory_changes());
        loop {
            let image = images.borrow_and_update().clone();
            let pause = match self.report(&image).await {
                Ok(()) => LOOK,
                Err(why) => {
                    tracing::debug!(why, "the state of log dirs is not reported yet");
                    self.compared = None;
                    RETRY
                }
            };
            tokio::select! {
                biased;
                // A replica has moved to another log dir, or a log dir failed.
                () = changes.notified() => self.compared = None,
                changed = images.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(pause) => {}
            }
        }
    }

    async fn report(&mut self, image: &Arc<MetadataImage>) -> Result<(), String> {
        let is_alone = self.controller.metadata().quorum().borrow().is_alone();
        let epoch = self.session.epoch();
        if is_alone || epoch < 0 {
            self.compared = None;
            return Ok(());
        }
        self.report_failed(image, epoch).await?;
        self.report_replicas(image, epoch).await
    }

    async fn report_failed(&self, image: &MetadataImage, epoch: i64) -> Result<(), String> {
        let node_id = self.controller.node().id();
        let known = image.broker(node_id).map_or(&[] as &[Uuid], |broker| &broker.log_dirs);
        let failed = self.replicas.logs().dir_states().filter(|(dir, is_offline)| *is_offline && known.contains(dir));
        let failed: Vec<Uuid> = failed.map(|(dir, _)| dir).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let dirs = failed.len();
        let ask = FailDirectories { node_id, epoch, failed, configs: self.controller.configs() };
        decided(submit(self.routed.as_ref(), ask, Instant::now() + DECIDE).await.map(|committed| committed.reply))?;
        tracing::warn!(
            dirs,
            "the controller knows of failed log dirs: replicas in them lead no more and are not in sync"
        );
        Ok(())
    }

    /// Reports the log dir of each replica that the metadata has in another one.
    async fn report_replicas(&mut self, image: &Arc<MetadataImage>, epoch: i64) -> Result<(), String> {
        let node_id = self.controller.node().id();
        let moved = self.moved_replicas(image, node_id);
        for replicas in moved.chunks(MAX_REPLICAS) {
            let replicas = replicas.to_vec();
            let ask = AssignDirectories { node_id, epoch, replicas, configs: self.controller.configs() };
            let answers = submit(self.routed.as_ref(), ask, Instant::now() + DECIDE).await;
            let answers = answers.map_err(|error| error.to_string())?.reply;
            for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                if refusal.code == ErrorCode::STALE_BROKER_EPOCH {
                    return Err(refusal.message.to_string());
                }
                // A replica that was removed meanwhile is in no log dir any more.
                tracing::debug!(why = %refusal.message, "the log dir of a replica is not recorded");
            }
        }
        self.compared = Some(Arc::clone(image));
        Ok(())
    }

    fn moved_replicas(&self, image: &MetadataImage, node_id: i32) -> Vec<(PartitionId, Uuid)> {
        let has_one_dir = self.replicas.logs().dir_states().nth(1).is_none();
        let differs = |partition: &Arc<Partition>| {
            let (id, dir) = (partition.id(), partition.log().directory_id());
            let known = image.partition(id).filter(|known| known.replicas.contains(&node_id))?;
            is_misplaced(known.directory(node_id), dir, has_one_dir).then_some((id, dir))
        };
        match &self.compared {
            None => self.replicas.partitions().iter().filter_map(differs).collect(),
            Some(before) => {
                let delta = image.changes_since(before);
                let topics = delta.changed_topics.iter().filter_map(|t| self.replicas.topic(&TopicRef::Id(t.id)).ok());
                topics.flat_map(|topic| topic.local_partitions().filter_map(differs).collect::<Vec<_>>()).collect()
            }
        }
    }
}

fn decided(answer: Result<Result<(), Refusal>, SubmitError>) -> Result<(), String> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refusal)) => Err(refusal.message.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
