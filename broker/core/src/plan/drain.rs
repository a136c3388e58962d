//! Moves all replicas off one broker: to the brokers with the least load, or to one that replaces it.

use super::layout::{Layout, Move, PartitionState};
use super::load::Loads;
use super::{PlanError, layout};

/// Moves the replicas of a broker to the others. Each goes to a rack without a replica of the partition where there is one, and there to the
/// broker with the least load.
///
/// # Errors
/// The broker is not known, or a partition has no broker left to move to.
pub fn plan_drain(layout: &Layout, broker: i32) -> Result<Vec<Move>, PlanError> {
    check_known(layout, broker)?;
    move_all(layout, broker, |loads, partition| Ok(least_loaded(layout, loads, partition, broker)))
}

/// Moves the replicas of a broker to another one. A partition that has a replica on both moves as in [`plan_drain`].
///
/// # Errors
/// One of them is not known, the replacement takes no replicas, or a partition would be in fewer racks.
pub fn plan_replacement(layout: &Layout, broker: i32, replacement: i32) -> Result<Vec<Move>, PlanError> {
    check_known(layout, broker)?;
    check_known(layout, replacement)?;
    match layout.brokers.get(&replacement) {
        _ if broker == replacement => return Err(PlanError::SameBroker(broker)),
        Some(state) if !state.alive => return Err(PlanError::NotAlive(replacement)),
        Some(state) if state.cordoned => return Err(PlanError::Cordoned(replacement)),
        _ => {}
    }
    move_all(layout, broker, |loads, partition| {
        if partition.replicas.contains(&replacement) {
            return Ok(least_loaded(layout, loads, partition, broker));
        }
        let after = exchange(&partition.replicas, broker, replacement);
        if layout.rack_count(&after) < layout.rack_count(&partition.replicas) {
            return Err(PlanError::FewerRacks {
                topic: partition.topic.clone(),
                partition: partition.partition,
                broker,
                replacement,
                rack: layout.rack(replacement).to_owned().into(),
            });
        }
        Ok(Some(replacement))
    })
}

fn check_known(layout: &Layout, broker: i32) -> Result<(), PlanError> {
    let is_replica = |partition: &layout::PartitionState| partition.replicas.contains(&broker);
    if layout.brokers.contains_key(&broker) || layout.partitions.iter().any(is_replica) {
        return Ok(());
    }
    Err(PlanError::UnknownBroker { broker, known: layout.brokers.keys().copied().collect() })
}

/// Moves each replica of `broker` to the broker that `choose` returns. Large partitions are placed first: small ones even the load out.
fn move_all(
    layout: &Layout,
    broker: i32,
    choose: impl Fn(&Loads, &PartitionState) -> Result<Option<i32>, PlanError>,
) -> Result<Vec<Move>, PlanError> {
    let mut held: Vec<&PartitionState> =
        layout.partitions.iter().filter(|partition| partition.replicas.contains(&broker)).collect();
    held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| (&a.topic, a.partition).cmp(&(&b.topic, b.partition))));
    let mut loads = Loads::of(layout);
    let (mut moves, mut blocked): (Vec<Move>, Vec<&PartitionState>) = (Vec::new(), Vec::new());
    for partition in held {
        let Some(chosen) = choose(&loads, partition)? else {
            blocked.push(partition);
            continue;
        };
        let mut to = exchange(&partition.replicas, broker, chosen);
        if partition.replicas.first() == Some(&broker) {
            loads.change(partition, &[]);
            lead_least_led(layout, &loads, &mut to);
            loads.change(&PartitionState { replicas: Vec::new(), ..partition.clone() }, &to);
        } else {
            loads.change(partition, &to);
        }
        moves.push(Move::new(partition, to));
    }
    if let Some(first) = blocked.iter().min_by_key(|partition| (&partition.topic, partition.partition)) {
        return Err(PlanError::NoBrokerLeft {
            topic: first.topic.clone(),
            partition: first.partition,
            factor: first.replicas.len(),
            broker,
            eligible: layout.eligible().filter(|id| *id != broker).collect(),
            blocked: blocked.len(),
        });
    }
    moves.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(moves)
}

/// The replicas with one broker in another's place.
pub(super) fn exchange(replicas: &[i32], broker: i32, by: i32) -> Vec<i32> {
    replicas.iter().map(|id| if *id == broker { by } else { *id }).collect()
}

/// The broker for a replica that leaves `broker`.
fn least_loaded(layout: &Layout, loads: &Loads, partition: &PartitionState, broker: i32) -> Option<i32> {
    let stay: Vec<&str> = partition.replicas.iter().filter(|id| **id != broker).map(|id| layout.rack(*id)).collect();
    let candidates = layout.eligible().filter(|id| *id != broker && !partition.replicas.contains(id));
    candidates.min_by_key(|id| {
        let in_rack = stay.iter().filter(|rack| **rack == layout.rack(*id)).count();
        (in_rack, loads.weight(*id), loads.leaders(*id), *id)
    })
}

/// Brings the replica first whose broker leads least; one of a broker that may lead.
fn lead_least_led(layout: &Layout, loads: &Loads, replicas: &mut [i32]) {
    let able = replicas.iter().enumerate().filter(|(_, id)| layout.is_eligible(**id));
    if let Some((at, _)) = able.min_by_key(|(at, id)| (loads.leaders(**id), *at)) {
        replicas.swap(0, at);
    }
}
