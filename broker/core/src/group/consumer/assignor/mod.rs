//! Server-side assignors (KIP-848): which member gets which partitions. Pure and fast: costs grow with members, topics and
//! partitions, never with their product.
//!
//! Racks have no effect, as in Kafka 4.4: members and topics have them, but Kafka's assignors ignore them.

mod heterogeneous;
mod range;
mod spec;
#[cfg(test)]
mod tests;
mod uniform;

use super::member::Partitions;

pub(super) use spec::{Candidate, Spec, Subscriptions, Topic};

/// The assignors that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Spreads partitions evenly and moves as few as it can.
    Uniform,
    /// Gives each member a range of each topic; topics with the same partition count are assigned alike.
    Range,
}

impl Assignor {
    /// The assignor with Kafka's name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }
}

/// A target assignment: each member's part, in the order of `spec.members`.
pub(super) fn assign(assignor: Assignor, spec: &Spec<'_>) -> Vec<Partitions> {
    if spec.members.is_empty() {
        return Vec::new();
    }
    match (assignor, &spec.subscriptions) {
        (Assignor::Range, _) => range::assign(spec),
        (Assignor::Uniform, Subscriptions::Same) => uniform::assign(spec),
        (Assignor::Uniform, Subscriptions::Each(_)) => heterogeneous::assign(spec),
    }
}
