//! The commands that touch every record, `produce`, `consume` and `bench`, and what they share with all others: the way to a cluster,
//! contexts, output, errors, times and counts.
//!
//! A crate of its own, since it alone of the command line is built for speed: a first build spends no time on optimizing the rest, which
//! runs once for a word that somebody typed. Must never: know the broker's parts.

pub mod arguments;
pub mod bench;
pub mod connect;
pub mod consume;
pub mod contexts;
pub mod error;
mod format;
pub mod interrupt;
pub mod output;
pub mod produce;
pub mod times;
pub mod units;
