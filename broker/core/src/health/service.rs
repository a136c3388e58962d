//! What keeps a registered broker from serving: it is fenced, or it has lost its lease.

use std::fmt;

/// The active controller as a broker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerContact {
    /// No node leads the metadata quorum, as far as the broker knows.
    NoLeader {
        /// The other voters: node id and address.
        voters: Vec<(i32, String)>,
    },
    /// This node led it last, and has not heard from a majority since.
    NoMajority {
        /// The other voters: node id and address.
        voters: Vec<(i32, String)>,
    },
    /// This node or another leads it.
    Leader {
        /// The leader.
        node_id: i32,
        /// Where it is.
        address: String,
        /// Why the last heartbeat has no answer that counts; `None`: it has one.
        failure: Option<String>,
        /// Voters besides the leader and this node: node id and address.
        voters: Vec<(i32, String)>,
    },
}

impl fmt::Display for ControllerContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader { voters } => write!(f, "the metadata quorum has no leader{}", list_voters(voters)),
            Self::NoMajority { voters } => write!(f, "the metadata quorum has no majority{}", list_voters(voters)),
            Self::Leader { node_id, address, failure, voters } => {
                write!(f, "the active controller, node {node_id} at {address}, ")?;
                match failure {
                    Some(failure) => write!(f, "does not take heartbeats: {failure}{}", list_voters(voters)),
                    None => f.write_str("answers heartbeats"),
                }
            }
        }
    }
}

fn list_voters(voters: &[(i32, String)]) -> String {
    let voters: Vec<_> = voters.iter().map(|(id, address)| format!("node {id} at {address}")).collect();
    if voters.is_empty() { String::new() } else { format!("; other voters: {}", voters.join(", ")) }
}

/// What a broker knows of its place in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// The metadata has a registration of this broker.
    pub registered: bool,
    /// It is fenced, by the metadata or by the controller's last answer.
    pub fenced: bool,
    /// Its lease has ended.
    pub isolated: bool,
    /// The controller.
    pub controller: ControllerContact,
    /// Entries of the metadata log that are in force here.
    pub applied: u64,
    /// Entries that the controller has, as far as its last answer says so.
    pub target: u64,
}

/// Why the broker should not be sent clients; `None`: nothing in its place in the cluster keeps it from serving.
pub fn obstacle(state: &ServiceState) -> Option<String> {
    let ServiceState { registered, fenced, isolated, controller, applied, target } = state;
    let is_answered = matches!(controller, ControllerContact::Leader { failure: None, .. });
    if !registered {
        return Some(format!("not registered with the cluster: {controller}"));
    }
    match (fenced, isolated) {
        (true, _) if is_answered && applied < target => {
            Some(format!("fenced: catching up with the metadata log, at {applied} of {target}"))
        }
        (true, _) => Some(format!("fenced: {controller}")),
        (false, true) => Some(format!("isolated: its lease has ended, nothing is acknowledged: {controller}")),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(failure: Option<&str>) -> ControllerContact {
        let voters = vec![(3, "c:1".into())];
        ControllerContact::Leader { node_id: 2, address: "b:1".into(), failure: failure.map(str::to_owned), voters }
    }

    #[test]
    fn it_says_what_blocks() {
        let good = ServiceState {
            registered: true,
            fenced: false,
            isolated: false,
            controller: leader(None),
            applied: 340,
            target: 340,
        };
        let no_leader = ControllerContact::NoLeader { voters: vec![(1, "a:1".into()), (3, "c:1".into())] };
        let no_majority = ControllerContact::NoMajority { voters: vec![(1, "a:1".into())] };
        let refused = || leader(Some("connection refused"));
        let cases = [
            (good.clone(), None),
            (ServiceState { applied: 1, ..good.clone() }, None),
            (ServiceState { registered: false, ..good.clone() }, Some("not registered")),
            (
                ServiceState { fenced: true, isolated: true, applied: 120, ..good.clone() },
                Some("fenced: catching up with the metadata log, at 120 of 340"),
            ),
            (
                ServiceState { fenced: true, isolated: true, ..good.clone() },
                Some("fenced: the active controller, node 2 at b:1, answers heartbeats"),
            ),
            (
                ServiceState { fenced: true, isolated: true, applied: 120, controller: refused(), ..good.clone() },
                Some(
                    "fenced: the active controller, node 2 at b:1, does not take heartbeats: connection refused; other voters: node 3 at c:1",
                ),
            ),
            (
                ServiceState { isolated: true, controller: refused(), ..good.clone() },
                Some("nothing is acknowledged: the active controller, node 2 at b:1, does not take heartbeats"),
            ),
            (
                ServiceState { isolated: true, controller: no_majority, ..good.clone() },
                Some("the metadata quorum has no majority; other voters: node 1 at a:1"),
            ),
            (
                ServiceState { isolated: true, controller: no_leader, ..good },
                Some("the metadata quorum has no leader; other voters: node 1 at a:1, node 3 at c:1"),
            ),
        ];
        for (state, expected) in cases {
            let found = obstacle(&state);
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
                _ => panic!("{state:?}: {found:?}"),
            }
        }
    }
}
