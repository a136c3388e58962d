//! What the clients of the cluster know: what was sent, acknowledged and read.

use std::collections::BTreeMap;

/// Partitions of each topic.
pub const PARTITIONS: usize = 2;
/// Idempotent producers.
pub const PRODUCERS: usize = 3;
/// A topic whose acknowledged records are durable on two nodes at least.
pub const FLUSHED: &str = "flushed";
/// A topic whose acknowledged records are in the page caches of two nodes at least.
pub const CACHED: &str = "cached";

/// A partition of a topic.
pub type Place = (&'static str, usize);

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Records by offset.
    pub acknowledged: BTreeMap<i64, String>,
    pub seen: BTreeMap<i64, String>,
    /// Batches that were acknowledged.
    pub batches: usize,
    pub high_watermark: i64,
    /// Of each producer.
    pub sent: [Sent; PRODUCERS],
}

/// What a producer sent to one partition.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub next_sequence: i32,
    /// The batch that is sent until it is acknowledged.
    pub pending: Option<Vec<String>>,
}

/// Counts for the report.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub acknowledged: usize,
    pub checked: usize,
    pub read: usize,
    pub images: usize,
    /// Replicas that were compared with the high watermarks of their leaders.
    pub watermarks: usize,
    pub elections: usize,
    /// A new leader served consumers less than the one before.
    pub high_watermark_went_back: usize,
    /// The longest time until a cluster was whole again, in ms.
    pub slowest_heal_ms: i64,
    /// By kind.
    pub faults: BTreeMap<String, usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    pub ledgers: BTreeMap<Place, Ledger>,
    pub producers: [Option<(i64, i16)>; PRODUCERS],
    pub counts: Counts,
    pub violation: Option<String>,
}

impl Model {
    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn ledger(&mut self, place: Place) -> &mut Ledger {
        self.ledgers.entry(place).or_default()
    }
}
