//! The network between the nodes and the clients: who listens where, and what became of the links. A link that is cut lets nothing through
//! and resets nothing; a node without power answers nothing; a node whose process has died refuses connections.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker_broker::serve::embedded::Entrance;
use tokio::time::sleep;

use crate::network::{Cable, End, Gate, connection_over};
use crate::rng::Rng;

thread_local! {
    /// A run has a thread of its own.
    static NODES: Cell<usize> = const { Cell::new(3) };
}

/// Nodes of the cluster of this run.
pub fn nodes() -> usize {
    NODES.get()
}

/// From here on the run has so many nodes: those beyond three are observers of the metadata quorum.
pub fn set_nodes(count: usize) {
    NODES.set(count);
}

/// The place of all clients.
pub fn clients() -> usize {
    nodes()
}

/// Between two attempts to reach a host that does not answer, as TCP's retransmission of a SYN.
const SYN_AGAIN: Duration = Duration::from_millis(100);

enum Host {
    /// The process is dead; its kernel says so.
    Refuses,
    /// Nothing answers.
    Silent,
    Listens(Box<Entrance>),
}

struct Inner {
    rng: Rng,
    gates: Vec<Vec<Arc<Gate>>>,
    hosts: Vec<Host>,
    cables: Vec<(usize, usize, Cable)>,
}

/// See the module. Clones are the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

/// Where node `index` listens.
pub fn address_of(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 9092))
}

/// Which node listens at `address`.
pub fn index_of(address: &str) -> Option<usize> {
    (0..nodes()).find(|index| address_of(*index).to_string() == address)
}

impl Net {
    pub fn new(rng: Rng) -> Self {
        let gates = (0..=nodes()).map(|_| (0..=nodes()).map(|_| Arc::default()).collect()).collect();
        let hosts = (0..nodes()).map(|_| Host::Refuses).collect();
        Self(Arc::new(Mutex::new(Inner { rng, gates, hosts, cables: Vec::new() })))
    }

    pub fn gate(&self, from: usize, to: usize) -> Arc<Gate> {
        Arc::clone(&self.0.lock().unwrap().gates[from][to])
    }

    /// All links of a node, in both directions.
    pub fn gates_of(&self, node: usize, with_clients: bool) -> Vec<Arc<Gate>> {
        let others = (0..nodes() + usize::from(with_clients)).filter(|other| *other != node);
        others.flat_map(|other| [self.gate(node, other), self.gate(other, node)]).collect()
    }

    pub fn heal(&self) {
        let gates: Vec<_> = self.0.lock().unwrap().gates.iter().flatten().cloned().collect();
        for gate in gates {
            gate.set_delay(0);
            gate.open();
        }
        self.each_cable(|_, _, cable| cable.set_delay(0));
    }

    pub fn listen(&self, node: usize, entrance: Entrance) {
        // What is left of connections of the life before is reset by the kernel that knows nothing of them.
        self.cut_cables(node, Cable::reset);
        self.0.lock().unwrap().hosts[node] = Host::Listens(Box::new(entrance));
    }

    /// The process has died, and its kernel closes its connections.
    pub fn refuse(&self, node: usize) {
        self.0.lock().unwrap().hosts[node] = Host::Refuses;
        self.cut_cables(node, Cable::reset);
    }

    /// The machine has lost power.
    pub fn silence(&self, node: usize) {
        self.0.lock().unwrap().hosts[node] = Host::Silent;
        self.cut_cables(node, Cable::silence);
    }

    fn cut_cables(&self, node: usize, cut: impl Fn(&Cable)) {
        self.each_cable(|from, to, cable| {
            if from == node || to == node {
                cut(cable);
            }
        });
    }

    /// Each connection from one place to another.
    pub fn each_cable(&self, mut act: impl FnMut(usize, usize, &Cable)) {
        let mut inner = self.0.lock().unwrap();
        inner.cables.retain(|(_, _, cable)| !cable.is_gone());
        let cables = std::mem::take(&mut inner.cables);
        drop(inner);
        cables.iter().for_each(|(from, to, cable)| act(*from, *to, cable));
        self.0.lock().unwrap().cables.extend(cables);
    }

    /// Connects `from` to node `to`; waits as long as nothing answers.
    pub async fn connect(&self, from: usize, to: usize) -> io::Result<End> {
        loop {
            let ms = self.0.lock().unwrap().rng.between(0, 2) as u64;
            sleep(Duration::from_millis(ms)).await;
            for gate in [self.gate(from, to), self.gate(to, from)] {
                poll_fn(|cx| gate.poll_open(cx)).await;
            }
            if let Some(connected) = self.try_connect(from, to) {
                return connected;
            }
            sleep(SYN_AGAIN).await;
        }
    }

    /// `None`: nothing answers.
    fn try_connect(&self, from: usize, to: usize) -> Option<io::Result<End>> {
        let mut inner = self.0.lock().unwrap();
        let (there, back) = (Arc::clone(&inner.gates[from][to]), Arc::clone(&inner.gates[to][from]));
        let entrance = match &inner.hosts[to] {
            Host::Refuses => return Some(Err(io::ErrorKind::ConnectionRefused.into())),
            Host::Silent => return None,
            Host::Listens(entrance) => (**entrance).clone(),
        };
        let (own, served) = connection_over(&mut inner.rng, there, back);
        inner.cables.push((from, to, own.cable()));
        drop(inner);
        let serving = entrance.serve(served, SocketAddr::from(([10, 0, 0, from as u8 + 1], 40_000)));
        tokio::spawn(async move { drop(serving.await) });
        Some(Ok(own))
    }
}
