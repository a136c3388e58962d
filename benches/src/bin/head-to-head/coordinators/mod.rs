//! What coordinators bear: many small groups with heartbeats and commits, one large group until it is stable, and transactions.
//!
//! The members are requests on plain connections, not consumers: nothing is fetched, so that the broker's work is the coordinator's.

mod groups;
mod transactions;

use std::path::Path;
use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::primitives::Str;

use crate::peers::{Broker, Peer};
use crate::report::{median, number, ratio};
use crate::{Options, Result};
use esker_benches::client::Connection;

/// A figure of one broker.
struct Figure {
    name: String,
    value: f64,
    digits: usize,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, digits: usize) -> Self {
        Self { name: name.into(), value, digits }
    }
}

/// Measures and prints.
pub fn run(options: &Options, dir: &Path, peers: &mut [Peer]) -> Result<()> {
    let mut lines: Vec<(String, usize, [Vec<f64>; 2])> = Vec::new();
    for round in 0..options.rounds() {
        for peer in peers.iter() {
            eprintln!("round {}: {}", round + 1, peer.name());
            let folder = dir.join(peer.name());
            let figures = measure(options, peer, &folder);
            let _ = std::fs::remove_dir_all(&folder);
            for figure in figures.map_err(|error| format!("{}: {error}", peer.name()))? {
                eprintln!("  {}: {:.*}", figure.name, figure.digits, figure.value);
                if lines.iter().all(|(name, ..)| *name != figure.name) {
                    lines.push((figure.name.clone(), figure.digits, Default::default()));
                }
                let line = lines.iter_mut().find(|(name, ..)| *name == figure.name);
                if let Some((.., [esker, kafka])) = line {
                    if peer.name() == "esker" { esker } else { kafka }.push(figure.value);
                }
            }
        }
        peers.reverse();
    }
    println!("| medians | Esker | Kafka | ratio |\n|---|---|---|---|");
    for (name, digits, both) in lines {
        let both = both.map(|all| median(all.into_iter()));
        println!("| {name} | {} | {} | {} |", number(both[0], digits), number(both[1], digits), ratio(both));
    }
    Ok(())
}

fn measure(options: &Options, peer: &Peer, folder: &Path) -> Result<Vec<Figure>> {
    let broker = peer.start(folder)?;
    let mut figures = groups::one_large(&broker, if options.quick { 20 } else { options.group_members })?;
    let time = Duration::from_secs(if options.quick { 1 } else { 20 });
    figures.extend(transactions::many(&broker, time / 4)?);
    figures.extend(groups::many(&broker, if options.quick { 20 } else { options.groups }, time)?);
    broker.stop()?;
    Ok(figures)
}

/// Waits until some keys have their coordinators: it makes the internal topic.
fn wait_for_coordinator(broker: &Broker, key_type: i8) -> Result<()> {
    let mut connection = Connection::open(broker.address)?;
    let coordinator_keys = (0..200).map(|number| Str::copy(&format!("reach-{number}"))).collect();
    let request = FindCoordinatorRequest { key_type, coordinator_keys, ..FindCoordinatorRequest::default() };
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let answer = connection.call(4, &request)?;
        if answer.coordinators.iter().all(|one| one.error_code == ErrorCode::NONE) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("no coordinator after 60 s".into())
}

/// The value below which a part of them lies, in ms.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let at = (times.len().saturating_sub(1) as f64 * part) as usize;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
