//! How long a broker needs until every partition answers again: after a crash with much written, after a clean stop with many
//! partitions.

use std::path::Path;

use crate::load::{self, Acks, Cell, Direction};
use crate::peers::Peer;
use crate::report::{median, number, ratio};
use crate::{Options, Result};
use esker_benches::leader::wait_for_leader;

/// Partitions that are written to before the crash.
const CRASH_PARTITIONS: i32 = 50;

/// Measures and prints both.
pub fn run(options: &Options, dir: &Path, peers: &mut [Peer]) -> Result<()> {
    let mut crash: [Vec<f64>; 2] = Default::default();
    let mut clean: [Vec<f64>; 2] = Default::default();
    for round in 0..options.rounds() {
        for peer in peers.iter() {
            eprintln!("round {}: {}", round + 1, peer.name());
            let folder = dir.join(peer.name());
            let took = after_crash(options, peer, &folder)
                .and_then(|crashed| Ok((crashed, after_stop(options, peer, &folder)?)));
            let _ = std::fs::remove_dir_all(&folder);
            let (crashed, stopped) = took.map_err(|error| format!("{}: {error}", peer.name()))?;
            let ([esker_crash, kafka_crash], [esker_clean, kafka_clean]) = (&mut crash, &mut clean);
            if peer.name() == "kafka" {
                kafka_crash.push(crashed);
                kafka_clean.push(stopped);
            } else {
                esker_crash.push(crashed);
                esker_clean.push(stopped);
            }
        }
        peers.reverse();
    }
    let (mb, partitions) = (options.bytes() / 1_000_000, options.start_up_partitions);
    println!("| exec to all partitions answering, ms | Esker | Kafka | ratio |\n|---|---|---|---|");
    for (name, times) in [
        (format!("after kill -9, {mb} MB in {CRASH_PARTITIONS} partitions"), crash),
        (format!("after a clean stop, {partitions} partitions"), clean),
    ] {
        let both = times.map(|times| median(times.into_iter()));
        println!("| {name} | {} | {} | {} |", number(both[0], 0), number(both[1], 0), ratio(both));
    }
    Ok(())
}

fn after_crash(options: &Options, peer: &Peer, folder: &Path) -> Result<f64> {
    let broker = peer.start(folder)?;
    let port = broker.address.port();
    load::create_topic(broker.address, "crash", CRASH_PARTITIONS)?;
    let cell = Cell { partitions: CRASH_PARTITIONS, value_bytes: 1024, direction: Direction::Produce(Acks::Leader) };
    load::run(options, &broker, "crash", cell, options.bytes())?;
    broker.kill()?;
    let broker = peer.start_again(folder, port)?;
    wait_for_leader(broker.address, "crash", 0..CRASH_PARTITIONS)?;
    let took = broker.started().elapsed().as_secs_f64() * 1e3;
    eprintln!("  after kill -9: {took:.0} ms");
    broker.stop()?;
    Ok(took)
}

fn after_stop(options: &Options, peer: &Peer, folder: &Path) -> Result<f64> {
    let broker = peer.start(folder)?;
    let port = broker.address.port();
    // As many a topic as a produce request and the controller's bound allow.
    let topics = (options.start_up_partitions + 999) / 1000;
    for topic in 0..topics {
        load::create_topic(broker.address, &format!("clean-{topic}"), 1000)?;
    }
    broker.stop()?;
    let broker = peer.start_again(folder, port)?;
    for topic in 0..topics {
        wait_for_leader(broker.address, &format!("clean-{topic}"), 0..1000)?;
    }
    let took = broker.started().elapsed().as_secs_f64() * 1e3;
    let memory = broker.memory()?;
    eprintln!("  after a clean stop: {took:.0} ms, {} MiB resident", memory.resident >> 20);
    broker.stop()?;
    Ok(took)
}
