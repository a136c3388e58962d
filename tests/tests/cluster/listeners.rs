//! A cluster whose nodes call each other at another listener than clients do, from the configuration files that Kafka would get.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::metadata::MetadataResponse;
use esker_tests::cluster::{free_addresses, wait_until};
use esker_tests::topics::{create_by, new_topic};
use esker_tests::wire::Wire;
use esker_tests::{Esker, own_host};

const ANSWER: Duration = Duration::from_secs(10);

/// The listeners of one node.
struct Place {
    node_id: i32,
    external: SocketAddr,
    /// What the node says of its listener EXTERNAL. Nothing listens there.
    advertised: SocketAddr,
    internal: SocketAddr,
}

/// Starts a node with a configuration file as Kafka's; waits until it is ready.
fn start(dir: &Path, place: &Place, bootstrap: &str) -> Esker {
    let Place { node_id, external, advertised, internal } = place;
    let data = dir.join(node_id.to_string());
    let text = format!(
        "process.roles=broker,controller\nnode.id={node_id}\ncontroller.quorum.bootstrap.servers={bootstrap}\n\
         listeners=EXTERNAL://{external},INTERNAL://{internal}\n\
         advertised.listeners=EXTERNAL://{advertised},INTERNAL://{internal}\n\
         listener.security.protocol.map=EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT\n\
         inter.broker.listener.name=INTERNAL\nlog.dirs={}\n",
        data.display()
    );
    let file = dir.join(format!("{node_id}.properties"));
    fs::write(&file, text).unwrap();
    Esker::spawn(&["serve", "--config", &file.display().to_string(), "--http", "127.0.0.1:0"])
}

/// Where the brokers are, by the answer to a client.
fn brokers(answer: &MetadataResponse) -> BTreeSet<(i32, String)> {
    answer.brokers.iter().map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port))).collect()
}

#[test]
fn nodes_call_each_other_at_the_inter_broker_listener() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses(6);
    let places: Vec<Place> = addresses
        .chunks(2)
        .zip(1..)
        .map(|(pair, node_id)| Place {
            node_id,
            external: pair[0],
            advertised: SocketAddr::from((own_host(), 9092)),
            internal: pair[1],
        })
        .collect();
    let bootstrap = places.iter().map(|place| place.internal.to_string()).collect::<Vec<_>>().join(",");
    let nodes: Vec<Esker> = std::thread::scope(|scope| {
        let starts: Vec<_> = places.iter().map(|place| scope.spawn(|| start(dir.path(), place, &bootstrap))).collect();
        starts.into_iter().map(|start| start.join().expect("the node is ready")).collect()
    });
    let clusters: BTreeSet<&str> = nodes.iter().map(|node| node.ready_field("cluster")).collect();
    assert_eq!(clusters.len(), 1, "one cluster");
    wait_until("all nodes are voters", || nodes.iter().all(|node| node.metric("esker_raft_voters") == 3.0));

    // The request goes to nodes that do not lead the quorum, too: they forward it.
    for (at, topic) in ["a", "b", "c"].into_iter().enumerate() {
        let mut wire = Wire::new(places[at].external, ANSWER);
        let created = create_by(new_topic(topic, 3, 3, &[]), |_, request| wire.ask(7, request).ok());
        assert_eq!(created, ErrorCode::NONE, "{topic}");
        wait_until("all replicas are in sync", || {
            let answer = wire.metadata(topic).ok();
            let topics = answer.map(|answer| answer.topics).unwrap_or_default();
            let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
            topics.iter().any(|topic| topic.partitions.len() == 3) && partitions.all(|it| it.isr_nodes.len() == 3)
        });
    }

    let at = |address: fn(&Place) -> SocketAddr| {
        places.iter().map(|place| (place.node_id, address(place).to_string())).collect::<BTreeSet<_>>()
    };
    for place in &places {
        let outside = Wire::new(place.external, ANSWER).metadata("a").unwrap();
        assert_eq!(brokers(&outside), at(|place| place.advertised), "clients of EXTERNAL");
        let inside = Wire::new(place.internal, ANSWER).metadata("a").unwrap();
        assert_eq!(brokers(&inside), at(|place| place.internal), "clients of INTERNAL");
    }
}
