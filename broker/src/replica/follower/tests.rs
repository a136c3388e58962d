//! Leaders and followers together: commits, the ISR, divergence, and logs that begin later.

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use esker_core::metadata::{BrokerChangeRecord, BrokerRecord, MetadataRecord, PartitionChangeRecord};
use esker_core::replication::wire::{ReplicaFetchPartition, ReplicaFetchRequest, ReplicaFetchTopic};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::handlers::delete_records::DeleteRecords;
use crate::handlers::handler::{Handler, Staged};
use crate::handlers::peer::{read_for_follower, record_ends, replica_fetch};
use crate::replica::isr_requests::IsrRequests;
use crate::replica::partition::Partition;
use cluster::{TOPIC, bytes_of, cluster, partition, produce, records, topic, until};

fn image(configs: &[(&'static str, &'static str)], partitions: &[MetadataRecord]) -> Vec<MetadataRecord> {
    [topic(configs), partitions.to_vec()].concat()
}

fn sorted(mut isr: Vec<i32>) -> Vec<i32> {
    isr.sort_unstable();
    isr
}

async fn until_equal(what: &str, leader: &Arc<Partition>, follower: &Arc<Partition>) {
    let ends = |partition: &Partition| (partition.log().log_start_offset(), partition.log().log_end_offset());
    until(what, || ends(leader) == ends(follower)).await;
    assert_eq!(bytes_of(leader), bytes_of(follower), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_with_all_acks_waits_for_the_follower() {
    for durability in ["flush", "page-cache"] {
        let net = cluster(2, &[]).await;
        net.change(&image(&[("durability", durability)], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
        let (leader, follower) = (net.partition(1, 0), net.partition(2, 0));
        let (gate, _pending) = produce(&leader, records(3, 1));
        gate.wait().await;
        assert_eq!(follower.log().log_end_offset(), 3, "{durability}: it is acknowledged, and the follower has it");
        assert_eq!(follower.log().durable_offset() == 3, durability == "flush", "flushed there only if that counts");

        net.cut(1, 2);
        let (gate, _pending) = produce(&leader, records(1, 2));
        until("the leader's own flush", || leader.log().durable_offset() == 4 || durability != "flush").await;
        assert!(!gate.is_open() && leader.log().high_watermark() == 3, "the follower lacks it");
        net.heal();
        gate.wait().await;
        until_equal("the same log", &leader, &follower).await;
        // The high watermark comes with an answer, at the latest at the end of a long poll.
        until("its high watermark", || follower.log().high_watermark() == 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stops_leaves_the_isr_and_comes_back() {
    // A follower that is stalled for so long leaves, too, and is added behind the others when it runs again: what counts is where the ISR ends up
    // once all that can have all that there is.
    let net = cluster(3, &[("replica.lag.time.max.ms", "100")]).await;
    let isr = || sorted(net.isr());
    net.change(&image(&[], &[partition(0, &[1, 2, 3], &[1, 2, 3], (1, 0))])).await;
    let leader = net.partition(1, 0);
    let (gate, _pending) = produce(&leader, records(1, 1));
    gate.wait().await;
    until("all are in sync", || isr() == [1, 2, 3]).await;
    net.cut(1, 3);
    let (gate, _pending) = produce(&leader, records(1, 2));
    until("it leaves", || isr() == [1, 2]).await;
    gate.wait().await;
    assert_eq!(net.partition(3, 0).log().log_end_offset(), 1);

    net.heal();
    until("it joins again", || isr() == [1, 2, 3]).await;
    until_equal("the same log", &leader, &net.partition(3, 0)).await;
    assert_eq!(net.proposals.lock().last().cloned().map(sorted), Some(vec![1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_of_an_old_leader_is_cut_by_epochs() {
    let net = cluster(2, &[]).await;
    // Broker 3 is in sync and never fetches: the high watermark stays at 0.
    net.change(&image(&[], &[partition(0, &[1, 2, 3], &[1, 2, 3], (1, 0))])).await;
    let (one, two) = (net.partition(1, 0), net.partition(2, 0));
    drop(produce(&one, records(2, 1)));
    until("both have it", || two.log().log_end_offset() == 2).await;
    net.cut(1, 2);
    net.deafen(1);
    net.change(&[partition(0, &[1, 2, 3], &[2], (2, 1))]).await;
    let (unacknowledged, _pending) = produce(&one, records(4, 2));
    let (gate, _pending) = produce(&two, records(1, 3));
    gate.wait().await;
    drop(produce(&two, records(2, 4)));
    net.requests.lock().clear();
    net.undeafen().await;
    net.heal();
    until_equal("the same log", &two, &one).await;
    assert_eq!(one.log().log_end_offset(), 5);
    unacknowledged.wait().await;
    // Those of the other broker are from before the cut, in which one may have been under way.
    let requests = net.requests.lock().clone();
    let offsets: Vec<i64> = requests.into_iter().filter(|(from, _)| *from == 1).flat_map(|(_, of)| of).collect();
    assert_eq!(offsets.first(), Some(&6), "it reports its own end first");
    assert!(offsets.iter().all(|offset| *offset >= 2), "what both have is never cut: {offsets:?}");
    until("it is in sync again", || net.isr() == [2, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_start_of_the_leader_is_followed() {
    let net = cluster(2, &[("replica.fetch.wait.max.ms", "50")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
    let (leader, follower) = (net.partition(1, 0), net.partition(2, 0));
    for _ in 0..3 {
        produce(&leader, records(2, 1)).0.wait().await;
    }
    leader.delete_records(4).unwrap();
    until("it follows", || follower.log().log_start_offset() == 4).await;
    until_equal("the same log", &leader, &follower).await;
}

/// Sends a DeleteRecords of partition 0 to broker 1; returns its answer.
fn delete_records(net: &cluster::Net, offset: i64, timeout_ms: i32) -> impl Future<Output = (i64, ErrorCode)> + use<> {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let staged = DeleteRecords::handle(net.context_of(1), DeleteRecordsRequest { topics, timeout_ms });
    async move {
        let answer = match staged {
            Staged::Ready(answer) => answer,
            Staged::Parked(_, answer) => answer.await,
            _ => panic!("no answer"),
        };
        let result = answer.topics[0].partitions[0].clone();
        (result.low_watermark, result.error_code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_durable_on_all_replicas_before_it_is_answered() {
    // Nothing waits for the end of a long poll: the partition is idle.
    let net = cluster(3, &[("replica.fetch.wait.max.ms", "20000")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2, 3], &[1, 2, 3], (1, 0))])).await;
    let leader = net.partition(1, 0);
    for _ in 0..3 {
        produce(&leader, records(2, 1)).0.wait().await;
    }
    for offset in [1, 3, 4, 6] {
        let began = Instant::now();
        assert_eq!(delete_records(&net, offset, 60_000).await, (offset, ErrorCode::NONE));
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        for broker in 1..=3 {
            let log = net.partition(broker, 0).log();
            assert_eq!((log.log_start_offset(), log.saved_start_offset()), (offset, offset), "broker {broker}");
        }
    }
    assert_eq!(leader.pending_deletions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_a_follower_until_its_broker_is_fenced() {
    let net = cluster(3, &[("replica.lag.time.max.ms", "3600000")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2, 3], &[1, 2, 3], (1, 0))])).await;
    let leader = net.partition(1, 0);
    produce(&leader, records(4, 1)).0.wait().await;
    assert_eq!(delete_records(&net, 1, 60_000).await, (1, ErrorCode::NONE));
    net.cut(1, 3);
    assert_eq!(delete_records(&net, 2, 300).await, (1, ErrorCode::REQUEST_TIMED_OUT));
    let waiting = tokio::spawn(delete_records(&net, 3, 60_000));
    until("it waits", || leader.pending_deletions() == 1).await;
    until("the other follower has deleted", || net.partition(2, 0).log().log_start_offset() == 3).await;
    let left = PartitionChangeRecord { topic_id: TOPIC, isr: Some(vec![1, 2]), ..PartitionChangeRecord::default() };
    net.change(&[MetadataRecord::PartitionChange(left)]).await;
    assert!(!waiting.is_finished(), "its broker is alive");
    let fenced = BrokerChangeRecord { node_id: 3, epoch: 30, fenced: 1, ..BrokerChangeRecord::default() };
    net.change(&[MetadataRecord::BrokerChange(fenced)]).await;
    assert_eq!(waiting.await.unwrap(), (3, ErrorCode::NONE));

    // It joins the ISR without the deleted records only.
    net.heal();
    let live = BrokerChangeRecord { node_id: 3, epoch: 30, fenced: -1, ..BrokerChangeRecord::default() };
    net.change(&[MetadataRecord::BrokerChange(live)]).await;
    until("it is in sync again", || sorted(net.isr()) == [1, 2, 3]).await;
    assert_eq!(net.partition(3, 0).log().saved_start_offset(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_log_start_begins_there() {
    // Also where the log start lies within a batch.
    for start in [6, 7] {
        let net = cluster(2, &[]).await;
        net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
        let (leader, follower) = (net.partition(1, 0), net.partition(2, 0));
        produce(&leader, records(3, 1)).0.wait().await;
        net.cut(1, 2);
        net.change(&[partition(0, &[1, 2], &[1], (1, 1))]).await;
        for fill in 2..5 {
            produce(&leader, records(3, fill)).0.wait().await;
        }
        leader.delete_records(start).unwrap();
        net.heal();
        until_equal("the same log", &leader, &follower).await;
        assert_eq!(follower.log().log_start_offset(), start);
        until("it is in sync again", || net.isr() == [1, 2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_does_not_wait_for_the_end_of_a_long_poll() {
    // A long poll is far longer than this test.
    let net = cluster(2, &[("replica.fetch.wait.max.ms", "3600000")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
    produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    for index in 1..4 {
        net.change(&[partition(index, &[1, 2], &[1, 2], (1, 0))]).await;
        produce(&net.partition(1, index), records(1, 1)).0.wait().await;
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    }
    let named: usize = net.requests.lock().iter().map(|(_, offsets)| offsets.len()).sum();
    assert!(named < 30, "incremental requests name what moved: {named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_in_error_does_not_stop_the_others() {
    let net = cluster(2, &[("replica.fetch.wait.max.ms", "50")]).await;
    let partitions = [partition(0, &[1, 2], &[1, 2], (1, 0)), partition(1, &[1, 2], &[1, 2], (1, 0))];
    net.change(&image(&[], &partitions)).await;
    produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    // The follower learns of a new leadership before the leader does.
    net.deafen(1);
    net.change(&[partition(1, &[1, 2], &[1, 2], (1, 1))]).await;
    for _ in 0..5 {
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    }
    net.undeafen().await;
    produce(&net.partition(1, 1), records(1, 1)).0.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_registers_again_rejoins_the_isr_of_an_idle_partition() {
    let net = cluster(2, &[("replica.fetch.wait.max.ms", "50")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
    produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    let broker = net.context_of(1).broker;
    until("the follower has a session", || broker.follower_sessions.counts().0 == 1).await;
    // It is unregistered and registers between two of its fetches, so no fetch is refused.
    let removed = PartitionChangeRecord { topic_id: TOPIC, isr: Some(vec![1]), ..PartitionChangeRecord::default() };
    let registered = BrokerRecord { node_id: 2, epoch: 30, ..BrokerRecord::default() };
    net.change(&[MetadataRecord::PartitionChange(removed), MetadataRecord::Broker(registered)]).await;
    until("it is in sync again", || net.isr() == [1, 2]).await;
}

/// The leader comes to know of a broker that was fenced for a moment only when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_fenced_and_back_in_one_image_rejoins_the_isr_of_an_idle_partition() {
    let net = cluster(3, &[("replica.lag.time.max.ms", "3600000")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2, 3], &[1, 2, 3], (1, 0))])).await;
    produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    let broker = net.context_of(1).broker;
    until("the followers have sessions", || broker.follower_sessions.counts().0 == 2).await;
    net.deafen(1);
    let left = PartitionChangeRecord { topic_id: TOPIC, isr: Some(vec![1, 2]), ..PartitionChangeRecord::default() };
    let change = |fenced| BrokerChangeRecord { node_id: 3, epoch: 30, fenced, ..BrokerChangeRecord::default() };
    net.change(&[MetadataRecord::PartitionChange(left), MetadataRecord::BrokerChange(change(1))]).await;
    net.change(&[MetadataRecord::BrokerChange(change(-1))]).await;
    net.undeafen().await;
    until("it is in sync again", || sorted(net.isr()) == [1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_take_no_fetch_session_from_followers() {
    let net = cluster(2, &[("max.incremental.fetch.session.cache.slots", "0")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
    produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    let broker = net.context_of(1).broker;
    until("the follower has a session", || broker.follower_sessions.counts().0 == 1).await;
    assert_eq!(broker.fetch_sessions.counts().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_incarnation_is_refused() {
    let net = cluster(2, &[]).await;
    for (replica_id, broker_epoch) in [(2, 19), (2, -1), (9, 20), (-1, -1)] {
        let request = ReplicaFetchRequest { replica_id, broker_epoch, ..ReplicaFetchRequest::default() };
        let Staged::Ready(answer) = replica_fetch(net.context_of(1), request) else { panic!() };
        assert_eq!(answer.error_code, ErrorCode::STALE_BROKER_EPOCH, "{replica_id} {broker_epoch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_did_not_count_is_no_success_though_the_leader_learns_of_its_epoch_before_the_read() {
    let net = cluster(2, &[("replica.fetch.wait.max.ms", "50")]).await;
    net.change(&image(&[], &[partition(0, &[1, 2], &[1, 2], (1, 0))])).await;
    net.cut(1, 2);
    net.deafen(1);
    net.change(&[partition(0, &[1, 2], &[1], (1, 1))]).await;
    let named = ReplicaFetchPartition {
        current_leader_epoch: 1,
        flushed_offset: 0,
        last_fetched_epoch: -1,
        log_start_offset: 0,
        partition_max_bytes: 1,
        ..Default::default()
    };
    let request = ReplicaFetchRequest {
        replica_id: 2,
        broker_epoch: 20,
        topics: vec![ReplicaFetchTopic { topic_id: TOPIC, partitions: vec![named] }],
        ..Default::default()
    };
    let uncounted = record_ends(&net.context_of(1), &request);
    net.undeafen().await;
    let Staged::Ready(answer) = read_for_follower(net.context_of(1), request.clone(), uncounted) else { panic!() };
    // The follower names the partition again after an error alone.
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    let Staged::Ready(answer) = replica_fetch(net.context_of(1), request) else { panic!() };
    assert!(answer.responses.iter().flat_map(|topic| &topic.partitions).all(|data| !data.error_code.is_error()));
    until("its report counts", || sorted(net.isr()) == [1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_left_in_the_queue_of_isr_requests_wake_it_again() {
    let net = cluster(1, &[]).await;
    net.change(&image(&[], &[partition(0, &[1], &[1], (1, 0)), partition(1, &[1], &[1], (1, 0))])).await;
    let requests = IsrRequests::default();
    requests.extend([net.partition(1, 0), net.partition(1, 1)]);
    for left in [1, 0] {
        tokio::time::timeout(Duration::from_secs(60), requests.notified()).await.expect("partitions wait");
        assert_eq!(requests.take_partitions(1).len(), 1, "{left} left");
    }
    assert!(requests.notified().now_or_never().is_none(), "the queue is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_catches_up_little_by_little_while_producers_wait_for_its_broker() {
    const MOST: i32 = 2 << 20;
    // They wait for what broker 2 follows, or for what it leads.
    for (beside, leader) in [(0, 1), (2, 2)] {
        let net = cluster(2, &[("replica.fetch.max.bytes", &MOST.to_string())]).await;
        net.cut(1, 2);
        let partitions = [
            partition(0, &[1, 2], &[1, 2], (1, 0)),
            partition(1, &[1, 2], &[1], (1, 0)),
            partition(2, &[2], &[2], (2, 0)),
        ];
        net.change(&image(&[("durability", "flush")], &partitions)).await;
        let far = net.partition(1, 1);
        let batch = records(3000, 1);
        for _ in 0..32 {
            produce(&far, batch.clone()).0.wait().await;
        }
        net.limits.lock().clear();
        let is_in_sync = || far.role().is_in_sync(2);
        net.heal();
        while !is_in_sync() {
            produce(&net.partition(leader, beside), records(1, 1)).0.wait().await;
        }
        let limits = net.limits.lock().clone();
        let small = limits.iter().filter(|(index, bytes)| *index == 1 && *bytes < MOST / 2).count();
        assert!(small > 3, "beside partition {beside}: {limits:?}");
        until_equal("the same log", &far, &net.partition(2, 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_little_behind_joins_beside_one_that_is_far_behind() {
    let net = cluster(2, &[]).await;
    let near = |index| partition(index, &[1, 2], &[1], (1, 0));
    let partitions = [partition(0, &[1, 2], &[1, 2], (1, 0)), near(1), near(2), near(3)];
    net.cut(1, 2);
    net.change(&image(&[("durability", "flush")], &partitions)).await;
    let batch = records(3000, 1);
    for _ in 0..64 {
        produce(&net.partition(1, 1), batch.clone()).0.wait().await;
    }
    // Idle, and written to.
    produce(&net.partition(1, 2), records(1, 1)).0.wait().await;
    net.heal();
    while !net.partition(1, 2).role().is_in_sync(2) || !net.partition(1, 3).role().is_in_sync(2) {
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
        produce(&net.partition(1, 3), records(1, 1)).0.wait().await;
    }
    while !net.partition(1, 1).role().is_in_sync(2) {
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_producers_come_to_need_while_it_catches_up_joins() {
    let net = cluster(3, &[]).await;
    net.cut(1, 2);
    let partitions = [partition(0, &[1, 2], &[1, 2], (1, 0)), partition(1, &[1, 2, 3], &[1, 3], (1, 0))];
    net.change(&image(&[("durability", "flush"), ("min.insync.replicas", "2")], &partitions)).await;
    let (leader, follower, batch) = (net.partition(1, 1), net.partition(2, 1), records(3000, 1));
    for _ in 0..64 {
        produce(&leader, batch.clone()).0.wait().await;
    }
    net.heal();
    while follower.log().log_end_offset() < 64 * 1000 {
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    }
    assert!(follower.log().log_end_offset() < leader.log().log_end_offset(), "it catches up");
    net.cut(1, 3);
    let left =
        PartitionChangeRecord { topic_id: TOPIC, partition: 1, isr: Some(vec![1]), ..PartitionChangeRecord::default() };
    net.change(&[MetadataRecord::PartitionChange(left)]).await;
    while !leader.role().is_in_sync(2) {
        produce(&net.partition(1, 0), records(1, 1)).0.wait().await;
    }
    net.heal();
    produce(&leader, records(1, 2)).0.wait().await;
}
