//! Flushes records that no request waits for, so that recovery after a crash has little to check.
//!
//! Under `durability=page-cache`, and for `acks=1`, no request needs a sync. In Kafka the recovery point does not move then until its
//! segment is full, and after a crash checks up to a segment of each partition, for minutes where there are many. Here
//! `log.recovery.max.bytes` bounds the bytes past the recovery points of all logs together. The flushed records are so old that the
//! kernel has mostly written them back already. One log is flushed at a time, apart from the flusher's rounds.
//!
//! Must never: take what was just appended (that would make the disk's pace that of the appends).

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::scope::Background;
use crate::replica::Partition;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Linux begins to write by itself what is older (`vm.dirty_expire_centisecs`).
const SETTLED: Duration = Duration::from_secs(30);
/// Logs with less are not worth a sync: checking it takes less.
const LEAST: u64 = 1 << 20;

/// Looks every few seconds, until it is dropped.
pub(super) async fn run(background: Background) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        run_pass(&background, SETTLED).await;
    }
}

async fn run_pass(background: &Background, settled: Duration) {
    let before = background.node.now_ms().saturating_sub(i64::try_from(settled.as_millis()).unwrap_or(i64::MAX));
    let unflushed = |partition: Arc<Partition>| {
        let (bytes, since) = partition.log().unflushed()?;
        Some((Unflushed { bytes, settled: since <= before }, partition))
    };
    let (sizes, logs): (Vec<_>, Vec<_>) = background.replicas.partitions().into_iter().filter_map(unflushed).unzip();
    for at in due(&sizes, background.node.config().recovery_max_bytes) {
        let Some(log) = logs.get(at).cloned() else { continue };
        if let Err(error) = background.node.run_blocking(move || flush(&log)).await {
            error!(%error, "a flush was cut short");
        }
    }
}

fn flush(partition: &Partition) {
    // Those before it took their time: it may be deleted by now.
    if partition.log().unflushed().is_some() {
        partition.flush();
    }
}

/// The part of a log past its recovery point.
#[derive(Debug, Clone, Copy)]
struct Unflushed {
    bytes: u64,
    /// The oldest of it, for long enough.
    settled: bool,
}

/// Which logs are to be flushed, the largest first, so that no more than `most` bytes are left; half of that, or it would soon be too
/// much again.
fn due(logs: &[Unflushed], most: u64) -> Vec<usize> {
    let mut left = logs.iter().fold(0_u64, |sum, log| sum.saturating_add(log.bytes));
    if left <= most {
        return Vec::new();
    }
    let least = LEAST.min(most / 16);
    let mut worth: Vec<(usize, u64)> =
        (0..).zip(logs).filter(|(_, log)| log.settled && log.bytes >= least).map(|(at, log)| (at, log.bytes)).collect();
    worth.sort_unstable_by_key(|(_, bytes)| Reverse(*bytes));
    let enough = |(_, bytes): &(usize, u64)| {
        let more = left > most / 2;
        left = left.saturating_sub(*bytes);
        more
    };
    worth.into_iter().take_while(enough).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use esker_protocol::compression::Compression;
    use esker_protocol::error::ErrorCode;
    use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
    use esker_protocol::records::BatchBuilder;

    use super::*;
    use crate::test_support::{Client, broker, create_topic_with};

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_largest_go_until_half_of_what_may_stay_is_left() {
        let log = |mib: u64, settled| Unflushed { bytes: mib * MIB, settled };
        let cases = [
            (vec![], 0, vec![]),
            (vec![log(10, true)], 10, vec![]),
            (vec![log(10, true), log(30, true), log(20, true)], 40, vec![1, 2]),
            (vec![log(10, true), log(30, false), log(20, true)], 40, vec![2, 0]),
            (vec![log(10, true), log(30, false)], 40, vec![]),
            (vec![log(10, true), log(31, false)], 40, vec![0]),
            (vec![Unflushed { bytes: MIB - 1, settled: true }; 100], 40, vec![]),
            (vec![Unflushed { bytes: 1, settled: true }], 0, vec![0]),
        ];
        for (logs, most, expected) in cases {
            assert_eq!(due(&logs, most * MIB), expected, "{logs:?} {most}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_nobody_waits_for_goes_to_disk_when_it_is_too_much() {
        let (running, _dir) = broker(&[("log.durability", "page-cache"), ("log.recovery.max.bytes", "5000")]).await;
        let mut client = Client::to(&running).await;
        for topic in ["large", "small"] {
            create_topic_with(&mut client, topic, &[]).await;
        }
        let mut append = async |topic: &'static str, bytes: usize| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(0, 1_700_000_000_000, None, Some(&vec![1; bytes]), &[]);
            let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
            let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
            let request =
                ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
            let answer = client.ask(9, &request).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
        };
        let log =
            |topic: &str| running.broker.replicas.partitions().into_iter().find(|p| p.topic() == topic).unwrap().log();
        let background = running.broker.background();
        append("large", 4000).await;
        run_pass(&background, Duration::ZERO).await;
        assert_eq!(log("large").recovery_point(), 0, "not too much");
        append("small", 1000).await;
        run_pass(&background, Duration::from_secs(60)).await;
        assert_eq!(log("large").recovery_point(), 0, "too new");
        run_pass(&background, Duration::ZERO).await;
        assert_eq!((log("large").recovery_point(), log("small").recovery_point()), (1, 0));
        assert_eq!(log("large").unflushed(), None);
        assert!(log("small").unflushed().unwrap().0 > 1000);
        append("large", 4500).await;
        run_pass(&background, Duration::ZERO).await;
        assert_eq!((log("large").recovery_point(), log("small").recovery_point()), (2, 0));
        running.stop().await.unwrap();
    }
}
