//! What a consumer has read stays: an offset that is read again has the same record, and no consumer reads behind the high watermark that comes
//! with the records.
//!
//! Source: Kafka's design, "Replication": only committed messages are ever given out to the consumer, and a committed message is not lost.
//! A new leader may know of a lower high watermark than the one before (KIP-207 speaks of it): that is counted.

use std::collections::BTreeMap;

use crate::cluster::client::Lab;
use crate::cluster::model::Place;

/// Checks the records of one fetch against all that was read before.
pub fn check(lab: &Lab, place: Place, values: BTreeMap<i64, String>, high_watermark: i64) {
    let mut model = lab.model.lock().unwrap();
    let mut broken = None;
    if let Some((last, _)) = values.last_key_value()
        && *last >= high_watermark
    {
        broken = Some(format!("{place:?}: record {last} was served, and the high watermark is {high_watermark}"));
    }
    model.counts.read += values.len();
    let ledger = model.ledger(place);
    let went_back = high_watermark < ledger.high_watermark;
    ledger.high_watermark = high_watermark.max(ledger.high_watermark);
    for (offset, value) in values {
        if let Some(before) = ledger.seen.insert(offset, value.clone())
            && before != value
        {
            broken = Some(format!("{place:?}: {before} was read at {offset}, and later {value}"));
        }
    }
    model.counts.high_watermark_went_back += usize::from(went_back);
    drop(model);
    if let Some(broken) = broken {
        lab.violated(broken);
    }
}
