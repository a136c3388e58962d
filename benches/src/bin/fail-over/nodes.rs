//! Three nodes that run as one cluster, and what they say about themselves.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use esker_benches::Result;
use esker_protocol::Request;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionData, TopicData};
use esker_protocol::messages::elect_leaders::ElectLeadersRequest;
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Link;
use crate::network::Network;
use crate::peers::{Peer, Place};

/// Nodes of the cluster.
pub const NODES: usize = 3;
/// The topic that is written to.
pub const TOPIC: &str = "fail-over";
/// How long anything may take before this program gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// See the module. All processes are killed when it is dropped.
pub struct Nodes {
    peer: Peer,
    places: Vec<Place>,
    running: Vec<Option<Child>>,
    network: Option<Network>,
}

/// A partition of the topic, as one node knows it.
#[derive(Debug, Clone)]
pub struct PartitionState {
    /// The id of the node that leads, -1 for none.
    pub leader: i32,
    /// Ids of its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
}

impl Nodes {
    /// Starts a cluster on empty folders; with `cut`, on a network that can be cut.
    pub fn start(peer: &Peer, folder: &Path, cut: bool) -> Result<Self> {
        let network = if cut { Some(Network::new(NODES)?) } else { None };
        let ports = free_ports(2 * NODES)?;
        let place = |node: usize| Place {
            id: node + 1,
            host: network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |network| network.host(node)),
            port: ports.get(node).copied().unwrap_or_default(),
            controller_port: ports.get(NODES + node).copied().unwrap_or_default(),
            folder: folder.join(format!("node-{}", node + 1)),
        };
        let places: Vec<Place> = (0..NODES).map(place).collect();
        peer.format(&places)?;
        let mut nodes = Self { peer: peer.clone(), running: places.iter().map(|_| None).collect(), places, network };
        (0..NODES).try_for_each(|node| nodes.restart(node))?;
        until("three voters and three brokers", || {
            let brokers = nodes.metadata(None).is_some_and(|metadata| metadata.brokers.len() == NODES);
            brokers && nodes.quorum().is_some_and(|(leader, voters)| leader >= 0 && voters == NODES)
        })?;
        Ok(nodes)
    }

    /// Where all nodes listen.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.places.iter().map(|place| Ok(place.address().parse()?)).collect()
    }

    /// Starts a node on its folder.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        let place = self.places.get(node).ok_or("no such node")?;
        let child = self.peer.start(place, &self.places, self.network.as_ref())?;
        if let Some(slot) = self.running.get_mut(node) {
            *slot = Some(child);
        }
        Ok(())
    }

    /// Sends a signal to a node.
    pub fn signal(&self, node: usize, signal: Signal) -> Result<()> {
        let child = self.running.get(node).and_then(Option::as_ref).ok_or("the node does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).ok_or("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end of a node that was sent a signal.
    pub fn wait_for_end(&mut self, node: usize) -> Result<()> {
        let mut child = self.running.get_mut(node).and_then(Option::take).ok_or("the node does not run")?;
        let ended = until("the node ends", || matches!(child.try_wait(), Ok(Some(_))));
        if ended.is_err() {
            // It would outlive this program.
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    /// Cuts a node off the network, or connects it again.
    pub fn set_connected(&self, node: usize, connected: bool) -> Result<()> {
        self.network.as_ref().ok_or("the nodes have no network of their own")?.set_connected(node, connected)
    }

    /// The node that is the active controller.
    pub fn controller(&self) -> Result<usize> {
        let mut found = None;
        until("an active controller", || {
            found = self.quorum().and_then(|(leader, _)| usize::try_from(leader - 1).ok());
            found.is_some()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The leader of the metadata quorum, and how many voters there are.
    fn quorum(&self) -> Option<(i32, usize)> {
        let topic = TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![PartitionData { partition_index: 0 }],
        };
        let answer = self.ask(1, &DescribeQuorumRequest { topics: vec![topic] }, None)?;
        let partition = answer.topics.first()?.partitions.first()?;
        (partition.error_code == ErrorCode::NONE).then_some((partition.leader_id, partition.current_voters.len()))
    }

    fn ask<R: Request>(&self, version: i16, request: &R, except: Option<usize>) -> Option<R::Response> {
        let runs = |node: &usize| self.running.get(*node).is_some_and(Option::is_some) && Some(*node) != except;
        let addresses = (0..NODES).filter(runs).filter_map(|node| self.places.get(node)?.address().parse().ok());
        addresses.into_iter().find_map(|address| Link::new(address, ANSWER).call(version, request).ok())
    }

    fn metadata(&self, except: Option<usize>) -> Option<MetadataResponse> {
        self.ask(9, &metadata_request(), except)
    }

    /// Partitions of the topic, in order, as a node other than `except` knows them; empty where none answers.
    pub fn partitions(&self, except: Option<usize>) -> Vec<PartitionState> {
        let topic = self.metadata(except).and_then(|metadata| metadata.topics.into_iter().next());
        let mut partitions = topic.map(|topic| topic.partitions).unwrap_or_default();
        partitions.sort_by_key(|partition| partition.partition_index);
        let state = |p: esker_protocol::messages::metadata::MetadataResponsePartition| PartitionState {
            leader: p.leader_id,
            replicas: p.replica_nodes,
            isr: p.isr_nodes,
        };
        partitions.into_iter().map(state).collect()
    }

    /// Creates the topic, and waits until all replicas are in sync.
    pub fn create_topic(&self, partitions: i32, configs: &[(String, String)]) -> Result<()> {
        let minimum = ("min.insync.replicas".to_owned(), "2".to_owned());
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: name.clone().into(),
            value: Some(value.clone().into()),
        };
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: partitions,
            replication_factor: 3,
            configs: std::iter::once(&minimum).chain(configs).map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        let answer = self.ask(5, &request, None).ok_or("no node answers")?;
        let created = answer.topics.first().ok_or("no answer for the topic")?;
        if created.error_code.is_error() {
            return Err(
                format!("the topic is not created: {:?} {:?}", created.error_code, created.error_message).into()
            );
        }
        self.wait_in_sync(usize::try_from(partitions)?).map(drop)
    }

    /// Waits until every replica of every partition is in sync; returns how long that took.
    pub fn wait_in_sync(&self, partitions: usize) -> Result<Duration> {
        let began = Instant::now();
        until("all replicas are in sync", || {
            let found = self.partitions(None);
            found.len() == partitions && found.iter().all(|p| p.leader >= 0 && p.isr.len() == p.replicas.len())
        })?;
        Ok(began.elapsed())
    }

    /// Lets the preferred replicas lead, and waits until they do.
    pub fn elect_preferred(&self) -> Result<()> {
        let request = ElectLeadersRequest { election_type: 0, topic_partitions: None, timeout_ms: 10_000 };
        until("the preferred replicas lead", || {
            let leads = |p: &PartitionState| p.replicas.first() == Some(&p.leader);
            let partitions = self.partitions(None);
            if !partitions.is_empty() && partitions.iter().all(leads) {
                return true;
            }
            // The next look shows what became of it.
            let _ = self.ask(2, &request, None);
            false
        })
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // A paused process ends by SIGKILL, too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks for the topic.
pub fn metadata_request() -> MetadataRequest {
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..MetadataRequestTopic::default() };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..MetadataRequest::default() }
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("it did not come within {PATIENCE:?}: {what}").into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Ports below those of outgoing connections: a node that tries to reach a dead node must not be given the dead node's own port, which
/// would connect it to itself and keep the port from the restart.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held: Vec<TcpListener> = Vec::new();
    while held.len() < count {
        let any = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // It may be in use.
        held.extend(TcpListener::bind(("127.0.0.1", 10_000 + any % 20_000)));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Removes a folder of data, whatever is left of it.
pub fn remove(folder: &Path) {
    // It may not be there.
    let _ = fs::remove_dir_all(folder);
}
