//! The newest values that clients pushed, bounded in all directions; what goes beyond a bound is dropped and counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use esker_protocol::primitives::Uuid;

/// Series of one client.
const MAX_SERIES_OF_CLIENT: usize = 2_000;
/// Series of all clients.
const MAX_SERIES: usize = 50_000;
/// Bytes of the labels of all series.
const MAX_LABEL_BYTES: usize = 32 << 20;
/// Names of metrics.
const MAX_NAMES: usize = 1_000;

/// How a value is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SampleKind {
    /// The newest value holds.
    Gauge,
    /// What was added since the last push.
    Delta,
    /// The sum since the client's start.
    Cumulative,
}

impl SampleKind {
    /// Whether the sum of values is what is reported.
    pub fn is_counter(self) -> bool {
        self != Self::Gauge
    }
}

/// One value of a push.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// How to read the value.
    pub kind: SampleKind,
    /// All labels, as text.
    pub labels: String,
    /// The value.
    pub value: f64,
}

/// Why a value was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Its client has too many series.
    SeriesOfClient,
    /// All clients together have too many series.
    Series,
    /// There are too many names of metrics.
    Names,
    /// It is of a kind that is not served, or has too many labels.
    Unsupported,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SeriesOfClient, Self::Series, Self::Names, Self::Unsupported];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeriesOfClient => "client_series",
            Self::Series => "all_series",
            Self::Names => "names",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Values dropped since the start, by reason.
#[derive(Debug, Default, Clone)]
pub struct Drops(BTreeMap<DropReason, u64>);

impl Drops {
    /// Counts values.
    pub fn add(&mut self, reason: DropReason, count: u64) {
        *self.0.entry(reason).or_default() += count;
    }

    /// How many of a reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(&reason).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    value: f64,
    is_counter: bool,
}

#[derive(Debug, Default)]
struct OfClient {
    expires_ms: i64,
    series: HashMap<(Arc<str>, String), Stored>,
}

/// A series at a scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesRow<'a> {
    /// All labels, as text.
    pub labels: &'a str,
    /// The newest value.
    pub value: f64,
    /// Whether it only rises.
    pub is_counter: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ClientSeries {
    clients: HashMap<Uuid, OfClient>,
    expiry: BTreeSet<(i64, Uuid)>,
    names: HashSet<Arc<str>>,
    count: usize,
    label_bytes: usize,
    drops: Drops,
}

impl ClientSeries {
    /// How many series there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What was dropped since the start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Stores the values of a push. They are forgotten at `expires_ms`.
    pub fn store(&mut self, client: Uuid, expires_ms: i64, samples: Vec<Sample>, unsupported: u64) {
        self.drops.add(DropReason::Unsupported, unsupported);
        let mut of_client = self.clients.remove(&client).unwrap_or_default();
        self.expiry.remove(&(of_client.expires_ms, client));
        for sample in samples {
            if let Err(reason) = self.store_sample(&mut of_client, sample) {
                self.drops.add(reason, 1);
            }
        }
        if of_client.series.is_empty() {
            return;
        }
        of_client.expires_ms = expires_ms;
        self.expiry.insert((expires_ms, client));
        self.clients.insert(client, of_client);
    }

    fn store_sample(&mut self, of_client: &mut OfClient, sample: Sample) -> Result<(), DropReason> {
        let known = self.names.get(sample.name.as_str()).cloned();
        if known.is_none() && self.names.len() >= MAX_NAMES {
            return Err(DropReason::Names);
        }
        let name = known.unwrap_or_else(|| Arc::from(sample.name));
        let (key, is_counter) = ((Arc::clone(&name), sample.labels), sample.kind.is_counter());
        if let Some(stored) = of_client.series.get_mut(&key) {
            let sum = if sample.kind == SampleKind::Delta { stored.value } else { 0.0 };
            *stored = Stored { value: sum + sample.value, is_counter };
            return Ok(());
        }
        if of_client.series.len() >= MAX_SERIES_OF_CLIENT {
            return Err(DropReason::SeriesOfClient);
        }
        if self.count >= MAX_SERIES || self.label_bytes + key.1.len() > MAX_LABEL_BYTES {
            return Err(DropReason::Series);
        }
        self.names.insert(name);
        self.count += 1;
        self.label_bytes += key.1.len();
        of_client.series.insert(key, Stored { value: sample.value, is_counter });
        Ok(())
    }

    /// Forgets series of clients that were silent for too long.
    pub fn expire(&mut self, now_ms: i64) {
        let mut removed = false;
        while let Some((expires_ms, id)) = self.expiry.first().copied()
            && expires_ms <= now_ms
        {
            self.expiry.remove(&(expires_ms, id));
            let Some(of_client) = self.clients.remove(&id) else { continue };
            self.count -= of_client.series.len();
            self.label_bytes -= of_client.series.keys().map(|(_, labels)| labels.len()).sum::<usize>();
            removed = true;
        }
        if removed {
            self.names.retain(|name| Arc::strong_count(name) > 1);
        }
    }

    /// All series, by the name of their metric.
    pub fn by_name(&self) -> BTreeMap<&str, Vec<SeriesRow<'_>>> {
        let mut names: BTreeMap<&str, Vec<SeriesRow<'_>>> = BTreeMap::new();
        for of_client in self.clients.values() {
            for ((name, labels), stored) in &of_client.series {
                let row = SeriesRow { labels, value: stored.value, is_counter: stored.is_counter };
                names.entry(name).or_default().push(row);
            }
        }
        names
    }
}
