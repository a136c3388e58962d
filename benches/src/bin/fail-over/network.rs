//! A network of its own for each node, so that one can be cut off: network namespaces, each with a veth pair whose other end is on one bridge.
//!
//! This program's own end is the bridge's address. Needs root. Must never: leave anything behind when it is dropped.

use std::process::Command;

use esker_benches::Result;

/// Addresses of the nodes and of this program are in this network of 256.
const NETWORK: &str = "10.213.77";
/// The last number of this program's own address.
const OWN: u8 = 254;

/// See the module.
#[derive(Debug)]
pub struct Network {
    /// Distinguishes names of this process: an interface's name has 15 characters at most.
    name: String,
    nodes: usize,
}

impl Network {
    /// Connects so many nodes.
    pub fn new(nodes: usize) -> Result<Self> {
        let network = Self { name: format!("fo{}", std::process::id()), nodes };
        // A network that is made in part only is removed when it is dropped.
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{NETWORK}.{OWN}/24"), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let (namespace, end) = (network.namespace(node), network.end(node));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["link", "set", &end, "master", &bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", network.host(node)), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn end(&self, node: usize) -> String {
        format!("{}v{node}", self.name)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    /// Where a node is reached.
    pub fn host(&self, node: usize) -> String {
        format!("{NETWORK}.{}", node + 1)
    }

    /// A command that runs in a node's network; the process id stays that of the command.
    pub fn command(&self, node: usize, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace(node)]).arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Cuts a node off, or connects it again.
    pub fn set_connected(&self, node: usize, connected: bool) -> Result<()> {
        ip(&["link", "set", &self.end(node), if connected { "up" } else { "down" }])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // What was not made cannot be removed; the veth pair goes with its namespace.
            let _ = ip(&["link", "del", &self.end(node)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}; a network cut needs root", arguments.join(" "), reason.trim()).into())
}
