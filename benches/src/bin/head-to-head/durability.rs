//! What an acknowledgement that survives a power cut costs: producers that wait for each of their batches, against a broker that
//! syncs for many at once, brokers that sync for each batch, and one that does not sync at all.
//!
//! All four on the same disk, in turn, and in the other order the next round.

use std::path::Path;
use std::time::Duration;

use crate::load;
use crate::peers::Peer;
use crate::report::{median, number};
use crate::{Options, Result};

/// Producers, each with one batch in flight.
const PRODUCERS: i32 = 64;
/// Bytes of their batches.
const BATCH: usize = 1024;
/// Partitions they share.
const SHAPES: [i32; 2] = [1, 64];

/// A broker with a way to sync.
struct Way {
    name: &'static str,
    peer: Peer,
}

fn ways(peers: Vec<Peer>) -> Vec<Way> {
    let mut ways = Vec::new();
    for peer in peers {
        match &peer {
            Peer::Esker { .. } => {
                ways.push(Way { name: "Esker, durability=flush", peer: peer.clone() });
                let each = ["log.durability=page-cache", "log.flush.interval.messages=1"];
                ways.push(Way { name: "Esker, flush.messages=1", peer: peer.with(&each) });
            }
            Peer::Kafka { .. } => {
                ways.push(Way { name: "Kafka, flush.messages=1", peer: peer.with(&["log.flush.interval.messages=1"]) });
                ways.push(Way { name: "Kafka, no flush", peer });
            }
        }
    }
    ways
}

/// Measures and prints.
pub fn run(options: &Options, dir: &Path, peers: Vec<Peer>) -> Result<()> {
    let mut ways: Vec<(usize, Way)> = ways(peers).into_iter().enumerate().collect();
    let names: Vec<&str> = ways.iter().map(|(_, way)| way.name).collect();
    let mut rates = vec![[Vec::new(), Vec::new()]; ways.len()];
    for round in 0..options.rounds() {
        for (index, way) in &ways {
            eprintln!("round {}: {}", round + 1, way.name);
            let folder = dir.join(way.peer.name());
            let measured = measure(options, &way.peer, &folder);
            let _ = std::fs::remove_dir_all(&folder);
            let measured = measured.map_err(|error| format!("{}: {error}", way.name))?;
            for (rate, all) in measured.into_iter().zip(rates.iter_mut().skip(*index).take(1).flatten()) {
                all.push(rate);
            }
        }
        ways.reverse();
    }
    println!("{PRODUCERS} producers, acks=all, one batch of {BATCH} B in flight each; batches/s, medians\n");
    println!("| | 1 partition | 64 partitions |\n|---|---|---|");
    for (name, [one, many]) in names.into_iter().zip(rates) {
        println!("| {name} | {} | {} |", number(median(one.into_iter()), 0), number(median(many.into_iter()), 0));
    }
    Ok(())
}

/// Batches a second in each shape.
fn measure(options: &Options, peer: &Peer, folder: &Path) -> Result<Vec<f64>> {
    let broker = peer.start(folder)?;
    let time = if options.quick { Duration::from_millis(300) } else { Duration::from_secs(5) };
    let mut rates = Vec::new();
    for partitions in SHAPES {
        let topic = format!("durable-{partitions}");
        load::create_topic(broker.address, &topic, partitions)?;
        // A JVM needs to warm up, and a file to get its first blocks.
        load::wait_each(&broker, &topic, (partitions, PRODUCERS), BATCH, time)?;
        let outcome = load::wait_each(&broker, &topic, (partitions, PRODUCERS), BATCH, time)?;
        let rate = outcome.records as f64 / outcome.elapsed.as_secs_f64();
        eprintln!("  {partitions} partition(s): {rate:.0} batches/s");
        rates.push(rate);
    }
    broker.stop()?;
    Ok(rates)
}
