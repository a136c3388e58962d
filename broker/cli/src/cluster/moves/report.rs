//! Plans for people and for scripts.

use std::collections::BTreeMap;

use esker_core::plan::{Layout, Load, Move, loads};
use serde_json::{Value, json};

use super::goal::Goal;
use esker_records::error::CliError;
use esker_records::output::{print_line, table};
use esker_records::units::show_bytes;

/// Moves that are listed; the rest is counted.
const LISTED: usize = 50;

/// Prints the moves, and what each broker has before and after them.
pub(super) fn print_plan(goal: Goal, layout: &Layout, moves: &[Move], as_json: bool) -> Result<(), CliError> {
    let mut after = layout.clone();
    after.apply(moves);
    let (before, after) = (loads(layout), loads(&after));
    if as_json {
        let plan = to_json(goal, layout, moves, &before, &after);
        return Ok(print_line(&plan.to_string())?);
    }
    let copied: u64 = moves.iter().map(Move::copied_bytes).sum();
    let copies: usize = moves.iter().map(|one| one.added().count()).sum();
    print_line(&format!(
        "{goal}: {} partitions change, {copies} replicas and {} are copied",
        moves.len(),
        show_bytes(copied)
    ))?;
    if moves.is_empty() {
        return Ok(());
    }
    let row = |one: &Move| {
        vec![
            format!("{}-{}", one.topic, one.partition),
            ids(&one.from),
            ids(&one.to),
            show_bytes(one.copied_bytes()),
            if one.changes_leader() { "yes" } else { "-" }.to_owned(),
        ]
    };
    let rows: Vec<_> = moves.iter().take(LISTED).map(row).collect();
    table(&["PARTITION", "REPLICAS", "NEW REPLICAS", "COPIES", "NEW LEADER"], &rows)?;
    if moves.len() > LISTED {
        print_line(&format!("... and {} more", moves.len() - LISTED))?;
    }
    let row = |(id, load): (&i32, &Load)| {
        let then = after.get(id).copied().unwrap_or_default();
        let rack = layout.rack(*id);
        vec![
            id.to_string(),
            if rack.is_empty() { "-" } else { rack }.to_owned(),
            state(layout, *id).to_owned(),
            format!("{} -> {}", load.replicas, then.replicas),
            format!("{} -> {}", show_bytes(load.bytes), show_bytes(then.bytes)),
            format!("{} -> {}", load.leaders, then.leaders),
        ]
    };
    let rows: Vec<_> = before.iter().map(row).collect();
    Ok(table(&["NODE", "RACK", "STATE", "REPLICAS", "BYTES", "PREFERRED LEADER OF"], &rows)?)
}

pub(super) fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn state(layout: &Layout, id: i32) -> &'static str {
    match layout.brokers.get(&id) {
        None => "not registered",
        Some(broker) if !broker.alive => "not alive",
        Some(broker) if broker.cordoned => "cordoned",
        Some(_) => "in service",
    }
}

fn to_json(
    goal: Goal,
    layout: &Layout,
    moves: &[Move],
    before: &BTreeMap<i32, Load>,
    after: &BTreeMap<i32, Load>,
) -> Value {
    let load = |load: &Load| json!({"replicas": load.replicas, "bytes": load.bytes, "leaders": load.leaders});
    let one = |one: &Move| {
        json!({
            "topic": one.topic.as_str(), "partition": one.partition, "from": one.from, "to": one.to,
            "copied_bytes": one.copied_bytes(),
        })
    };
    let broker = |(id, before): (&i32, &Load)| {
        let after = after.get(id).copied().unwrap_or_default();
        json!({
            "id": id, "rack": layout.rack(*id), "state": state(layout, *id), "before": load(before),
            "after": load(&after),
        })
    };
    json!({
        "event": "plan", "goal": goal.to_string(), "copied_bytes": moves.iter().map(Move::copied_bytes).sum::<u64>(),
        "moves": moves.iter().map(one).collect::<Vec<_>>(), "brokers": before.iter().map(broker).collect::<Vec<_>>(),
    })
}
