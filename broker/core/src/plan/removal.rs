//! The steps by which a node leaves the cluster. Draining a node is the first half of it, so that the two never contradict each other.

/// What the cluster knows of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its broker is registered.
    pub registered: bool,
    /// Its broker is alive.
    pub alive: bool,
    /// Its log dirs are cordoned.
    pub cordoned: bool,
    /// Partitions that have a replica on it, or will have one.
    pub replicas: usize,
    /// It is a voter of the metadata quorum.
    pub voter: bool,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalStep {
    /// Cordon it, so that it gets no new replicas.
    Cordon,
    /// Move its replicas to other brokers.
    MoveReplicas,
    /// Take its vote.
    RemoveVoter,
    /// The operator stops it.
    Stop,
    /// Unregister its broker.
    Unregister,
    /// It has left the cluster.
    Done,
}

impl RemovalStep {
    /// Whether the step is one of draining the node, which stays in the cluster.
    pub fn drains(self) -> bool {
        matches!(self, Self::Cordon | Self::MoveReplicas)
    }
}

/// The next step of the removal of a node. Each step is taken only when its facts ask for it: the removal may be interrupted anywhere.
pub fn next_removal_step(node: NodeFacts) -> RemovalStep {
    match node {
        NodeFacts { alive: true, cordoned: false, .. } => RemovalStep::Cordon,
        NodeFacts { replicas: 1.., .. } => RemovalStep::MoveReplicas,
        NodeFacts { voter: true, .. } => RemovalStep::RemoveVoter,
        NodeFacts { alive: true, .. } => RemovalStep::Stop,
        NodeFacts { registered: true, .. } => RemovalStep::Unregister,
        _ => RemovalStep::Done,
    }
}
