//! Observers that keep nothing: each pulls from the leader, and counts as one that has all that it was sent.

use std::sync::Arc;
use std::time::Duration;

use esker_benches::Result;
use esker_broker::config::{BrokerConfig, Sources};
use esker_broker::node::Node;
use esker_broker::peer::{Lane, LocalNode, PeerLink};
use esker_broker::raft::wire::RaftAppendRequest;
use esker_broker::raft::{MAX_PULL_WAIT, RaftPullRequest};
use esker_protocol::Message;
use esker_protocol::primitives::{Reader, Uuid};
use tokio::time::{Instant, sleep};

use crate::environment::Threads;
use crate::network::{CLUSTER, Network, address_of, id_of};

/// How long an answer may take beyond the wait that the request allows.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an error.
const AGAIN: Duration = Duration::from_millis(50);

/// The environment of a member or an observer. Nodes are counted from 1.
pub fn node_of(threads: &Threads, network: &Network, number: usize) -> Result<(Node, Arc<LocalNode>)> {
    let id = id_of(number)?;
    let node = Node::new(BrokerConfig::resolve(&Sources::default())?, threads.environment(network));
    let directory = Uuid(id.directory);
    let join = if number == 1 { Vec::new() } else { vec![address_of(1).into()] };
    let local = Arc::new(LocalNode::new(directory, join, directory));
    local.enter(CLUSTER.into(), id.node_id, directory);
    Ok((node.with_id(id.node_id), local))
}

/// Observers that keep nothing; they end when this is dropped.
#[derive(Default)]
pub struct Stubs(Vec<tokio::task::JoinHandle<()>>);

impl Stubs {
    /// Starts one.
    pub fn start(&mut self, threads: &Threads, network: &Network, number: usize) -> Result<()> {
        let (node, local) = node_of(threads, network, number)?;
        let leader = id_of(1)?;
        let target = (leader.node_id, Uuid(leader.directory));
        let link = PeerLink::new(&node, &local, target, &address_of(1), Lane::Control);
        self.0.push(threads.control().spawn(pull(link)));
        Ok(())
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn pull(link: PeerLink) {
    let max_wait_ms = i32::try_from(MAX_PULL_WAIT.as_millis()).unwrap_or(i32::MAX);
    let mut request = RaftPullRequest { max_wait_ms, ..RaftPullRequest::default() };
    loop {
        let answered = link.poll(&request, Instant::now() + MAX_PULL_WAIT + PATIENCE).await;
        let append = answered.ok().filter(|answer| !answer.error_code.is_error());
        let append = append.and_then(|answer| RaftAppendRequest::decode(&mut Reader::new(answer.append), 0).ok());
        match append {
            Some(append) => (request.vote, request.committed) = (append.vote, append.committed),
            None => sleep(AGAIN).await,
        }
    }
}
