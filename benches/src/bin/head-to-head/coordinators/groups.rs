//! Groups by the protocol of KIP-848.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::primitives::Str;
use parking_lot::Mutex;

use super::{Figure, quantile, wait_for_coordinator};
use crate::peers::Broker;
use crate::{Result, load};
use esker_benches::client::Connection;

/// Connections that the members of many groups share.
const CONNECTIONS: usize = 1000;
/// A commit of each member so often, and a heartbeat with every third.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Members of a large group ask again after so long, and at once when they were given something else.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// One member: what it knows, it knows from answers.
#[derive(Debug, Clone)]
struct Member {
    group: Str,
    id: Str,
    topic: Str,
    epoch: i32,
    owned: Option<Vec<TopicPartitions>>,
}

impl Member {
    fn new(group: String, id: String, topic: &str) -> Self {
        Self { group: Str::copy(&group), id: Str::copy(&id), topic: Str::copy(topic), epoch: 0, owned: None }
    }

    /// Whether it was given something else than it had.
    fn heartbeat(&mut self, connection: &mut Connection) -> Result<bool> {
        let joins = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { 300_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![self.topic.clone()]),
            topic_partitions: if joins { Some(Vec::new()) } else { self.owned.clone() },
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = connection.call(1, &request)?;
        match answer.error_code {
            ErrorCode::NONE => {}
            code if code.is_retriable() => return Ok(true),
            code => return Err(format!("heartbeat of {}: {code:?} {:?}", self.id, answer.error_message).into()),
        }
        self.epoch = answer.member_epoch;
        let Some(given) = answer.assignment else { return Ok(false) };
        let given = given.topic_partitions.into_iter();
        self.owned = Some(given.map(|t| TopicPartitions { topic_id: t.topic_id, partitions: t.partitions }).collect());
        Ok(true)
    }

    fn partitions(&self) -> impl Iterator<Item = i32> {
        self.owned.iter().flatten().flat_map(|topic| &topic.partitions).copied()
    }

    fn commit(&self, connection: &mut Connection, offset: i64) -> Result<()> {
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..OffsetCommitRequestPartition::default()
        };
        let partitions = self.partitions().map(partition).collect();
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.epoch,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitRequestTopic { name: self.topic.clone(), partitions, ..Default::default() }],
            ..OffsetCommitRequest::default()
        };
        for partition in connection.call(9, &request)?.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != ErrorCode::NONE {
                return Err(format!("commit of {}: {:?}", self.id, partition.error_code).into());
            }
        }
        Ok(())
    }
}

/// All come at once; until each has its partition, nobody has two, and all are at one epoch.
pub(super) fn one_large(broker: &Broker, members: usize) -> Result<Vec<Figure>> {
    let topic = "large-group";
    load::create_topic(broker.address, topic, i32::try_from(members)?)?;
    wait_for_coordinator(broker, 0)?;
    let threads = members.div_ceil(10).min(100);
    let states = Mutex::new(vec![None; members]);
    let start = Instant::now();
    let cpu = broker.cpu_seconds()?;
    let stable = |states: &[Option<Member>]| {
        let known: Vec<&Member> = states.iter().flatten().collect();
        let owned: Vec<i32> = known.iter().flat_map(|member| member.partitions()).collect();
        let epochs: BTreeSet<i32> = known.iter().map(|member| member.epoch).collect();
        let distinct: BTreeSet<i32> = owned.iter().copied().collect();
        known.len() == members && epochs.len() == 1 && owned.len() == members && distinct.len() == members
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let took = std::thread::scope(|scope| {
        let (states, done) = (&states, &done);
        let mut workers = Vec::new();
        for thread in 0..threads {
            workers.push(scope.spawn(move || -> Result<()> {
                let mut connection = Connection::open(broker.address)?;
                let numbers = (thread..members).step_by(threads);
                let new = |n: usize| (n, Member::new("large".into(), format!("member-{n:04}"), topic), start);
                let mut mine: Vec<_> = numbers.map(new).collect();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for (number, member, due) in &mut mine {
                        if Instant::now() < *due {
                            continue;
                        }
                        let changed = member.heartbeat(&mut connection)?;
                        *due = if changed { Instant::now() } else { Instant::now() + ASK_AGAIN };
                        if let Some(state) = states.lock().get_mut(*number) {
                            *state = Some(member.clone());
                        }
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }));
        }
        let deadline = start + Duration::from_secs(300);
        let took = loop {
            if stable(&states.lock()) {
                break Ok(start.elapsed());
            }
            if Instant::now() > deadline || workers.iter().any(|worker| worker.is_finished()) {
                break Err("the large group is not stable after 300 s");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| "a load thread panicked")??;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(took?)
    })?;
    Ok(vec![
        Figure::new(format!("{members} members in one group: until stable, s"), took.as_secs_f64(), 2),
        Figure::new("of it CPU, s", broker.cpu_seconds()? - cpu, 2),
    ])
}

/// Groups of two members with a partition each.
pub(super) fn many(broker: &Broker, groups: usize, time: Duration) -> Result<Vec<Figure>> {
    let topic = "small-groups";
    load::create_topic(broker.address, topic, 2)?;
    wait_for_coordinator(broker, 0)?;
    let connections = CONNECTIONS.min(groups);
    let ready = std::sync::Barrier::new(connections + 1);
    let (figures, mut times) = std::thread::scope(|scope| {
        let ready = &ready;
        let workers: Vec<_> = (0..connections)
            .map(|number| {
                let mine: Vec<usize> = (number..groups).step_by(connections).collect();
                // Groups know nothing of each other: their commits are spread over the second, not sent all at once.
                let phase = COMMIT_EVERY.mul_f64(number as f64 / groups as f64 / 2.0);
                scope.spawn(move || worker(broker, topic, &mine, ready, (phase, time)))
            })
            .collect();
        ready.wait();
        let (cpu, start) = (broker.cpu_seconds()?, Instant::now());
        std::thread::sleep(time);
        let cores = (broker.cpu_seconds()? - cpu) / start.elapsed().as_secs_f64();
        let memory = broker.memory()?.resident as f64 / f64::from(1 << 20);
        let mut times = Vec::new();
        for worker in workers {
            times.extend(worker.join().map_err(|_| "a load thread panicked")??);
        }
        let rate = times.len() as f64 / time.as_secs_f64();
        let figures = vec![
            Figure::new(format!("{groups} groups of 2: commits/s"), rate, 0),
            Figure::new("cores that they take", cores, 2),
            Figure::new("resident, MiB", memory, 0),
        ];
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((figures, times))
    })?;
    let latency = [
        Figure::new("a commit, p50 ms", quantile(&mut times, 0.5), 2),
        Figure::new("a commit, p99 ms", quantile(&mut times, 0.99), 2),
    ];
    Ok(figures.into_iter().chain(latency).collect())
}

/// Brings its groups to a stable assignment, waits for the others, then commits and beats at its pace, from its phase on.
fn worker(
    broker: &Broker,
    topic: &str,
    groups: &[usize],
    ready: &std::sync::Barrier,
    (phase, time): (Duration, Duration),
) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(broker.address)?;
    let pair =
        |group: &usize| [0, 1].map(|n| Member::new(format!("small-{group}"), format!("member-{group}-{n}"), topic));
    let mut members: Vec<Member> = groups.iter().flat_map(pair).collect();
    let joined = join_all(&mut connection, &mut members);
    ready.wait();
    joined?;
    let mut times = Vec::new();
    let (start, count) = (Instant::now(), members.len().max(1));
    for turn in 0_u32.. {
        let at = turn as usize % count;
        let round = turn as usize / count;
        let due = start + phase + COMMIT_EVERY.mul_f64(f64::from(turn) / count as f64);
        if due >= start + time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // As an operator would see it: what comes late has waited.
        if Instant::now() > start + time {
            break;
        }
        let Some(member) = members.get_mut(at) else { break };
        member.commit(&mut connection, round as i64)?;
        times.push(due.elapsed());
        if (round + at).is_multiple_of(3) {
            member.heartbeat(&mut connection)?;
        }
    }
    Ok(times)
}

fn join_all(connection: &mut Connection, members: &mut [Member]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        for member in members.iter_mut() {
            member.heartbeat(connection)?;
        }
        if members.iter().all(|member| member.epoch > 0 && member.partitions().count() == 1) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("groups of two are not stable after 300 s".into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
