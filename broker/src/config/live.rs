//! Broker configs that act at run time, as they hold now: what a client set last, else what the broker was started with.
//!
//! Background loops read it in each round; no request reads it.

use std::time::Duration;

use esker_core::config::{Scope, Statics, lookup, resolve_broker};
use esker_core::metadata::MetadataImage;
use esker_storage::CleanerConfig;

/// A number as it holds now.
fn read_number(image: &MetadataImage, node_id: i32, statics: &Statics, name: &str) -> f64 {
    let key = lookup(Scope::Broker, name);
    let resolved = key.map(|key| resolve_broker(image, node_id, statics, key));
    let value = resolved.as_ref().and_then(|resolved| resolved.value()).map(str::trim);
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// `max.connections` and `max.connections.per.ip` as they hold now: read once a connection.
pub fn connection_limits(image: &MetadataImage, node_id: i32, statics: &Statics) -> (usize, usize) {
    let number = |name: &str| read_number(image, node_id, statics, name) as usize;
    (number("max.connections"), number("max.connections.per.ip"))
}

/// See the module. Names and units are Kafka's.
#[derive(Debug, Clone, Copy)]
pub struct LiveConfig {
    /// Compaction.
    pub cleaner: CleanerConfig,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff: Duration,
    /// `log.scrub.max.bytes.per.second`; 0 is off.
    pub scrub_bytes_per_second: f64,
    /// `log.scrub.interval.ms`: from the start of one round to that of the next.
    pub scrub_interval: Duration,
}

impl LiveConfig {
    /// What holds now.
    pub fn read(image: &MetadataImage, node_id: i32, statics: &Statics) -> Self {
        let number = |name: &str| read_number(image, node_id, statics, name);
        let duration = |name: &str| Duration::from_millis(number(name).max(0.0) as u64);
        let cleaner_rate = number("log.cleaner.io.max.bytes.per.second");
        Self {
            cleaner: CleanerConfig {
                threads: number("log.cleaner.threads") as usize,
                dedupe_buffer_bytes: number("log.cleaner.dedupe.buffer.size") as usize,
                io_bytes_per_second: if cleaner_rate > 0.0 { cleaner_rate } else { f64::MAX },
            },
            cleaner_backoff: duration("log.cleaner.backoff.ms"),
            scrub_bytes_per_second: number("log.scrub.max.bytes.per.second").max(0.0),
            scrub_interval: duration("log.scrub.interval.ms"),
        }
    }
}
