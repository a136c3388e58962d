//! The Esker daemon: sockets, files, time and tasks around the rules of `esker-core`.
//!
//! A request's way: `server` cuts it out of the stream, `handlers` dispatches it, `replica` and `coordinator` carry it out,
//! `raft` keeps the metadata that all of them read.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod background;
mod blocking;
pub mod broker;
pub mod build;
pub mod client_telemetry;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod daemon;
pub mod error;
pub mod fetch_sessions;
pub mod handlers;
pub mod http;
pub mod metadata_dir;
pub mod node;
pub mod otlp;
pub mod peer;
mod producer_ids;
pub mod raft;
pub mod replica;
pub mod serve;
pub mod server;
mod service_manager;
pub mod session;
mod start_progress;
mod system_limits;
mod task;
pub mod telemetry;
#[cfg(test)]
mod test_support;
pub mod trace;
