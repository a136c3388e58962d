//! What a coordinator answers while the leadership of its partition begins or ends.

use std::sync::Arc;
use std::time::Duration;

use esker_core::internal_topics::OFFSETS_TOPIC;
use esker_core::replication::ReplicaEnds;
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};

use super::*;
use crate::replica::{Assignment, Partition, Role};

/// Only what a test does ends the wait for a commit.
const SETTINGS: &[(&str, &str)] = &[("offsets.topic.num.partitions", "1"), ("offsets.commit.timeout.ms", "3600000")];

/// A broker that coordinates group `g`, and the group's partition.
struct Coordinator {
    running: Running,
    _dir: tempfile::TempDir,
    partition: Arc<Partition>,
    client: Client,
}

impl Coordinator {
    async fn start() -> Self {
        let (running, dir) = broker(SETTINGS).await;
        let mut client = Client::to(&running).await;
        create_topic_with(&mut client, "t", &[]).await;
        let find = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
        while client.ask(1, &find).await.error_code.is_error() {}
        while client.ask(7, &commit(1)).await.topics[0].partitions[0].error_code.is_error() {}
        let partition = running.broker.replicas.partition(&TopicRef::by_name(&OFFSETS_TOPIC.into()), 0).unwrap();
        Self { running, _dir: dir, partition, client }
    }

    fn leader_epoch(&self) -> i32 {
        self.partition.role().assignment().unwrap().leader_epoch
    }

    /// Changes the role of the partition only: the coordinator learns of it later.
    fn set_role(&self, leader: i32, leader_epoch: i32, isr: &[i32]) {
        let settings = self.partition.role().settings().unwrap().clone();
        let own_id = self.running.broker.node_id;
        let replicas = vec![own_id, own_id + 1];
        let isr = isr.to_vec();
        let assignment = Assignment { leader, leader_epoch, replicas, isr, partition_epoch: i32::MAX };
        self.partition.set_role(Role::of(own_id, assignment, settings)).unwrap();
    }

    /// The follower reports that it has all that the log has, on its disk.
    fn report_follower(&self) {
        let end = self.partition.log().log_end_offset();
        let ends = ReplicaEnds { log_end: end, flushed: end };
        let follower = self.running.broker.node_id + 1;
        self.partition.update_follower(follower, self.leader_epoch(), ends).unwrap();
    }

    /// Code and offset of OffsetFetch.
    async fn fetched(&mut self) -> (ErrorCode, i64) {
        self.client.send(5, 7, &fetch()).await;
        self.receive_fetched().await
    }

    async fn receive_fetched(&mut self) -> (ErrorCode, i64) {
        let (_, answer) = self.client.answer::<OffsetFetchRequest>(5).await;
        let found = answer.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
        (answer.error_code, found)
    }
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it never came");
}

fn commit(committed_offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition { committed_offset, ..OffsetCommitRequestPartition::default() };
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..OffsetCommitRequest::default() }
}

fn fetch() -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_an_earlier_leadership_decides_nothing() {
    let mut at = Coordinator::start().await;
    let own_id = at.running.broker.node_id;
    let end = at.partition.log().log_end_offset();
    // It led, another broker did, and it leads again: the other one's records are not in its state.
    at.set_role(own_id, at.leader_epoch() + 2, &[own_id]);
    let code = at.client.ask(7, &commit(2)).await.topics[0].partitions[0].error_code;
    assert_eq!((code, at.partition.log().log_end_offset()), (ErrorCode::NOT_COORDINATOR, end));
    assert_eq!(at.fetched().await.0, ErrorCode::NOT_COORDINATOR, "nor is an answer given from it");
    at.running.broker.groups.add_shard(Arc::clone(&at.partition), at.leader_epoch());
    loop {
        match at.fetched().await {
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, _) => {}
            found => break assert_eq!(found, (ErrorCode::NONE, 1)),
        }
    }
    at.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_commit_another_leader_decides_is_not_coordinator() {
    let mut at = Coordinator::start().await;
    let own_id = at.running.broker.node_id;
    at.set_role(own_id, at.leader_epoch(), &[own_id, own_id + 1]);
    let end = at.partition.log().log_end_offset();
    at.client.send(7, 7, &commit(2)).await;
    until(|| at.partition.log().log_end_offset() > end && at.partition.pending_requests().1 > 0).await;
    at.set_role(own_id + 1, at.leader_epoch() + 1, &[own_id + 1]);
    let (_, answer) = at.client.answer::<OffsetCommitRequest>(7).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NOT_COORDINATOR);
    at.running.broker.groups.remove_shard(0);
    assert_eq!(at.fetched().await.0, ErrorCode::NOT_COORDINATOR);
    at.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_coordinator_answers_once_what_it_loaded_is_committed() {
    let mut at = Coordinator::start().await;
    let own_id = at.running.broker.node_id;
    at.set_role(own_id, at.leader_epoch(), &[own_id, own_id + 1]);
    at.report_follower();
    // Appended and not committed when the leadership ends; the next leader is this broker again, and has it in its log.
    at.client.send(7, 7, &commit(2)).await;
    until(|| at.partition.pending_requests().1 > 0).await;
    at.set_role(own_id, at.leader_epoch() + 1, &[own_id, own_id + 1]);
    let (_, answer) = at.client.answer::<OffsetCommitRequest>(7).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NOT_COORDINATOR);
    at.running.broker.groups.add_shard(Arc::clone(&at.partition), at.leader_epoch());
    until(|| at.running.broker.groups.shard_of(0).unwrap().state() == Some("active")).await;
    at.client.send(5, 7, &fetch()).await;
    until(|| at.partition.pending_requests().1 > 0).await;
    at.report_follower();
    assert_eq!(at.receive_fetched().await, (ErrorCode::NONE, 2));
    at.running.stop().await.unwrap();
}
