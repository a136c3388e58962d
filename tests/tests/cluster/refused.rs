//! A broker that lives, and whose address refuses connections: its heartbeats come, and nobody reaches it.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use esker_tests::cluster::{Cluster, wait_until};
use esker_tests::own_host;

/// Takes connections for another address, until it refuses them.
struct Relay {
    address: SocketAddr,
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Relay {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((own_host(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let streams = Arc::clone(&open);
        thread::spawn(move || {
            while let Ok((here, _)) = listener.accept() {
                // Ends with the first connection after the end: the listener is closed then.
                let mut streams = streams.lock().unwrap();
                let Some(streams) = streams.as_mut() else { return };
                let Ok(there) = TcpStream::connect(to) else { continue };
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    streams.push(from.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, open }
    }

    /// Ends all connections, and refuses others from here on.
    fn refuse(&self) {
        let streams = self.open.lock().unwrap().take().unwrap();
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

#[test]
fn a_living_broker_that_refuses_connections_is_fenced_once() {
    let mut cluster = Cluster::start_steady(3);
    let join = cluster.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let at = cluster.add(&join);
    let relay = Relay::start(cluster.address(at));
    cluster.terminate(at);
    cluster.restart_with(at, &["--set", &format!("advertised.listeners=PLAINTEXT://{}", relay.address)]);
    let controller = cluster.controller();
    let fenced = || cluster.node(controller).metric("esker_failovers_total");
    let before = fenced();
    relay.refuse();
    wait_until("the controller knows that it is not reached and lives", || {
        cluster.node(controller).log().contains("its address refuses connections of this node")
    });
    wait_until("it is known to live", || cluster.node(at).metric("esker_broker_isolated") == 0.0);
    assert_eq!(fenced() - before, 1.0, "{}", cluster.node(controller).log());
}
