//! The rules that a cluster keeps, each in a file of its own with its source. The first one that is broken ends the run.

pub mod healing;
pub mod leaders;
pub mod metadata;
pub mod reads;
pub mod records;
pub mod replicas;
pub mod watermarks;
