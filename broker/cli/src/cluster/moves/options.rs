//! Flags of the commands that move replicas.

use std::time::Duration;

use clap::Args;

use esker_records::connect::Connect;
use esker_records::units::{parse_bytes, parse_duration};

/// Flags of all commands that move replicas.
#[derive(Debug, Args)]
pub struct MoveOptions {
    #[command(flatten)]
    pub(super) connect: Connect,
    /// Show the plan, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Limit the copies to so many bytes a second on each broker, as a number or with K, M or G (KIP-73).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(super) throttle: Option<u64>,
    /// Partitions that move at a time.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) at_once: u16,
    /// Give up after this time, such as 90s, 30m or 2h; reassignments in progress go on.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) deadline: Option<Duration>,
    /// Cancel the reassignments of this command that are in progress. What has moved already stays where it is.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) cancel: bool,
    /// As JSON, one object a line.
    #[arg(long)]
    pub(super) json: bool,
}
