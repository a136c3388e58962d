//! A producer for brokers that run already: batches encoded once, acks=all, several requests in flight at the leader of each partition.
//!
//! It prints a line "begin" when the measured part begins, and a line of JSON when all batches are acknowledged, as `benches/lib/client.c`
//! does: `benches/cluster/run` reads both.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Parser;
use esker_benches::Result;
use esker_benches::client::Connection;
use esker_benches::leader::wait_for_leader;
use esker_benches::produce::{ProduceFrames, Total, run_workers};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use esker_protocol::primitives::Str;

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;
const METADATA_VERSION: i16 = 9;
/// How long the search for leaders may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Produces to a topic of a cluster as fast as it takes batches.
#[derive(Parser, Debug)]
struct Options {
    /// Some brokers, `host:port` each.
    #[arg(long, value_delimiter = ',', required = true)]
    bootstrap: Vec<String>,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Its partitions.
    #[arg(long)]
    partitions: usize,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Bytes of a batch (Kafka's clients: 16384).
    #[arg(long, default_value_t = 16 * 1024)]
    batch: usize,
    /// Connections to each leader.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Requests in flight on a connection (Kafka's clients: 5).
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// MB of record batches (10^6 bytes).
    #[arg(long, default_value_t = 800)]
    mb: u64,
}

fn main() -> std::process::ExitCode {
    match run(&Options::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raw-producer: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let leaders = find_leaders(options)?;
    let total: usize = leaders.values().map(Vec::len).sum();
    let mut workers = Vec::new();
    for (leader, partitions) in leaders {
        wait_for_leader(leader, &options.topic, partitions.iter().copied())?;
        let connections = options.connections.clamp(1, partitions.len());
        for index in 0..connections {
            let own: Vec<i32> = partitions.iter().skip(index).step_by(connections).copied().collect();
            let frames = ProduceFrames::new(&options.topic, &own, options.value_bytes, options.batch, ACKS_ALL)?;
            let share = options.mb * 1_000_000 * own.len() as u64 / total as u64;
            let (connection, in_flight) = (Connection::open(leader)?, options.in_flight);
            workers.push(move || frames.send(connection, in_flight, share));
        }
    }
    println!("begin");
    let start = Instant::now();
    let Total { bytes, records } = run_workers(workers)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds:.6}, \"bytes\": {bytes}, \"records\": {records}}}");
    Ok(())
}

/// The partitions of each leader, once every partition has one.
fn find_leaders(options: &Options) -> Result<BTreeMap<SocketAddr, Vec<i32>>> {
    let topic = MetadataRequestTopic { name: Some(Str::copy(&options.topic)), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let deadline = Instant::now() + PATIENCE;
    let mut asked = options.bootstrap.iter().cycle();
    while Instant::now() < deadline {
        let address = asked.next().ok_or("no broker is named")?;
        let answer = resolve(address).and_then(Connection::open).and_then(|mut c| c.call(METADATA_VERSION, &request));
        let leaders = answer.and_then(|answer| leaders_of(&answer));
        match leaders {
            Ok(leaders) if leaders.values().map(Vec::len).sum::<usize>() == options.partitions => return Ok(leaders),
            // Another broker may know more, or the same one a moment later.
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Err(format!("topic {} has no {} partitions with a leader within {PATIENCE:?}", options.topic, options.partitions)
        .into())
}

fn leaders_of(answer: &MetadataResponse) -> Result<BTreeMap<SocketAddr, Vec<i32>>> {
    let mut leaders: BTreeMap<SocketAddr, Vec<i32>> = BTreeMap::new();
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        if let Some(broker) = answer.brokers.iter().find(|broker| broker.node_id == partition.leader_id) {
            let address = resolve(&format!("{}:{}", broker.host, broker.port))?;
            leaders.entry(address).or_default().push(partition.partition_index);
        }
    }
    Ok(leaders)
}

fn resolve(address: &str) -> Result<SocketAddr> {
    Ok(address.to_socket_addrs()?.next().ok_or_else(|| format!("{address} is no address"))?)
}
