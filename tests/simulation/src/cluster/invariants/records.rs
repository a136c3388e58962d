//! No acknowledged record is lost, moved or there twice; records of a producer are in the order in which it sent them.
//!
//! Source: Kafka's design, "Message Delivery Semantics" (`acks=all` with `min.insync.replicas`), and KIP-98 for the idempotent producer.

use std::collections::BTreeMap;

use crate::cluster::model::{Ledger, Place};

/// Checks the whole content of a partition, by offset.
pub fn check(place: Place, ledger: &Ledger, log: &BTreeMap<i64, String>) -> Result<(), String> {
    for (what, known) in [("acknowledged", &ledger.acknowledged), ("read", &ledger.seen)] {
        for (offset, value) in known {
            if log.get(offset) != Some(value) {
                return Err(format!("{place:?}: {value} was {what} at {offset}; found {:?}", log.get(offset)));
            }
        }
    }
    if !log.keys().copied().eq(0..log.len() as i64) {
        return Err(format!("{place:?}: the offsets have gaps"));
    }
    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
    for (offset, value) in log {
        let (producer, number) = value.split_once('-').ok_or_else(|| format!("{place:?}: {value} at {offset}"))?;
        let (producer, number): (usize, usize) = (producer.parse().unwrap(), number.parse().unwrap());
        let expected = next.entry(producer).or_default();
        if number != *expected {
            return Err(format!("{place:?}: {value} at {offset}, and {expected} comes next of that producer"));
        }
        *expected += 1;
    }
    for (number, sent) in ledger.sent.iter().enumerate() {
        let pending = sent.pending.as_ref().map_or(0, Vec::len);
        let (least, found) = (sent.next_sequence as usize, next.remove(&number).unwrap_or_default());
        if found != least && found != least + pending {
            return Err(format!(
                "{place:?}: {found} records of producer {number}; {least} acknowledged, {pending} pending"
            ));
        }
    }
    Ok(())
}
