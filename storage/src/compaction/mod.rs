//! Log compaction (`cleanup.policy=compact`) with Kafka's semantics: of records with one key the last one stays.

#[cfg(test)]
mod offset_map;
#[cfg(test)]
mod plan;
