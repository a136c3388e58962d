//! A transactional pipeline (read, process, write) and groups of both protocols on three nodes, while brokers are killed that coordinate them or
//! lead their partitions: at each step of a transaction, and each record is in the output exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use esker_protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use esker_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::heartbeat::HeartbeatRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use esker_protocol::primitives::Str;
use esker_protocol::records::{BatchBuilder, Batches};
use esker_protocol::{Request, decode_response, encode_request};
use esker_tests::cluster::{find, free_addresses};
use esker_tests::topics::{create_by, new_topic};
use esker_tests::{Esker, PATIENCE};

mod pipeline;

use pipeline::*;

const NODES: usize = 3;
const INPUT: (&str, i32) = ("in", 2);
const OUTPUT: (&str, i32) = ("out", 3);
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
/// Records of each input partition.
const RECORDS: i64 = 60;
/// Records of each input partition that one transaction reads.
const AT_ONCE: usize = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Members may be silent for so long: they go on once in a round only.
const SESSION_MS: i32 = 600_000;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Three nodes that form one cluster.
struct Nodes {
    dir: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    running: Vec<Option<Esker>>,
}

impl Nodes {
    fn start() -> Self {
        let addresses = free_addresses(NODES);
        let mut nodes = Self { dir: tempfile::tempdir().unwrap(), addresses, running: Vec::new() };
        let started = std::thread::scope(|scope| {
            let nodes = &nodes;
            let starts: Vec<_> = (0..NODES).map(|at| scope.spawn(move || nodes.spawn(at))).collect();
            starts.into_iter().map(|start| Some(start.join().unwrap())).collect()
        });
        nodes.running = started;
        nodes
    }

    fn spawn(&self, at: usize) -> Esker {
        let join = self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let listen = self.addresses[at].to_string();
        let one_partition =
            ["--set", "offsets.topic.num.partitions=1", "--set", "transaction.state.log.num.partitions=1"];
        let fast = ["--set", "group.initial.rebalance.delay.ms=0"];
        let timeout = format!("group.consumer.session.timeout.ms={SESSION_MS}");
        let longest = format!("group.consumer.max.session.timeout.ms={SESSION_MS}");
        let patient = ["--set", &timeout, "--set", &longest];
        let listener = ["--listen", &listen, "--join", &join];
        let flags = [&listener[..], &one_partition[..], &fast[..], &patient[..]].concat();
        Esker::start_with(&self.dir.path().join(at.to_string()), &flags)
    }

    /// kill -9; returns which node it was.
    fn kill(&mut self, address: SocketAddr) -> usize {
        let at = self.addresses.iter().position(|known| *known == address).expect("a node listens there");
        self.running[at].take().expect("it runs").kill();
        at
    }
}

/// Connections of one client. A failure is an error that the caller retries on.
struct Client {
    addresses: Vec<SocketAddr>,
    open: BTreeMap<SocketAddr, TcpStream>,
}

impl Client {
    fn send<R: Request>(&mut self, address: SocketAddr, version: i16, request: &R) -> io::Result<TcpStream> {
        let stream = match self.open.remove(&address) {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&address, ANSWER)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER))?;
                stream
            }
        };
        let frame = encode_request(version, 1, Some("test".into()), request).unwrap().into_bytes();
        (&stream).write_all(&frame)?;
        Ok(stream)
    }

    fn ask<R: Request>(&mut self, address: SocketAddr, version: i16, request: &R) -> io::Result<R::Response> {
        let mut stream = self.send(address, version, request)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        stream.read_exact(&mut frame)?;
        self.open.insert(address, stream);
        Ok(decode_response::<R>(version, frame.into()).unwrap().1)
    }

    /// The first answer of any node.
    fn ask_any<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.addresses.clone().into_iter().find_map(|address| self.ask(address, version, request).ok())
    }

    fn metadata(&mut self) -> Option<MetadataResponse> {
        self.ask_any(12, &MetadataRequest { topics: None, ..MetadataRequest::default() })
    }

    fn leader(&mut self, topic: &str, partition: i32) -> Option<SocketAddr> {
        let metadata = self.metadata()?;
        let found = metadata.topics.iter().find(|known| known.name.as_deref() == Some(topic))?;
        let leader = found.partitions.iter().find(|known| known.partition_index == partition)?.leader_id;
        let broker = metadata.brokers.iter().find(|broker| broker.node_id == leader)?;
        format!("{}:{}", broker.host, broker.port).parse().ok()
    }

    fn coordinator(&mut self, key_type: i8, key: &str) -> Option<SocketAddr> {
        let keys = vec![Str::copy(key)];
        let request = FindCoordinatorRequest { key_type, coordinator_keys: keys, ..FindCoordinatorRequest::default() };
        let found = self.ask_any(4, &request)?.coordinators.remove(0);
        let address = format!("{}:{}", found.host, found.port);
        if found.error_code.is_error() { None } else { address.parse().ok() }
    }

    /// Asks a coordinator, wherever it is by then, until the answer is final.
    fn coordinated<R: Request>(
        &mut self,
        (key_type, key): (i8, &str),
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ErrorCode> {
        let name = R::SCHEMA.name;
        let mut last = None;
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "{name} is not answered; the last code is {last:?}");
            if let Some(address) = self.coordinator(key_type, key)
                && let Ok(answer) = self.ask(address, version, request)
            {
                let code = code(&answer);
                last = Some(code);
                match code {
                    ErrorCode::NONE => return Ok(answer),
                    code if !is_retriable(code) => return Err(code),
                    _ => {}
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Offsets that a group has committed for the input; those of open transactions are waited for.
    fn committed(&mut self, group: &'static str) -> Vec<i64> {
        let topic = OffsetFetchRequestTopic { name: INPUT.0.into(), partition_indexes: (0..INPUT.1).collect() };
        let request = OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![topic]),
            require_stable: true,
            ..OffsetFetchRequest::default()
        };
        let code = |answer: &<OffsetFetchRequest as Request>::Response| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = partitions.map(|partition| partition.error_code);
            codes.find(|code| code.is_error()).unwrap_or(answer.error_code)
        };
        let answer = self.coordinated((GROUP, group), 7, &request, code).unwrap();
        answer.topics[0].partitions.iter().map(|partition| partition.committed_offset).collect()
    }

    /// Reads a partition from `offset`, as a `read_committed` consumer.
    fn fetch(&mut self, topic: &'static str, partition: i32, offset: i64) -> PartitionData {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let wanted = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() };
        let request =
            FetchRequest { max_bytes: 1 << 20, isolation_level: 1, topics: vec![wanted], ..FetchRequest::default() };
        find("records of a partition", || {
            let address = self.leader(topic, partition)?;
            let mut answer = self.ask(address, 12, &request).ok()?;
            let data = answer.responses.pop()?.partitions.pop()?;
            (!data.error_code.is_error()).then_some(data)
        })
    }

    /// Appends one batch until it is acknowledged.
    fn produce(
        &mut self,
        id: Option<&'static str>,
        version: i16,
        (topic, partition): (&'static str, i32),
        batch: &Bytes,
    ) -> Result<(), ErrorCode> {
        let data = PartitionProduceData { index: partition, records: Some(batch.clone()) };
        let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..TopicProduceData::default() };
        let transactional_id = id.map(Into::into);
        let request = ProduceRequest { transactional_id, acks: -1, timeout_ms: 3_000, topic_data: vec![data] };
        find("an acknowledgement", || {
            let address = self.leader(topic, partition)?;
            let answer = self.ask(address, version, &request).ok()?;
            match answer.responses[0].partition_responses[0].error_code {
                ErrorCode::NONE => Some(Ok(())),
                code if is_retriable(code) => None,
                code => Some(Err(code)),
            }
        })
    }
}

fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::UNSTABLE_OFFSET_COMMIT
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::KAFKA_STORAGE_ERROR
    )
}

fn batch(values: &[i64], (id, epoch): (i64, i16), sequence: i32, is_transactional: bool) -> Bytes {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(id, epoch, sequence).transactional(is_transactional);
    for (offset, value) in (0..).zip(values) {
        builder.append(offset, 1_700_000_000_000, None, Some(value.to_string().as_bytes()), &[]);
    }
    builder.build().unwrap()
}

/// Offsets and values of what a `read_committed` consumer sees of an answer; and the offset behind all of it.
fn visible(data: PartitionData) -> (Vec<(i64, i64)>, i64) {
    let mut aborted: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for one in data.aborted_transactions.unwrap_or_default() {
        aborted.entry(one.producer_id).or_default().insert(one.first_offset);
    }
    let (mut open, mut seen, mut end) = (BTreeSet::new(), Vec::new(), -1);
    for batch in Batches::new(data.records.unwrap_or_default()).map(Result::unwrap) {
        let header = &batch.header;
        end = header.base_offset + i64::from(header.last_offset_delta) + 1;
        if header.attributes.is_control() {
            open.remove(&header.producer_id);
            continue;
        }
        if aborted.get(&header.producer_id).is_some_and(|starts| starts.contains(&header.base_offset)) {
            open.insert(header.producer_id);
        }
        if header.attributes.is_transactional() && open.contains(&header.producer_id) {
            continue;
        }
        for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
            let value = record.value.unwrap();
            seen.push((record.offset, std::str::from_utf8(&value).unwrap().parse().unwrap()));
        }
    }
    (seen, end)
}

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Produced,
    OffsetsCommitted,
    /// EndTxn is sent, and its answer is not read.
    EndSent,
    /// EndTxn is answered; markers may be on their way.
    Ended,
}

/// A member of a group of each protocol: they go on in the generation and the member epoch that they have.
struct Members {
    client: Client,
    classic: (Str, i32),
    member_epoch: i32,
    committed: i64,
}

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

impl Members {
    fn join(mut client: Client) -> Self {
        let join = |client: &mut Client, member_id: Str| {
            let protocol = JoinGroupRequestProtocol { name: "range".into(), ..JoinGroupRequestProtocol::default() };
            let request = JoinGroupRequest {
                group_id: CLASSIC.into(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: 60_000,
                member_id,
                protocol_type: "consumer".into(),
                protocols: vec![protocol],
                ..JoinGroupRequest::default()
            };
            client.coordinated((GROUP, CLASSIC), 7, &request, |answer| match answer.error_code {
                ErrorCode::MEMBER_ID_REQUIRED => ErrorCode::NONE,
                code => code,
            })
        };
        let member_id = join(&mut client, Str::default()).unwrap().member_id;
        let generation = join(&mut client, member_id.clone()).unwrap().generation_id;
        let assignment = SyncGroupRequestAssignment { member_id: member_id.clone(), assignment: "all".into() };
        let request = SyncGroupRequest {
            group_id: CLASSIC.into(),
            generation_id: generation,
            member_id: member_id.clone(),
            assignments: vec![assignment],
            ..SyncGroupRequest::default()
        };
        client.coordinated((GROUP, CLASSIC), 3, &request, |answer| answer.error_code).unwrap();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: CONSUMER.into(),
            member_id: "m".into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![INPUT.0.into()]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let member_epoch =
            client.coordinated((GROUP, CONSUMER), 1, &request, |answer| answer.error_code).unwrap().member_epoch;
        Self { client, classic: (member_id, generation), member_epoch, committed: 0 }
    }

    fn go_on(&mut self) {
        let (member_id, generation_id) = self.classic.clone();
        let request = HeartbeatRequest {
            group_id: CLASSIC.into(),
            generation_id,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        };
        self.client.coordinated((GROUP, CLASSIC), 3, &request, |answer| answer.error_code).unwrap();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: CONSUMER.into(),
            member_id: "m".into(),
            member_epoch: self.member_epoch,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = self.client.coordinated((GROUP, CONSUMER), 1, &request, |answer| answer.error_code).unwrap();
        assert_eq!(answer.member_epoch, self.member_epoch, "the group did not rebalance");
        assert_eq!(self.client.committed(CLASSIC)[0], if self.committed == 0 { -1 } else { self.committed });
        self.committed += 1;
        self.commit(CLASSIC, member_id, generation_id);
        self.commit(CONSUMER, "m".into(), self.member_epoch);
        for group in [CLASSIC, CONSUMER] {
            assert_eq!(self.client.committed(group)[0], self.committed, "{group}");
        }
    }

    fn commit(&mut self, group: &'static str, member_id: Str, generation: i32) {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: self.committed,
            ..OffsetCommitRequestPartition::default()
        };
        let topic =
            OffsetCommitRequestTopic { name: INPUT.0.into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: generation,
            member_id,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let version = if group == CONSUMER { 9 } else { 7 };
        let code = |answer: &<OffsetCommitRequest as Request>::Response| answer.topics[0].partitions[0].error_code;
        self.client.coordinated((GROUP, group), version, &request, code).unwrap();
    }
}

/// Creates the topics and fills the input.
fn prepare(client: &mut Client) {
    find("three brokers", || client.metadata().filter(|metadata| metadata.brokers.len() == NODES));
    let addresses = client.addresses.clone();
    for (name, partitions) in [INPUT, OUTPUT] {
        let topic = new_topic(name, partitions, NODES as i16, &[]);
        let code = create_by(topic, |sent, request| client.ask(addresses[sent % NODES], 5, request).ok());
        assert_eq!(code, ErrorCode::NONE, "{name}");
    }
    // An idempotent producer: what is sent again because its answer was lost is there once.
    let producer = find("a producer id", || {
        let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let answer = client.ask_any(4, &request)?;
        (!answer.error_code.is_error()).then_some((answer.producer_id, answer.producer_epoch))
    });
    for partition in 0..INPUT.1 {
        let values: Vec<i64> = (0..RECORDS).map(|at| at * i64::from(INPUT.1) + i64::from(partition)).collect();
        client.produce(None, 9, (INPUT.0, partition), &batch(&values, producer, 0, false)).unwrap();
    }
    find("coordinators", || client.coordinator(GROUP, PIPELINE_GROUP).and(client.coordinator(TRANSACTION, ID)));
    find("all topics", || client.metadata().filter(|metadata| metadata.topics.len() == 4));
    wait_in_sync(client);
}

/// All partitions, those of coordinators too, have three replicas in sync.
fn wait_in_sync(client: &mut Client) {
    find("three replicas in sync", || {
        let metadata = client.metadata()?;
        let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let mut short = partitions.filter(|partition| partition.isr_nodes.len() < NODES || partition.leader_id < 0);
        (metadata.topics.iter().filter(|t| t.name.as_deref().is_some_and(|name| INTERNAL.contains(&name))).count() == 2
            && short.next().is_none())
        .then_some(())
    });
}

/// Which broker is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    TransactionCoordinator,
    GroupCoordinator,
    OutputLeader,
}

impl Victim {
    fn address(self, client: &mut Client) -> SocketAddr {
        find("the victim", || match self {
            Self::TransactionCoordinator => client.coordinator(TRANSACTION, ID),
            Self::GroupCoordinator => client.coordinator(GROUP, PIPELINE_GROUP),
            Self::OutputLeader => client.leader(OUTPUT.0, 0),
        })
    }
}

/// The values that consumers see in the output, once no transaction is open.
fn output(client: &mut Client) -> Vec<i64> {
    let mut values = Vec::new();
    for partition in 0..OUTPUT.1 {
        let mut offset = 0;
        find("the end of all transactions", || {
            let data = client.fetch(OUTPUT.0, partition, offset);
            let (stable, high_watermark) = (data.last_stable_offset, data.high_watermark);
            let (seen, end) = visible(data);
            values.extend(seen.into_iter().filter(|(at, _)| *at >= offset).map(|(_, value)| value));
            offset = offset.max(end);
            (stable == high_watermark && offset == high_watermark).then_some(())
        });
    }
    values.sort_unstable();
    values
}

#[test]
fn a_pipeline_is_exactly_once_while_its_brokers_are_killed() {
    let mut nodes = Nodes::start();
    let client = || Client { addresses: nodes.addresses.clone(), open: BTreeMap::new() };
    let mut observer = client();
    prepare(&mut observer);
    let mut members = Members::join(client());
    members.go_on();
    let mut pipeline =
        Pipeline { client: client(), v2: true, producer: (-1, -1), sequences: BTreeMap::new(), restarts: 0 };
    let rounds = [
        (true, Step::Produced, Victim::TransactionCoordinator),
        (true, Step::EndSent, Victim::TransactionCoordinator),
        (false, Step::Ended, Victim::TransactionCoordinator),
        (false, Step::Produced, Victim::GroupCoordinator),
        (true, Step::OffsetsCommitted, Victim::GroupCoordinator),
        (true, Step::Ended, Victim::OutputLeader),
    ];
    for (v2, step, victim) in rounds {
        let began = Instant::now();
        pipeline.v2 = v2;
        pipeline.init();
        assert!(pipeline.process(true, |_, _| {}) > 0);
        pipeline.process(false, |_, _| {});
        let mut killed = None;
        let count = pipeline.process(true, |at, client| {
            if at == step && killed.is_none() {
                let address = victim.address(client);
                killed = Some(nodes.kill(address));
            }
        });
        // What this transaction wrote is committed, and the next one goes on behind it.
        assert!(count > 0 && pipeline.process(true, |_, _| {}) > 0);
        members.go_on();
        let failed_over = began.elapsed();
        let at = killed.expect("a broker was killed");
        nodes.running[at] = Some(nodes.spawn(at));
        wait_in_sync(&mut observer);
        eprintln!("{victim:?} at {step:?}, v2 {v2}: {failed_over:?}, restarted after {:?}", began.elapsed());
    }
    while pipeline.process(true, |_, _| {}) > 0 {}
    members.go_on();
    assert_eq!(output(&mut observer), (0..RECORDS * i64::from(INPUT.1)).collect::<Vec<_>>());
    assert_eq!(observer.committed(PIPELINE_GROUP), vec![RECORDS; INPUT.1 as usize]);
    eprintln!("transactions that were given up: {}", pipeline.restarts);
}
