//! Forming a cluster: nodes with empty data folders that were started with the same `--join` list become one cluster, in any order of start.
//!
//! Only the node at the first address of the sorted list may begin the cluster, and only when every address answers with an empty folder and
//! the same list. All others join. Addresses are the same text on all nodes, so the first is the same for all, whichever answers late or
//! restarts with another folder. A node knows its own address by the directory id in the answer; a node that is not in its list only joins.
//! Where any node is in a cluster already, the others join that one.
//!
//! Must never: let two nodes begin. What is doubtful (lists that differ, one folder at two addresses, two clusters) blocks, and the reason
//! names both sides.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use esker_protocol::primitives::Uuid;

/// What an address of the list answered, all of one round: asked after this node started, and not kept for a later round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, and why.
    Unreachable(String),
    /// A node that is in no cluster yet.
    Empty {
        /// `directory.id` of its metadata folder.
        directory: Uuid,
        /// Its own `--join` list.
        list: Vec<String>,
    },
    /// A node of a cluster.
    Member {
        /// The cluster.
        cluster_id: String,
        /// The node.
        node_id: i32,
    },
}

/// What a node knows when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// `directory.id` of this node's metadata folder.
    pub directory: Uuid,
    /// The cluster that its data folders name, if they do.
    pub cluster_id: Option<&'a str>,
    /// Its `--join` list.
    pub list: &'a [String],
    /// Whether it may be a voter of the metadata quorum (`process.roles`).
    pub may_vote: bool,
    /// The answers by address as it stands in the list; an address without one has not answered yet.
    pub answers: &'a BTreeMap<String, Answer>,
}

/// An address that keeps this node from forming or joining, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The address as it stands in the list.
    pub address: String,
    /// The reason, for people.
    pub why: String,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.why)
    }
}

/// What a node does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It makes a cluster of one, which the others then join.
    Begin,
    /// It joins the cluster of the node at this address.
    Join {
        /// The address.
        address: String,
        /// The cluster.
        cluster_id: String,
    },
    /// It asks again later.
    Wait {
        /// What it waits for.
        blocked_by: Vec<Blocked>,
    },
    /// It must not join or begin; only an operator can tell which cluster is meant, or which node is a controller.
    Refuse {
        /// What contradicts what, and what to do.
        message: String,
    },
}

/// An address for comparisons: host names have no case.
fn canonical(address: &str) -> String {
    address.trim().to_ascii_lowercase()
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut sorted: Vec<String> = list.iter().map(|address| canonical(address)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

/// Decides what a node does after a round of answers.
pub fn decide(round: Round<'_>) -> Decision {
    let answers: BTreeMap<String, &Answer> = round.answers.iter().map(|(at, it)| (canonical(at), it)).collect();
    let list = sorted(round.list);
    join(round, &list, &answers).unwrap_or_else(|| begin(round, &list, &answers))
}

/// The cluster that a node of the list is in; `None` where none is.
fn join(round: Round<'_>, list: &[String], answers: &BTreeMap<String, &Answer>) -> Option<Decision> {
    let members: Vec<(&String, &String, i32)> = list
        .iter()
        .filter_map(|address| match answers.get(address) {
            Some(Answer::Member { cluster_id, node_id }) => Some((address, cluster_id, *node_id)),
            _ => None,
        })
        .collect();
    let (address, cluster_id, node_id) = *members.first()?;
    if let Some((other, other_id, other_node)) = members.iter().find(|(_, id, _)| *id != cluster_id) {
        let message = format!(
            "{address} is node {node_id} of cluster {cluster_id}, and {other} is node {other_node} of cluster {other_id}: give --join the nodes of one cluster"
        );
        return Some(Decision::Refuse { message });
    }
    if let Some(own) = round.cluster_id.filter(|own| own != cluster_id) {
        let message = format!(
            "the data folder of this node belongs to cluster {own}, and {address} is node {node_id} of cluster {cluster_id}: start this node with an empty data folder, or with the nodes of its own cluster"
        );
        return Some(Decision::Refuse { message });
    }
    Some(Decision::Join { address: given(round.list, address), cluster_id: cluster_id.clone() })
}

/// What a node does while no node of the list is known to be in a cluster.
fn begin(round: Round<'_>, list: &[String], answers: &BTreeMap<String, &Answer>) -> Decision {
    let blocked = |address: &String, why: String| Blocked { address: given(round.list, address), why };
    let reasons = list.iter().filter_map(|address| {
        let why = obstacle(round, list, address, answers)?;
        Some(blocked(address, why))
    });
    let mut blocked_by: Vec<Blocked> = reasons.collect();
    let Some(first) = list.first() else { return Decision::Wait { blocked_by } };
    if !blocked_by.is_empty() {
        return Decision::Wait { blocked_by };
    }
    let is_own = |address: &&String| directory_at(answers, address) == Some(round.directory);
    match list.iter().find(is_own) {
        Some(own) if own == first && round.may_vote => return Decision::Begin,
        Some(own) if own == first => return Decision::Refuse { message: without_controller(first) },
        Some(_) => {
            let why = "is the first of the join list: it begins the cluster once each node of the list answers it";
            blocked_by.push(blocked(first, why.to_owned()));
        }
        None => {
            let why = format!(
                "is in no cluster, and this node (directory {}) is not at any address of its join list {}: it can only join a cluster",
                round.directory,
                text(list)
            );
            blocked_by.extend(list.iter().map(|address| blocked(address, why.clone())));
        }
    }
    Decision::Wait { blocked_by }
}

/// Why a node that is a broker only does not begin a cluster. Another node must not begin instead: the roles may change with a restart, and then two
/// nodes would begin.
fn without_controller(first: &str) -> String {
    format!(
        "{first} is this node and the first of its join list, so it has to begin the cluster, and with process.roles=broker it cannot be a controller: start it with process.roles=broker,controller, or leave it out of the join list (controller.quorum.bootstrap.servers) of all nodes"
    )
}

/// Why the answer of an address keeps the cluster from being formed.
fn obstacle(
    round: Round<'_>,
    list: &[String],
    address: &String,
    answers: &BTreeMap<String, &Answer>,
) -> Option<String> {
    match answers.get(address) {
        None => Some("has not answered yet".to_owned()),
        Some(Answer::Unreachable(reason)) => Some(format!("does not answer: {reason}")),
        // Handled before.
        Some(Answer::Member { .. }) => None,
        Some(Answer::Empty { directory, list: theirs }) => {
            let theirs = sorted(theirs);
            if theirs != list {
                return Some(format!(
                    "was started with the join list {}, and this node with {}: all nodes need the same list",
                    text(&theirs),
                    text(list)
                ));
            }
            let same = |other: &&String| *other != address && directory_at(answers, other) == Some(*directory);
            list.iter().find(same).map(|other| {
                format!(
                    "and {other} answer with the same directory {directory}: they are one node with two addresses, or a data folder was copied; {} is that of this node",
                    round.directory
                )
            })
        }
    }
}

fn directory_at(answers: &BTreeMap<String, &Answer>, address: &String) -> Option<Uuid> {
    match answers.get(address) {
        Some(Answer::Empty { directory, .. }) => Some(*directory),
        _ => None,
    }
}

/// The address as it stands in the list.
fn given(list: &[String], address: &str) -> String {
    list.iter().find(|it| canonical(it) == address).map_or(address, |it| it.trim()).to_owned()
}

fn text(list: &[String]) -> String {
    list.join(",")
}
