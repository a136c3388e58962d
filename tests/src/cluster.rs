//! Several real `esker` processes that form one cluster, each of which can be killed, stopped, paused and restarted by itself.
//!
//! Nodes are counted from 0 here; their node ids are the cluster's choice. Must never: wait for a time instead of a condition.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use esker_client::{Client, ClientConfig};
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, PartitionDataResult, TopicData};
use esker_protocol::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use esker_protocol::records::Batches;

use crate::wire::Wire;
use crate::{Esker, PATIENCE, binary, clear_environment, metric_in, own_host};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);
/// Voters of the metadata quorum in a cluster that has as many nodes (`controller.quorum.size`).
const VOTERS: usize = 3;
/// The disk of [`Cluster::start_with_breaking_disk`].
const BREAKING: u64 = 64 << 20;
/// How long one answer may take: longer than a broker waits for a change, and may stand still meanwhile. What has no answer by then may be done.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// Flags with which no broker is fenced, and no leader moves, because a process stands still for a while. A broker that dies is fenced at once
/// all the same.
pub const STEADY: [&str; 2] = ["--set", "broker.session.timeout.ms=30000"];

/// Waits until `condition` is met.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    find(what, || condition().then_some(()));
}

/// Waits until `look` finds something.
pub fn find<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it never came: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// One node: its place, and its process while it runs.
#[derive(Debug)]
struct Member {
    data: PathBuf,
    address: SocketAddr,
    http: SocketAddr,
    process: Option<Esker>,
    paused: bool,
}

/// See the module. All processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    join: String,
    /// More flags of each node; of one that is added later, those of the first.
    flags: Vec<Vec<String>>,
    /// Each node has two log dirs; the second of node 0 lies on a disk of so many bytes that can be broken.
    breaking: Option<u64>,
}

impl Cluster {
    /// Starts `count` nodes at once, each with the addresses of all as its `--join` list, and waits until each is ready.
    pub fn start(count: usize) -> Self {
        Self::start_after(&vec![Duration::ZERO; count], &[])
    }

    /// As [`Cluster::start`], with [`STEADY`].
    pub fn start_steady(count: usize) -> Self {
        Self::start_after(&vec![Duration::ZERO; count], &STEADY)
    }

    /// Starts one node for each delay, after that delay, with more flags of `esker serve`.
    pub fn start_after(delays: &[Duration], flags: &[&str]) -> Self {
        Self::start_nodes(delays, &vec![flags; delays.len()], None)
    }

    /// Starts one node for each list of more flags of `esker serve`.
    pub fn start_with(flags: &[&[&str]]) -> Self {
        Self::start_nodes(&vec![Duration::ZERO; flags.len()], flags, None)
    }

    /// Starts three nodes with two log dirs each, `good` and `bad`: [`Cluster::break_disk`] breaks the second of node 0. `None` where no
    /// file system can be mounted.
    pub fn start_with_breaking_disk() -> Option<Self> {
        let probe = tempfile::tempdir().expect("a temporary folder");
        Esker::on_breaking_disk(probe.path(), BREAKING)?;
        Some(Self::start_nodes(&[Duration::ZERO; 3], &[&STEADY as &[&str]; 3], Some(BREAKING)))
    }

    /// The second log dir of node 0 fails from here on.
    pub fn break_disk(&self) {
        self.node(0).break_disk(self.data(0));
    }

    /// The places of nodes, none of which is started, one for each list of more flags of `esker serve`.
    fn prepare(flags: &[&[&str]], breaking: Option<u64>) -> Self {
        let count = flags.len();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let addresses = free_addresses(2 * count);
        let (kafka, http) = addresses.split_at(count);
        let member = |(at, (address, http)): (usize, (&SocketAddr, &SocketAddr))| Member {
            data: dir.path().join(at.to_string()),
            address: *address,
            http: *http,
            process: None,
            paused: false,
        };
        let members: Vec<Member> = kafka.iter().zip(http).enumerate().map(member).collect();
        let join = members.iter().map(|member| member.address.to_string()).collect::<Vec<_>>().join(",");
        let owned = |flags: &&[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        let flags = flags.iter().map(owned).collect();
        Self { dir, members, join, flags, breaking }
    }

    /// Starts all nodes but the last, looks at what they do without it, and starts the last. Returns when all are ready.
    pub fn start_with_the_last_late(count: usize, look: impl FnOnce(&Self)) -> Self {
        let mut cluster = Self::prepare(&vec![[].as_slice(); count], None);
        let (started, looked) = std::thread::scope(|scope| {
            let cluster = &cluster;
            let start = |at| scope.spawn(move || cluster.spawn(at, &cluster.join, &[]));
            let mut starts: Vec<_> = (0..count - 1).map(start).collect();
            // The nodes become ready only with the last one: it is started also where the look failed.
            let looked = catch_unwind(AssertUnwindSafe(|| look(cluster)));
            starts.push(start(count - 1));
            let started = starts.into_iter().map(|start| start.join().expect("the node is ready"));
            (started.collect::<Vec<Esker>>(), looked)
        });
        for (member, process) in cluster.members.iter_mut().zip(started) {
            member.process = Some(process);
        }
        if let Err(failure) = looked {
            resume_unwind(failure);
        }
        cluster.wait_for_voters();
        cluster
    }

    fn start_nodes(delays: &[Duration], flags: &[&[&str]], breaking: Option<u64>) -> Self {
        let mut cluster = Self::prepare(flags, breaking);
        let started: Vec<Esker> = std::thread::scope(|scope| {
            let cluster = &cluster;
            let start = |(at, delay): (usize, &Duration)| {
                let delay = *delay;
                scope.spawn(move || {
                    std::thread::sleep(delay);
                    cluster.spawn(at, &cluster.join, &[])
                })
            };
            let starts: Vec<_> = delays.iter().enumerate().map(start).collect();
            starts.into_iter().map(|start| start.join().expect("the node is ready")).collect()
        });
        for (member, process) in cluster.members.iter_mut().zip(started) {
            member.process = Some(process);
        }
        cluster.wait_for_voters();
        cluster
    }

    /// Starts one more node, with only these addresses to join; returns its place.
    pub fn add(&mut self, join: &str) -> usize {
        let data = self.dir.path().join(self.members.len().to_string());
        let addresses = free_addresses(2);
        let (address, http) = (addresses[0], addresses[1]);
        self.members.push(Member { data, address, http, process: None, paused: false });
        let at = self.members.len() - 1;
        self.members[at].process = Some(self.spawn(at, join, &[]));
        at
    }

    fn spawn(&self, at: usize, join: &str, flags: &[&str]) -> Esker {
        let arguments = self.arguments(at, join, flags);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match self.breaking.filter(|_| at == 0) {
            Some(bytes) => Esker::spawn_on_breaking_disk(self.data(at), bytes, &arguments).expect("it can be mounted"),
            None => Esker::spawn(&arguments),
        }
    }

    fn arguments(&self, at: usize, join: &str, flags: &[&str]) -> Vec<String> {
        let member = &self.members[at];
        let (data, listen) = (member.data.display().to_string(), member.address.to_string());
        let http = member.http.to_string();
        let mut arguments: Vec<String> =
            ["serve", "--listen", &listen, "--http", &http, "--join", join].map(str::to_owned).into();
        arguments.extend(match self.breaking {
            None => ["--data-dir".to_owned(), data],
            Some(_) => ["--set".to_owned(), format!("log.dirs={data}/good,{data}/bad")],
        });
        arguments.extend(self.flags.get(at).or(self.flags.first()).into_iter().flatten().cloned());
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        arguments
    }

    /// A node that runs.
    pub fn node(&self, at: usize) -> &Esker {
        self.members[at].process.as_ref().expect("the node runs")
    }

    /// The id that the node said it has.
    pub fn node_id(&self, at: usize) -> i32 {
        self.node(at).ready_field("node").parse().expect("a node id")
    }

    /// The node with this id.
    pub fn index_of(&self, node_id: i32) -> usize {
        self.place_of(node_id).unwrap_or_else(|| panic!("node {node_id} does not run"))
    }

    /// The node with this id, if it runs.
    fn place_of(&self, node_id: i32) -> Option<usize> {
        let is_it = |at: &usize| self.members[*at].process.is_some() && self.node_id(*at) == node_id;
        (0..self.members.len()).find(is_it)
    }

    /// Where a node listens, whether it runs or not.
    pub fn address(&self, at: usize) -> SocketAddr {
        self.members[at].address
    }

    /// Where a node's HTTP listens, whether it runs or not.
    pub fn http(&self, at: usize) -> SocketAddr {
        self.members[at].http
    }

    /// Where all nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// The data folder of a node.
    pub fn data(&self, at: usize) -> &Path {
        &self.members[at].data
    }

    /// kill -9.
    pub fn kill(&mut self, at: usize) {
        self.members[at].paused = false;
        self.members[at].process.take().expect("the node runs").kill();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self, at: usize) -> ExitStatus {
        self.members[at].process.take().expect("the node runs").terminate()
    }

    /// SIGSTOP, and waits until no thread of the node runs.
    pub fn pause(&mut self, at: usize) {
        self.node(at).signal("STOP");
        let tasks = PathBuf::from(format!("/proc/{}/task", self.node(at).pid()));
        wait_until("all threads stand still", || all_stopped(&tasks));
        self.members[at].paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self, at: usize) {
        self.node(at).signal("CONT");
        self.members[at].paused = false;
    }

    /// Two nodes, which must not run, get each other's addresses.
    pub fn swap_addresses(&mut self, one: usize, other: usize) {
        let old = [one, other].map(|at| (self.members[at].address, self.members[at].http));
        for (at, (address, http)) in [(one, old[1]), (other, old[0])] {
            let member = &mut self.members[at];
            assert!(member.process.is_none(), "node {at} runs");
            (member.address, member.http) = (address, http);
        }
    }

    /// A node, which must not run, gets addresses that it did not have.
    pub fn move_node(&mut self, at: usize) {
        let addresses = free_addresses(2);
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "node {at} runs");
        (member.address, member.http) = (addresses[0], addresses[1]);
    }

    /// Starts a node again on the folder that it left.
    pub fn restart(&mut self, at: usize) {
        self.members[at].process = Some(self.spawn(at, &self.join, &[]));
    }

    /// As [`Cluster::restart`], with more flags of `esker serve`.
    pub fn restart_with(&mut self, at: usize, flags: &[&str]) {
        self.members[at].process = Some(self.spawn(at, &self.join, flags));
    }

    /// Starts a node that must end by itself, with more flags; returns what it wrote to standard error.
    pub fn refused(&self, at: usize, flags: &[&str]) -> String {
        let arguments = self.arguments(at, &self.join, flags);
        run_to_end(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The answer of the first node that gives one.
    pub fn ask<R: Request>(&self, version: i16, request: &R) -> Option<R::Response> {
        self.live().find_map(|at| Wire::new(self.address(at), ANSWER).ask(version, request).ok())
    }

    /// The answer of one node: of those that live, the one whose turn it is.
    pub fn ask_one<R: Request>(&self, turn: usize, version: i16, request: &R) -> Option<R::Response> {
        let live: Vec<usize> = self.live().collect();
        Wire::new(self.address(live[turn % live.len()]), ANSWER).ask(version, request).ok()
    }

    /// Asks one node after the other until an answer is final: for what may be done twice.
    pub fn insist<R: Request>(
        &self,
        version: i16,
        request: &R,
        is_final: impl Fn(&R::Response) -> bool,
    ) -> R::Response {
        let mut turn = 0;
        find(&format!("a final answer to {}", R::SCHEMA.name), || {
            let answer = self.ask_one(turn, version, request);
            turn += 1;
            answer.filter(&is_final)
        })
    }

    /// Nodes that run and are not paused.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.process.is_some() && !member.paused)
            .map(|(at, _)| at)
    }

    /// The active controller.
    pub fn controller(&self) -> usize {
        self.index_of(self.quorum().leader_id)
    }

    /// Waits until the metadata quorum has all its voters. Nodes are ready before they vote, and until the change is committed a cluster
    /// cannot do without its first node.
    pub fn wait_for_voters(&self) {
        if self.members.len() < VOTERS {
            return;
        }
        wait_until("nodes have become voters", || {
            self.live().any(|at| {
                let scrape = self.node(at).http_get("/metrics");
                let raft = |name: &str| metric_in(&scrape, &format!("esker_raft_{name}"));
                let is_committed = raft("members_changing") == 0.0 && raft("committed_entries") == raft("log_entries");
                raft("is_leader") == 1.0 && raft("voters") == VOTERS as f64 && is_committed
            })
        });
    }

    /// The metadata quorum as its leader knows it, once a node leads.
    pub fn quorum(&self) -> PartitionDataResult {
        let partition = PartitionData { partition_index: 0 };
        let topic = TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![partition] };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        find("a leader of the metadata quorum", || {
            let answer = self.ask(2, &request)?;
            let found = answer.topics.into_iter().next()?.partitions.into_iter().next()?;
            (found.leader_id >= 0).then_some(found)
        })
    }

    /// A topic as one of the nodes knows it.
    pub fn topic(&self, name: &str) -> Option<MetadataResponseTopic> {
        let answer = self.live().find_map(|at| Wire::new(self.address(at), ANSWER).metadata(name).ok())?;
        answer.topics.into_iter().next().filter(|topic| topic.error_code == ErrorCode::NONE)
    }

    /// The node that leads a partition, and runs: the node that is asked may not know yet that one has died.
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        find("a leader", || {
            let topic = self.topic(topic)?;
            let found = topic.partitions.iter().find(|found| found.partition_index == partition)?;
            self.place_of(found.leader_id)
        })
    }

    /// Waits until all replicas of all partitions are in sync, as each live node knows it.
    pub fn wait_in_sync(&self, topic: &str) {
        let is_whole = |p: &MetadataResponsePartition| p.leader_id >= 0 && p.isr_nodes.len() == p.replica_nodes.len();
        wait_until("all replicas are in sync", || {
            self.live().all(|at| {
                let answer = Wire::new(self.address(at), ANSWER).metadata(topic).ok();
                let topic = answer.and_then(|answer| answer.topics.into_iter().next());
                topic.is_some_and(|topic| !topic.partitions.is_empty() && topic.partitions.iter().all(is_whole))
            })
        });
    }

    /// A client that gives up on a dead broker soon.
    pub async fn client(&self) -> Client {
        let config = ClientConfig {
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(5),
            retry_backoff: Duration::from_millis(10),
            retry_backoff_max: Duration::from_millis(100),
            ..ClientConfig::new(&self.join)
        };
        Client::connect(config).await.expect("the cluster answers")
    }

    /// The batches of a partition on a node's disk that end before `end`, by base offset. The node must not run.
    pub fn batches(&self, at: usize, topic: &str, partition: i32, end: i64) -> BTreeMap<i64, Bytes> {
        assert!(self.members[at].process.is_none(), "the node still writes");
        let folder = self.data(at).join(format!("{topic}-{partition}"));
        let mut batches = BTreeMap::new();
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let file = Bytes::from(fs::read(&path).expect("a segment can be read"));
            let mut rest = file;
            while let Some((base, size)) = frame(&rest).filter(|(_, size)| *size <= rest.len()) {
                let bytes = rest.split_to(size);
                let batch = Batches::new(bytes.clone()).next().expect("one batch").expect("the batch can be read");
                if batch.header.last_offset() < end {
                    batches.insert(base, bytes);
                }
            }
        }
        batches
    }
}

/// Whether each thread of a process is stopped. The system stops one after the other, each when it is its turn to run.
fn all_stopped(tasks: &Path) -> bool {
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything; the state follows it.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    fs::read_dir(tasks).expect("the process is there").flatten().all(is_stopped)
}

/// Base offset and whole length of the batch that begins here; `None` in space that is reserved only.
fn frame(bytes: &[u8]) -> Option<(i64, usize)> {
    let base = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let length = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    (length > 0).then_some((base, 12 + usize::try_from(length).ok()?))
}

/// Runs `esker` with arguments that it must refuse; returns what it wrote to standard error.
pub fn run_to_end(arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    clear_environment(&mut command);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("esker starts");
    let until = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait().expect("its end can be awaited") {
            Some(status) => break Some(status),
            None if Instant::now() > until => break None,
            None => std::thread::sleep(PAUSE),
        }
    };
    let _ = child.kill();
    let mut log = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut log).expect("it is text");
    let _ = child.wait();
    let status = ended.unwrap_or_else(|| panic!("it does not end: {log}"));
    assert!(!status.success(), "it must fail: {log}");
    log
}

/// Addresses on which nothing listens, each on a host of its own: nobody else is given the port of a node that is down.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind((own_host(), 0)).expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}
