//! Every config that Kafka knows: one table, and the rules of types, ranges and precedence over it.
//!
//! `table` reads `table.tsv`, the only list of configs; `validate` holds values against it; `topic` resolves what a topic
//! is configured to, through dynamic and static levels. Pure: where values come from (files, flags, the metadata image) is
//! the caller's matter.

mod listeners;
mod protect;
mod resolve;
mod suggest;
mod table;
mod topic;
mod validate;

pub use listeners::inter_broker_listener;
pub use protect::{removed, unserved_protection};
pub use resolve::{ConfigSource, Level, Resolved, Statics, resolve_broker, resolve_resource, resolve_topic};
pub use suggest::nearest;
pub use table::{ConfigKey, Dynamic, Kind, Scope, keys, lookup};
pub use topic::{CompressionChoice, TopicConfig};
pub use validate::{InvalidValue, canonical, list_items, validate};
