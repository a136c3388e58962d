//! A log dir of one broker fails: its replicas lead no more and are out of sync at once, and the broker's other log dir serves on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esker_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::history::{History, Send};
use esker_tests::wire::Wire;
use esker_tests::writer::PartitionWriter;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 8;
const ANSWER: Duration = Duration::from_secs(20);
/// Below what a lagging follower has (`replica.lag.time.max.ms`, 30 s), and above what a process may stand still.
const LONGEST_GAP: Duration = Duration::from_secs(15);
/// Records of each partition that are acknowledged before and after the failure.
const EACH: u64 = 30;

/// The partitions in one log dir of node 0.
fn partitions_in(cluster: &Cluster, dir: &Path) -> Vec<i32> {
    let mut wire = Wire::new(cluster.address(0), ANSWER);
    let dirs = wire.ask(4, &DescribeLogDirsRequest { topics: None }).unwrap().results;
    let found = dirs.iter().find(|found| *found.log_dir == *dir.to_str().unwrap()).unwrap();
    let topic = found.topics.iter().find(|topic| &*topic.name == TOPIC).unwrap();
    topic.partitions.iter().map(|partition| partition.partition_index).collect()
}

/// Writes to one partition until `over`; returns what was acknowledged, and the longest time between two acknowledgments.
fn write(cluster: &Cluster, partition: i32, count: &AtomicU64, over: &AtomicBool) -> (Vec<Send>, Duration) {
    let mut writer = PartitionWriter::new(TOPIC, partition, &cluster.addresses());
    let (mut value, mut gap) = (u64::try_from(partition).unwrap(), Duration::ZERO);
    let mut last = Instant::now();
    while !over.load(Ordering::Acquire) {
        writer.write(value);
        value += u64::try_from(PARTITIONS).unwrap();
        if count.fetch_add(1, Ordering::AcqRel) > 0 {
            gap = gap.max(last.elapsed());
        }
        last = Instant::now();
    }
    (writer.sends, gap)
}

#[test]
fn replicas_of_a_failed_log_dir_get_new_leaders_at_once() {
    let Some(cluster) = Cluster::start_with_breaking_disk() else {
        println!("left out: no file system can be mounted here");
        return;
    };
    cluster.create_topic(TOPIC, PARTITIONS, "flush");
    let own = cluster.node_id(0);
    let (in_good, in_bad) = (cluster.data(0).join("good"), cluster.data(0).join("bad"));
    let (spared, hit) = (partitions_in(&cluster, &in_good), partitions_in(&cluster, &in_bad));
    let leads = |partition: i32| cluster.leader(TOPIC, partition) == 0;
    let led = *hit.iter().find(|partition| leads(**partition)).unwrap();
    let followed = *hit.iter().find(|partition| !leads(**partition)).unwrap();
    let other = *spared.iter().find(|partition| leads(**partition)).unwrap();
    let (counts, over) = ([0; 3].map(AtomicU64::new), AtomicBool::new(false));
    let mut history = History::default();
    thread::scope(|scope| {
        let (cluster, over, counts) = (&cluster, &over, &counts);
        let start = |(partition, count)| scope.spawn(move || write(cluster, partition, count, over));
        let writers: Vec<_> = [led, followed, other].into_iter().zip(counts).map(start).collect();
        let more = |what: &str| {
            let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Acquire)).collect();
            wait_until(what, || counts.iter().zip(&before).all(|(count, n)| count.load(Ordering::Acquire) >= n + EACH));
        };
        more("records are acknowledged");
        cluster.break_disk();
        wait_until("the replicas in the failed log dir are out", || {
            let Some(topic) = cluster.topic(TOPIC) else { return false };
            let is_out = |index: &i32| {
                let p = topic.partitions.iter().find(|p| p.partition_index == *index).unwrap();
                p.leader_id >= 0 && p.leader_id != own && !p.isr_nodes.contains(&own) && p.offline_replicas == [own]
            };
            hit.iter().all(is_out)
        });
        more("records are acknowledged without the failed log dir");
        over.store(true, Ordering::Release);
        for (writer, what) in writers.into_iter().zip(["led", "followed", "spared"]) {
            let (sends, gap) = writer.join().unwrap();
            println!("{what}: {} records, longest gap {} ms", sends.len(), gap.as_millis());
            assert!(gap < LONGEST_GAP, "{what}: {gap:?}");
            history.sends.extend(sends);
        }
    });
    for partition in [led, followed, other] {
        history.last.insert(partition, cluster.read_all(TOPIC, partition).0);
    }
    assert_eq!(history.guilt(), []);
    wait_until("the replicas in the other log dir are in sync", || {
        let Some(topic) = cluster.topic(TOPIC) else { return false };
        let mut kept = topic.partitions.iter().filter(|p| spared.contains(&p.partition_index));
        kept.all(|p| p.isr_nodes.contains(&own) && p.offline_replicas.is_empty())
    });
    // A node that stood still for a moment was fenced, and has lost what it led.
    let was_fenced = cluster.live().any(|at| cluster.node(at).log().contains("a broker is fenced"));
    assert!(leads(other) || was_fenced, "the other log dir serves on");
    // New replicas go to the log dir that works.
    cluster.create_topic("new", 2, "flush");
    let created = find("the new topic", || cluster.topic("new"));
    assert_eq!(created.partitions.len(), 2);
}
