//! Partitions move between nodes (KIP-455) while clients write to them: the reassignment completes, is cancelled, and survives the death of any
//! node that takes part; leaders are elected on request.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use esker_protocol::messages::list_partition_reassignments::OngoingPartitionReassignment;
use esker_protocol::records::BatchBuilder;
use esker_tests::cluster::{Cluster, STEADY, find, wait_until};
use esker_tests::history::{History, Send};
use esker_tests::wire::{PRODUCE, Wire, produce_request, produced};
use esker_tests::writer::PartitionWriter;

pub(super) const TOPIC: &str = "t";
const ANSWER: Duration = Duration::from_secs(20);
/// The kinds of election.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// What a throttled reassignment has to copy.
pub(super) const BATCH: usize = 250_000;
pub(super) const BATCHES: u64 = 32;
/// Records of each partition that are acknowledged between two steps.
const EACH: u64 = 20;
/// Bytes a second: a copy takes some seconds, and almost nothing moves.
const SLOW: &str = "2000000";
pub(super) const STUCK: &str = "1000";

/// Writes to some partitions beside the test, each record until it is acknowledged.
pub(super) struct Writers<'a> {
    counts: &'a [AtomicU64],
}

impl Writers<'_> {
    /// Waits until some more records of each partition are acknowledged.
    pub(super) fn wait_for_records(&self) {
        let read = || self.counts.iter().map(|count| count.load(Ordering::Acquire)).collect::<Vec<_>>();
        let before = read();
        wait_until("records are acknowledged", || {
            read().iter().zip(&before).all(|(count, before)| *count >= before + EACH)
        });
    }
}

/// Writes to the first `partitions` partitions while `work` runs. All that was acknowledged must be there, once and in order.
pub(super) fn write_meanwhile(cluster: &mut Cluster, partitions: i32, work: impl FnOnce(&mut Cluster, &Writers<'_>)) {
    let over = AtomicBool::new(false);
    let counts: Vec<AtomicU64> = (0..partitions).map(|_| AtomicU64::new(0)).collect();
    let addresses = cluster.addresses();
    let write = |partition: i32, count: &AtomicU64| -> Vec<Send> {
        let mut writer = PartitionWriter::new(TOPIC, partition, &addresses);
        let mut value = u64::try_from(partition).unwrap();
        while !over.load(Ordering::Acquire) {
            writer.write(value);
            count.fetch_add(1, Ordering::AcqRel);
            value += u64::try_from(partitions).unwrap();
        }
        writer.sends
    };
    let sends = thread::scope(|scope| {
        let start = |partition: i32| {
            let (write, count) = (&write, &counts[usize::try_from(partition).unwrap()]);
            scope.spawn(move || write(partition, count))
        };
        let threads: Vec<_> = (0..partitions).map(start).collect();
        // The writers must end, also where the work fails.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let writers = Writers { counts: &counts };
            writers.wait_for_records();
            work(cluster, &writers);
            writers.wait_for_records();
        }));
        over.store(true, Ordering::Release);
        let sends: Vec<Send> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        if let Err(failure) = worked {
            std::panic::resume_unwind(failure);
        }
        sends
    });
    let last = (0..partitions).map(|partition| (partition, cluster.read_all(TOPIC, partition).0)).collect();
    assert_eq!(History { sends, last, ..History::default() }.guilt(), []);
}

/// Fills a partition with records that are no numbers.
pub(super) fn fill(cluster: &Cluster, topic: &str, partition: i32) {
    fill_with(cluster, topic, partition, BATCHES);
}

/// As [`fill`], with so many of its batches.
pub(super) fn fill_with(cluster: &Cluster, topic: &str, partition: i32, batches: u64) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1, None, Some(&vec![b'x'; BATCH]), &[]);
    let request = produce_request(topic, partition, -1, builder.build().unwrap());
    for _ in 0..batches {
        wait_until("a batch is acknowledged", || {
            let mut wire = Wire::new(cluster.address(cluster.leader(topic, partition)), ANSWER);
            let code =
                wire.ask(PRODUCE, &request).map_or(ErrorCode::NETWORK_EXCEPTION, |answer| produced(&answer).error_code);
            assert!(code == ErrorCode::NONE || code.is_retriable(), "{code}");
            code == ErrorCode::NONE
        });
    }
}

pub(super) fn ids<const N: usize>(cluster: &Cluster) -> [i32; N] {
    std::array::from_fn(|at| cluster.node_id(at))
}

/// Limits the copies of a partition to `rate` bytes a second on all nodes.
fn throttle(cluster: &Cluster, nodes: &[i32], partition: i32, rate: &str) {
    for node in nodes {
        for side in ["leader", "follower"] {
            cluster.set_config(4, &node.to_string(), &format!("{side}.replication.throttled.rate"), rate);
        }
    }
    let replicas = nodes.iter().map(|node| format!("{partition}:{node}")).collect::<Vec<_>>().join(",");
    for side in ["leader", "follower"] {
        cluster.set_config(2, TOPIC, &format!("{side}.replication.throttled.replicas"), &replicas);
    }
}

/// Whether a throttle of copies is left on a topic or a broker.
pub(super) fn is_throttled(cluster: &Cluster, topic: &str, node_id: i32) -> bool {
    [(2, topic.to_owned()), (4, node_id.to_string())].into_iter().any(|(kind, name)| {
        let configs = cluster.dynamic_configs(kind, &name);
        configs.iter().any(|name| name.contains("replication.throttled"))
    })
}

/// The reassignment of a partition, if all live nodes know the same reassignments.
fn ongoing(cluster: &Cluster, partition: i32) -> Option<OngoingPartitionReassignment> {
    let all = cluster.reassignments()?;
    all.into_iter().find(|(topic, found)| topic == TOPIC && found.partition_index == partition).map(|(_, found)| found)
}

/// The replicas as a live node knows them, and those in sync.
pub(super) fn replicas(cluster: &Cluster, topic: &str, partition: i32) -> Option<(Vec<i32>, Vec<i32>)> {
    let topic = cluster.topic(topic)?;
    let found = topic.partitions.into_iter().find(|found| found.partition_index == partition)?;
    let mut isr = found.isr_nodes;
    isr.sort_unstable();
    Some((found.replica_nodes, isr))
}

fn wait_for_replicas(cluster: &Cluster, partition: i32, expected: &[i32]) {
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    let mut last = None;
    wait_until(&format!("{TOPIC}-{partition} is on {expected:?}, in sync"), || {
        let found = replicas(cluster, TOPIC, partition);
        if found != last {
            eprintln!("{TOPIC}-{partition}: {found:?}");
            last = found.clone();
        }
        found.is_some_and(|(replicas, isr)| replicas == expected && isr == sorted)
    });
    wait_until("no node knows a reassignment of it", || {
        let all = cluster.reassignments();
        all.is_some_and(|all| all.iter().all(|(_, found)| found.partition_index != partition))
    });
}

/// Folders of a partition on a node's disk, those among them that are about to be deleted.
pub(super) fn folders(cluster: &Cluster, at: usize, partition: i32) -> Vec<PathBuf> {
    let is_of = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name == format!("{TOPIC}-{partition}") || name.starts_with(&format!("{TOPIC}-{partition}."))
    };
    fs::read_dir(cluster.data(at)).unwrap().map(|entry| entry.unwrap().path()).filter(is_of).collect()
}

pub(super) fn wait_for_removal(cluster: &Cluster, at: usize, partition: i32) {
    wait_until(&format!("node {at} has no log of {TOPIC}-{partition}"), || folders(cluster, at, partition).is_empty());
}

/// As [`wait_for_removal`], where the node may have been dead when the partition moved away: then it keeps a log that it does not use.
pub(super) fn wait_for_departure(cluster: &Cluster, at: usize, partition: i32) {
    wait_until(&format!("node {at} uses no log of {TOPIC}-{partition}"), || {
        folders(cluster, at, partition).iter().all(|folder| folder.to_string_lossy().ends_with("-stray"))
    });
}

/// Bytes of a partition on a node.
pub(super) fn size(cluster: &Cluster, at: usize, partition: i32) -> i64 {
    let answer = Wire::new(cluster.address(at), ANSWER).ask(4, &DescribeLogDirsRequest { topics: None });
    let topics = answer.into_iter().flat_map(|answer| answer.results).flat_map(|dir| dir.topics);
    let partitions = topics.filter(|topic| topic.name == TOPIC).flat_map(|topic| topic.partitions);
    partitions.filter(|found| found.partition_index == partition).map(|found| found.partition_size).sum()
}

pub(super) fn configs(delay: &'static str) -> [(&'static str, &'static str); 3] {
    [("min.insync.replicas", "1"), ("durability", "flush"), ("file.delete.delay.ms", delay)]
}

#[test]
fn partitions_move_under_writing_clients_and_leave_nothing_behind() {
    let mut cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[a, b], &[c, a]], &configs("100"));
    fill(&cluster, TOPIC, 2);
    write_meanwhile(&mut cluster, 2, |cluster, writers| {
        assert_eq!(
            cluster.reassign(TOPIC, &[(0, Some(&[b, c])), (1, Some(&[c])), (2, Some(&[b]))]),
            [ErrorCode::NONE; 3]
        );
        wait_for_replicas(cluster, 0, &[b, c]);
        wait_for_replicas(cluster, 1, &[c]);
        wait_for_replicas(cluster, 2, &[b]);
        writers.wait_for_records();
    });
    assert_eq!([0, 1, 2].map(|partition| cluster.leader(TOPIC, partition)), [1, 2, 1], "the first replica leads");
    for (at, partition) in [(0, 0), (0, 1), (1, 1), (2, 2), (0, 2)] {
        wait_for_removal(&cluster, at, partition);
    }
    // Back, and with more replicas: the nodes begin with an empty log again.
    assert_eq!(cluster.reassign(TOPIC, &[(0, Some(&[a, b, c])), (1, Some(&[a, b]))]), [ErrorCode::NONE; 2]);
    wait_for_replicas(&cluster, 0, &[a, b, c]);
    wait_for_replicas(&cluster, 1, &[a, b]);
    wait_for_removal(&cluster, 2, 1);
    let ends = [0, 1].map(|partition| cluster.high_watermark(TOPIC, partition));
    (0..3).for_each(|at| cluster.kill(at));
    super::assert_equal_replicas(&cluster, TOPIC, 0, ends[0]);
    super::assert_equal_batches(&cluster, &[0, 1], TOPIC, 1, ends[1]);
}

#[test]
fn a_cancelled_reassignment_leaves_the_partition_as_it_was() {
    let mut cluster = Cluster::start(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[a, b]], &configs("100"));
    fill(&cluster, TOPIC, 1);
    throttle(&cluster, &[a, b, c], 1, STUCK);
    write_meanwhile(&mut cluster, 1, |cluster, writers| {
        assert_eq!(cluster.reassign(TOPIC, &[(1, Some(&[c, b]))]), [ErrorCode::NONE]);
        let moving = find("every node knows it", || ongoing(cluster, 1));
        assert_eq!(
            (moving.replicas, moving.adding_replicas, moving.removing_replicas),
            (vec![c, b, a], vec![c], vec![a])
        );
        wait_until("the copy has begun", || size(cluster, 2, 1) > 0);
        writers.wait_for_records();
        assert_eq!(cluster.reassign(TOPIC, &[(1, None)]), [ErrorCode::NONE]);
        wait_until("it is on the replicas of before", || {
            replicas(cluster, TOPIC, 1).is_some_and(|(mut replicas, isr)| {
                replicas.sort_unstable();
                replicas == isr && isr == [a.min(b), a.max(b)]
            })
        });
        assert_eq!(cluster.reassign(TOPIC, &[(1, None)]), [ErrorCode::NO_REASSIGNMENT_IN_PROGRESS]);
    });
    wait_for_removal(&cluster, 2, 1);
}

/// The copy of partition 1 from its leader to `c` stands almost still, a node is killed in the middle, and restarted; then the copy goes on.
fn survive(victim: impl FnOnce(&Cluster) -> Roles) {
    let mut cluster = Cluster::start(3);
    let roles = victim(&cluster);
    let [leader, second, adding] = roles.nodes.map(|at| cluster.node_id(at));
    cluster.create_assigned(TOPIC, &[&[leader, second], &[leader, second]], &configs("100"));
    fill(&cluster, TOPIC, 1);
    throttle(&cluster, &[leader, second, adding], 1, STUCK);
    let at = roles.nodes[2];
    write_meanwhile(&mut cluster, 1, |cluster, writers| {
        assert_eq!(cluster.reassign(TOPIC, &[(1, Some(&[second, adding]))]), [ErrorCode::NONE]);
        wait_until("some of it is copied", || size(cluster, at, 1) > i64::try_from(BATCH).unwrap());
        find("every node knows it", || ongoing(cluster, 1));
        cluster.kill(roles.victim);
        writers.wait_for_records();
        cluster.restart(roles.victim);
        throttle(cluster, &[leader, second, adding], 1, SLOW);
        wait_for_replicas(cluster, 1, &[second, adding]);
    });
    cluster.wait_in_sync(TOPIC);
    wait_for_departure(&cluster, roles.nodes[0], 1);
    let end = cluster.high_watermark(TOPIC, 1);
    (0..3).for_each(|at| cluster.kill(at));
    super::assert_equal_batches(&cluster, &roles.nodes[1..], TOPIC, 1, end);
}

#[test]
fn a_log_that_moved_away_while_its_node_was_dead_is_kept_aside() {
    let mut cluster = Cluster::start_steady(3);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b], &[a, b]], &configs("100"));
    fill_with(&cluster, TOPIC, 0, 1);
    cluster.kill(0);
    assert_eq!(cluster.reassign(TOPIC, &[(0, Some(&[b, c]))]), [ErrorCode::NONE]);
    wait_for_replicas(&cluster, 0, &[b, c]);
    cluster.restart(0);
    cluster.wait_in_sync(TOPIC);
    let left = folders(&cluster, 0, 0);
    assert!(left.len() == 1 && left[0].to_string_lossy().ends_with("-stray"), "{left:?}");
    assert!(left[0].join("00000000000000000000.log").metadata().unwrap().len() > u64::try_from(BATCH).unwrap());
    assert_eq!((size(&cluster, 0, 0), folders(&cluster, 0, 1).len()), (0, 1));
    let log = cluster.node(0).log();
    assert!(log.contains("the partition is not assigned to this broker"), "{log}");
    // It comes back with an empty log.
    assert_eq!(cluster.reassign(TOPIC, &[(0, Some(&[a, b, c]))]), [ErrorCode::NONE]);
    wait_for_replicas(&cluster, 0, &[a, b, c]);
    assert_eq!(folders(&cluster, 0, 0).len(), 2);
}

/// Nodes by place: leader, second replica, the one that is added; and the one that is killed.
struct Roles {
    nodes: [usize; 3],
    victim: usize,
}

fn others(than: usize) -> [usize; 2] {
    [(than + 1) % 3, (than + 2) % 3]
}

#[test]
fn a_reassignment_survives_the_death_of_the_node_that_is_added() {
    survive(|cluster| {
        let controller = cluster.controller();
        let [adding, second] = others(controller);
        Roles { nodes: [controller, second, adding], victim: adding }
    });
}

#[test]
fn a_reassignment_survives_the_death_of_the_leader() {
    survive(|cluster| {
        let controller = cluster.controller();
        let [leader, adding] = others(controller);
        Roles { nodes: [leader, controller, adding], victim: leader }
    });
}

#[test]
fn a_reassignment_survives_the_death_of_the_active_controller() {
    survive(|cluster| {
        let controller = cluster.controller();
        let [leader, adding] = others(controller);
        Roles { nodes: [leader, controller, adding], victim: controller }
    });
}

#[test]
fn a_reassignment_survives_the_death_of_the_controller_that_is_added() {
    survive(|cluster| {
        let controller = cluster.controller();
        let [leader, second] = others(controller);
        Roles { nodes: [leader, second, controller], victim: controller }
    });
}

/// The leader of a partition as a live node knows it, -1 for none.
fn leader_id(cluster: &Cluster, partition: i32) -> Option<i32> {
    let topic = cluster.topic(TOPIC)?;
    topic.partitions.iter().find(|found| found.partition_index == partition).map(|found| found.leader_id)
}

/// Asks for an election until it is decided: with this code.
fn elect(cluster: &Cluster, kind: i8, topic: &'static str, partition: i32, expected: ErrorCode) {
    let topic_partitions = Some(vec![TopicPartitions { topic: topic.into(), partitions: vec![partition] }]);
    let request = ElectLeadersRequest { election_type: kind, topic_partitions, timeout_ms: 10_000 };
    let mut sent = 0;
    let code = find("an election is decided", || {
        let answer = cluster.ask_one(sent, 2, &request);
        sent += 1;
        let answer = answer?;
        assert!(answer.error_code == ErrorCode::NONE || answer.error_code.is_retriable(), "{answer:?}");
        let decided = &answer.replica_election_results[0].partition_result[0];
        (answer.error_code == ErrorCode::NONE).then_some(decided.error_code)
    });
    // One that timed out, or whose answer was lost, may have elected.
    let is_done = sent > 1 && expected == ErrorCode::NONE && code == ErrorCode::ELECTION_NOT_NEEDED;
    assert!(code == expected || is_done, "{topic}-{partition}: {code}, not {expected}");
}

#[test]
fn leaders_are_elected_on_request() {
    let flags = [&["--set", "auto.leader.rebalance.enable=false"][..], &STEADY[..]].concat();
    let mut cluster = Cluster::start_with(&[flags.as_slice(); 3]);
    let [a, b, c] = ids(&cluster);
    cluster.create_assigned(TOPIC, &[&[a, b, c], &[a, b, c]], &configs("60000"));
    assert_eq!(cluster.reassign(TOPIC, &[(1, Some(&[a, b]))]), [ErrorCode::NONE]);
    wait_for_replicas(&cluster, 1, &[a, b]);
    elect(&cluster, PREFERRED, TOPIC, 0, ErrorCode::ELECTION_NOT_NEEDED);
    elect(&cluster, PREFERRED, "none", 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    elect(&cluster, UNCLEAN, TOPIC, 1, ErrorCode::ELECTION_NOT_NEEDED);
    write_meanwhile(&mut cluster, 1, |cluster, writers| {
        cluster.kill(0);
        wait_until("another leads", || leader_id(cluster, 0).is_some_and(|leader| leader >= 0 && leader != a));
        elect(cluster, PREFERRED, TOPIC, 0, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE);
        cluster.restart(0);
        cluster.wait_in_sync(TOPIC);
        assert_ne!(cluster.leader(TOPIC, 0), 0, "leaders do not come back by themselves");
        writers.wait_for_records();
        elect(cluster, PREFERRED, TOPIC, 0, ErrorCode::NONE);
        wait_until("it leads again", || cluster.leader(TOPIC, 0) == 0);
    });
    // Of partition 1 the second replica misses much, and cannot catch up; then its leader dies.
    elect(&cluster, PREFERRED, TOPIC, 1, ErrorCode::NONE);
    cluster.kill(1);
    wait_until("it is out of sync", || replicas(&cluster, TOPIC, 1).is_some_and(|(_, isr)| isr == [a]));
    fill(&cluster, TOPIC, 1);
    throttle(&cluster, &[a, b], 1, STUCK);
    cluster.restart(1);
    cluster.kill(0);
    wait_until("none leads", || leader_id(&cluster, 1) == Some(-1));
    elect(&cluster, UNCLEAN, TOPIC, 1, ErrorCode::NONE);
    wait_until("the one that missed much leads", || cluster.leader(TOPIC, 1) == 1);
    cluster.restart(0);
    cluster.wait_in_sync(TOPIC);
}
