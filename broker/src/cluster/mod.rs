//! This node among the others: how it finds its place in a cluster, how it stays in it, and what it does for all of them while it is the active
//! controller.
//!
//! `place` finds or forms the cluster, before anything else is started; `controller` is what this node does when it leads the metadata quorum
//! (decide for others, give nodes their place, keep sessions), `fencer` ends the sessions of brokers that are gone, `voters` keeps
//! the members of the quorum in order, `members` changes them on command, `locations` has where nodes are, `balance` has preferred replicas lead. On
//! the broker's side `route` and `quorum_client` bring requests to the active controller, wherever that is, `heartbeat` says that this broker is
//! alive, and `directories` which of its log dirs failed.
//! Rules are in `esker_core::controller` and `esker_core::forming`. Must never: decide by a clock of its own who is alive (the sessions do), or
//! wait without a deadline.

mod balance;
mod controller;
mod directories;
mod fencer;
mod growth;
mod heartbeat;
mod links;
mod locations;
mod members;
mod place;
mod quorum_client;
mod reservations;
mod route;
mod voters;

pub use balance::run_balance;
pub use controller::Controller;
pub use directories::DirectoryReports;
pub use fencer::run_fencer;
pub use growth::run_growth;
pub use heartbeat::run_heartbeats;
pub use links::{BrokerLinks, ControllerProposer, OffsetLinks, TransactionLinks};
pub use locations::peer_address;
pub use members::{ChangeVoterError, VoterChange};
pub use place::{Place, PlaceError, find_place, find_silent_voters, take_seat};
pub use quorum_client::QuorumClient;
pub use route::RoutedController;
pub use voters::run_voters;
