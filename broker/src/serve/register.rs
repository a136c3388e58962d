//! What a broker registers, and how.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use esker_core::controller::{FoundPartition, Registration};
use esker_core::metadata::ListenerRecord;
use esker_protocol::primitives::{Str, Uuid};
use esker_storage::{Log, LogDirInfo, LogManager};
use std::sync::Arc;
use tracing::info;

use crate::config::Listener;
use crate::node::Node;
use crate::replica::is_named;

/// Name and bound address of each listener.
pub(super) type Addresses = Vec<(Str, SocketAddr)>;

/// The partitions in the log dirs, for a new cluster.
pub(super) fn found_partitions(logs: &LogManager) -> Vec<FoundPartition> {
    let found = |log: &Arc<Log>| FoundPartition {
        topic: Str::copy(log.topic()),
        partition: log.partition(),
        topic_id: Some(log.topic_id()).filter(|id| !id.is_zero()),
        leader_epoch: log.latest_epoch().unwrap_or(-1),
        producer_id: log.producers().iter().map(|producer| producer.producer_id).max().unwrap_or(-1),
    };
    logs.logs().iter().map(found).collect()
}

/// Where clients, and other nodes, reach a listener.
fn advertise(node: &Node, name: &Str, bound: SocketAddr) -> ListenerRecord {
    let wanted: Option<&Listener> = node.config().advertised.iter().find(|l| l.name == *name);
    let host = match wanted.map(|l| l.host.as_str()).filter(|host| !host.is_empty()) {
        Some(host) => host.to_owned(),
        None if bound.ip().is_unspecified() => {
            let host = host_name();
            info!(listener = %name, host, "clients get this name; advertised.listeners sets another");
            host
        }
        None => bound.ip().to_string(),
    };
    let port = wanted.map(|l| l.port).filter(|port| *port != 0).unwrap_or(bound.port());
    ListenerRecord { name: name.clone(), host: Str::from(host), port: i32::from(port) }
}

/// The listeners as they are advertised. The first is the one at which other nodes call (`peer_address`), of every build; clients find theirs by
/// its name.
pub(super) fn advertised(node: &Node, addresses: &Addresses) -> Vec<ListenerRecord> {
    let mut listeners: Vec<_> = addresses.iter().map(|(name, address)| advertise(node, name, *address)).collect();
    listeners.sort_by_key(|listener| listener.name != node.config().inter_broker_listener);
    listeners
}

/// The registration of this broker.
pub(super) fn registration(
    node: &Node,
    incarnation: Uuid,
    listeners: Vec<ListenerRecord>,
    logs: &LogManager,
) -> Registration {
    let config = node.config();
    // A broker that registers again leaves out the log dirs that failed meanwhile. A registration without any is refused.
    let online: Vec<Uuid> = logs.dir_states().filter(|(_, is_offline)| !is_offline).map(|(dir, _)| dir).collect();
    let all = || logs.dir_states().map(|(dir, _)| dir).collect();
    Registration {
        node_id: config.node_id,
        incarnation,
        listeners,
        rack: config.rack.clone(),
        log_dirs: if online.is_empty() { all() } else { online },
        cordoned_log_dirs: cordoned(&config.cordoned_log_dirs, logs),
    }
}

/// The log dirs that the configuration of this broker cordons. Dynamic configs reach the controller by themselves.
fn cordoned(names: &[String], logs: &LogManager) -> Vec<Uuid> {
    let is_cordoned = |dir: &LogDirInfo| names.iter().any(|name| is_named(&dir.path, name));
    logs.dirs().into_iter().filter(is_cordoned).map(|dir| dir.directory_id).collect()
}

/// What a listener on all addresses advertises: the machine's own name if it resolves, as Kafka does; else the address
/// that it sends from.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let resolves = |name: &str| (name, 0).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some());
    if !name.is_empty() && resolves(&name) {
        return name;
    }
    // Nothing is sent: connecting a datagram socket only picks the way out. The address is one that is kept for examples.
    let way_out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match way_out {
        Ok(address) if !address.ip().is_unspecified() => address.ip().to_string(),
        _ => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, Origin, Sources};
    use crate::node::Machine;

    #[test]
    fn the_inter_broker_listener_is_registered_first() {
        let addresses: Addresses = [("EXTERNAL", 1), ("INTERNAL", 2), ("OTHER", 3)]
            .map(|(name, port)| (name.into(), ([127, 0, 0, 1], port).into()))
            .into();
        for (inter_broker, expected) in [
            ("EXTERNAL", ["EXTERNAL://outside:1", "INTERNAL://127.0.0.1:2", "OTHER://127.0.0.1:3"]),
            ("INTERNAL", ["INTERNAL://127.0.0.1:2", "EXTERNAL://outside:1", "OTHER://127.0.0.1:3"]),
            ("OTHER", ["OTHER://127.0.0.1:3", "EXTERNAL://outside:1", "INTERNAL://127.0.0.1:2"]),
        ] {
            let mut sources = Sources::default();
            for (name, value) in [
                ("listeners", "EXTERNAL://:0,INTERNAL://:0,OTHER://:0"),
                ("listener.security.protocol.map", "EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,OTHER:PLAINTEXT"),
                ("advertised.listeners", "EXTERNAL://outside:1"),
                ("inter.broker.listener.name", inter_broker),
            ] {
                sources.set(Origin::Flag("--set"), name, value);
            }
            let node = Node::new(BrokerConfig::resolve(&sources).unwrap(), Arc::new(Machine::default()));
            let registered = advertised(&node, &addresses);
            let texts: Vec<String> =
                registered.iter().map(|at| format!("{}://{}:{}", at.name, at.host, at.port)).collect();
            assert_eq!(texts, expected, "{inter_broker}");
        }
    }
}
