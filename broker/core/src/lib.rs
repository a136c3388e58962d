//! Every rule of the cluster, pure: no I/O, no clock, no randomness.
//!
//! `decide(&state, now, request) -> records + reply | refusal`, and `apply(&mut state, &record)` as the only mutation. What
//! is random or read from a clock comes in as an argument; what follows from it rides inside the records, so that every
//! node that applies them comes to the same state.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod client_metrics;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod fetch_session;
pub mod forming;
pub mod group;
pub mod health;
pub mod internal_topics;
pub mod metadata;
pub mod plan;
pub mod replication;
pub mod trace;
pub mod transaction;
