//! What an answer of the leader does to the logs of the partitions that it names.
//!
//! Records go in as they are; then the high watermark and the log start follow. Where the logs differ, this replica's is cut by epochs
//! (KIP-595), never at its high watermark. An answer to an offset that the log has left since is ignored: an overtaken request brings such.

use std::sync::Arc;

use esker_core::metadata::PartitionId;
use esker_core::replication::{EpochEnd, OutOfRange, resolve_out_of_range, truncation_offset};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{EpochEndOffset, FetchResponse, PartitionData};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::fetcher::Fetcher;
use crate::node::BlockingError;
use crate::replica::error::FollowError;
use crate::replica::partition::Partition;
use crate::telemetry::TopicCount;
use crate::trace::SpanKind;

/// Another task gets its turn after an append of so many bytes.
const YIELD_FROM: usize = 256 << 10;

/// What has to be done with a log on a thread that may block.
#[derive(Debug)]
enum Cut {
    To(i64),
    StartAt(i64),
    /// The log has to begin where the first batch does, which is appended then.
    StartWith(i64, PartitionData),
}

/// What one partition of an answer leads to.
enum Step {
    /// Fetch on.
    Progress,
    Cut(Cut),
    /// The leader is not ready, or this replica is not.
    Pause,
    /// The log did not take what was fetched.
    Refused(FollowError),
    /// This replica's leader epoch is over.
    Fence,
}

impl Fetcher {
    /// Carries out an answer.
    pub(super) async fn apply_answer(&mut self, answer: FetchResponse) {
        let (arrived, mut cuts) = (Instant::now(), Vec::new());
        for topic in answer.responses {
            for data in topic.partitions {
                let id = PartitionId { topic: topic.topic_id, partition: data.partition_index };
                let Some((partition, leader_epoch)) = self.followed.awaited(id) else { continue };
                let bytes = data.records.as_ref().map_or(0, bytes::Bytes::len);
                if self.quota().is_limited() && partition.role().is_throttled_as_follower(partition.index()) {
                    self.quota().record(bytes);
                }
                if bytes > 0 {
                    if !partition.role().is_catching_up(self.node.id()) {
                        self.replicas.flusher().foreground().note();
                    }
                    self.count(&partition, bytes);
                }
                let (from, leader_end) = (partition.log().log_end_offset(), data.high_watermark);
                match self.step(&partition, leader_epoch, data, arrived) {
                    Step::Progress => {
                        self.followed.note_progress(id);
                        if let Some(grown) = self.followed.note_leader_end(id, from, leader_end) {
                            self.pace.note(partition.log().log_end_offset() - from, grown);
                        }
                    }
                    Step::Cut(cut) => cuts.push((id, partition, leader_epoch, cut)),
                    Step::Pause => {
                        self.pause(id);
                    }
                    Step::Refused(error) => {
                        if self.pause(id) {
                            let (topic, index) = (partition.topic(), partition.index());
                            warn!(topic, partition = index, %error, "fetched records are not appended; trying again");
                        }
                    }
                    // A later epoch comes with the next image; until then, and should that be late, it is asked for again.
                    Step::Fence => {
                        self.pause(id);
                    }
                }
                if bytes >= YIELD_FROM {
                    tokio::task::yield_now().await;
                }
            }
        }
        for (id, partition, leader_epoch, cut) in cuts {
            match self.cut(partition, leader_epoch, cut).await {
                Ok(true) => self.followed.note_progress(id),
                Ok(false) => {
                    self.pause(id);
                }
                Err(error) => {
                    error!(%error, "a log could not be cut");
                    self.pause(id);
                }
            }
        }
    }

    fn count(&self, partition: &Partition, bytes: usize) {
        partition.rates().record(TopicCount::ReplicationBytesIn, bytes);
        if self.is_adding(partition) {
            partition.rates().record(TopicCount::ReassignmentBytesIn, bytes);
        }
    }

    fn pause(&mut self, id: PartitionId) -> bool {
        let longest = self.longest_pause();
        self.followed.pause(id, Instant::now(), longest)
    }

    fn step(&self, partition: &Arc<Partition>, leader_epoch: i32, data: PartitionData, arrived: Instant) -> Step {
        match data.error_code {
            ErrorCode::NONE if data.diverging_epoch != EpochEndOffset::default() => {
                let offset = divergence_point(partition, &data.diverging_epoch);
                // Nothing to cut: the leader's epochs changed meanwhile.
                if offset < partition.log().log_end_offset() { Step::Cut(Cut::To(offset)) } else { Step::Pause }
            }
            ErrorCode::NONE => match append_and_follow(partition, leader_epoch, &data, self.node.now_ms()) {
                Ok(()) => {
                    self.trace_append(partition, &data, arrived);
                    Step::Progress
                }
                Err(error) => match partition.begins_before(&error) {
                    Some(base_offset) => Step::Cut(Cut::StartWith(base_offset, data)),
                    // The new role is on its way to this fetcher.
                    None if matches!(error, FollowError::NotFollowing(_)) => Step::Pause,
                    None => Step::Refused(error),
                },
            },
            ErrorCode::OFFSET_OUT_OF_RANGE => out_of_range(partition, &data),
            ErrorCode::FENCED_LEADER_EPOCH => Step::Fence,
            // The leader has not the metadata of this replica yet, or the other way round; or its disk failed.
            _ => Step::Pause,
        }
    }

    /// Records that were fetched and appended are part of their producers' traces.
    fn trace_append(&self, partition: &Partition, data: &PartitionData, arrived: Instant) {
        let Some(tracer) = self.node.tracer() else { return };
        let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else { return };
        for context in tracer.contexts_of(records) {
            let span = tracer.begin_span(Some(context), "replicate", SpanKind::Consumer, arrived);
            span.add_attribute("messaging.destination.name", partition.topic());
            span.add_attribute("messaging.destination.partition.id", partition.index());
            span.add_attribute("esker.leader.node.id", self.leader);
        }
    }

    /// False where it cannot be done now.
    async fn cut(&mut self, partition: Arc<Partition>, leader_epoch: i32, cut: Cut) -> Result<bool, BlockingError> {
        let now_ms = self.node.now_ms();
        let leader = self.leader;
        let work = move || {
            let (topic, index, log_end) = (partition.topic(), partition.index(), partition.log().log_end_offset());
            let done = match &cut {
                Cut::To(offset) => {
                    info!(
                        topic,
                        partition = index,
                        leader,
                        log_end,
                        offset,
                        "the log differs from the leader's: cutting it"
                    );
                    partition.truncate_to(leader_epoch, *offset)
                }
                Cut::StartAt(offset) | Cut::StartWith(offset, _) => {
                    info!(topic, partition = index, leader, log_end, offset, "the leader begins later: starting anew");
                    partition.start_anew_at(leader_epoch, *offset)
                }
            };
            let done = done.and_then(|()| match &cut {
                Cut::StartWith(_, data) => append_and_follow(&partition, leader_epoch, data, now_ms),
                Cut::To(_) | Cut::StartAt(_) => Ok(()),
            });
            match done {
                Ok(()) | Err(FollowError::NotFollowing(_)) => true,
                Err(error) => {
                    error!(topic, partition = index, %error, "cannot follow the leader");
                    false
                }
            }
        };
        self.node.run_blocking(work).await
    }
}

/// Appends, and follows the leader's high watermark and log start.
fn append_and_follow(
    partition: &Partition,
    leader_epoch: i32,
    data: &PartitionData,
    now_ms: i64,
) -> Result<(), FollowError> {
    if let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) {
        partition.append_as_follower(leader_epoch, records.clone(), now_ms)?;
    }
    partition.follow_high_watermark(leader_epoch, data.high_watermark)?;
    partition.follow_log_start(leader_epoch, data.log_start_offset)
}

/// Where this replica's log parts from the leader's, as far as the leader's answer tells.
fn divergence_point(partition: &Partition, leader: &EpochEndOffset) -> i64 {
    let log = partition.log();
    let own = log.epoch_end_offset(leader.epoch);
    let own = EpochEnd { epoch: own.leader_epoch, end_offset: own.end_offset };
    let leader = EpochEnd { epoch: leader.epoch, end_offset: leader.end_offset };
    truncation_offset(leader, own, log.log_end_offset())
}

fn out_of_range(partition: &Partition, data: &PartitionData) -> Step {
    let (leader_start, leader_end) = (data.log_start_offset, data.diverging_epoch.end_offset);
    if leader_start < 0 || leader_end < 0 {
        return Step::Pause;
    }
    match resolve_out_of_range(partition.log().log_end_offset(), leader_start, leader_end) {
        OutOfRange::StartAt(offset) => Step::Cut(Cut::StartAt(offset)),
        OutOfRange::TruncateTo(offset) => Step::Cut(Cut::To(offset)),
        // Its position was right by then: the leader's log moved between two looks at it.
        OutOfRange::FetchAgain => Step::Pause,
    }
}
