//! For tests of replicas without a broker around them.

use std::sync::Arc;

use crate::config::{BrokerConfig, Sources};
use crate::node::{Machine, Node};

/// A node with the built-in configuration.
pub(super) fn node() -> Node {
    Node::new(BrokerConfig::resolve(&Sources::default()).unwrap(), Arc::new(Machine))
}
