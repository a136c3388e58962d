//! Tables of single decisions, and clusters that form in any order of events.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn dir(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

const LIST: &[&str] = &["a:1", "b:1", "c:1"];

fn empty(directory: u8) -> Answer {
    Answer::Empty { directory: dir(directory), list: strings(LIST) }
}

fn with_list(directory: u8, list: &[&str]) -> Answer {
    Answer::Empty { directory: dir(directory), list: strings(list) }
}

fn member(cluster: &str, node_id: i32) -> Answer {
    Answer::Member { cluster_id: cluster.to_owned(), node_id }
}

fn refused() -> Answer {
    Answer::Unreachable("connection refused".to_owned())
}

/// The decision of the node with directory 1, 2, ... after these answers of its list.
fn decided(own: u8, list: &[&str], answers: &[(&str, Answer)]) -> Decision {
    let answers = answers.iter().map(|(address, answer)| ((*address).to_owned(), answer.clone())).collect();
    decide(Round { directory: dir(own), cluster_id: None, list: &strings(list), may_vote: true, answers: &answers })
}

/// The addresses that block, and their reasons as one text.
fn waits(decision: Decision) -> (Vec<String>, String) {
    let Decision::Wait { blocked_by } = decision else { panic!("{decision:?}") };
    let text: Vec<String> = blocked_by.iter().map(ToString::to_string).collect();
    (blocked_by.into_iter().map(|blocked| blocked.address).collect(), text.join("; "))
}

#[test]
fn the_first_of_the_list_begins_and_the_others_wait_for_it() {
    let all = [("a:1", empty(1)), ("b:1", empty(2)), ("c:1", empty(3))];
    assert_eq!(decided(1, LIST, &all), Decision::Begin);
    for own in [2, 3] {
        let (blocked, why) = waits(decided(own, LIST, &all));
        assert_eq!(blocked, ["a:1"]);
        assert!(why.contains("begins the cluster"), "{why}");
    }
    let order = &["c:1", "B:1 ", "a:1"];
    let other_order = [("c:1", with_list(3, LIST)), ("B:1 ", with_list(2, order)), ("a:1", empty(1))];
    assert_eq!(decided(1, order, &other_order), Decision::Begin, "order and case are no difference");
    assert_eq!(decided(9, &["x:1"], &[("x:1", with_list(9, &["x:1"]))]), Decision::Begin, "a list of itself");
}

#[test]
fn forming_waits_for_every_node_by_address() {
    let cases = [
        ("not asked yet", vec![("a:1", empty(1)), ("b:1", empty(2))], vec!["c:1"], "has not answered yet"),
        (
            "down",
            vec![("a:1", empty(1)), ("b:1", refused()), ("c:1", refused())],
            vec!["b:1", "c:1"],
            "connection refused",
        ),
        (
            "another list",
            vec![("a:1", empty(1)), ("b:1", with_list(2, &["a:1", "b:1"])), ("c:1", empty(3))],
            vec!["b:1"],
            "the join list a:1,b:1, and this node with a:1,b:1,c:1",
        ),
        (
            "one node twice",
            vec![("a:1", empty(1)), ("b:1", empty(1)), ("c:1", empty(3))],
            vec!["a:1", "b:1"],
            "same directory",
        ),
        (
            "a copied folder",
            vec![("a:1", empty(1)), ("b:1", empty(2)), ("c:1", empty(2))],
            vec!["b:1", "c:1"],
            "and c:1 answer with the same directory",
        ),
    ];
    for (why, answers, expected, part) in cases {
        let (blocked, text) = waits(decided(1, LIST, &answers));
        assert_eq!(blocked, expected, "{why}");
        assert!(text.contains(part), "{why}: {text}");
    }
    assert_eq!(waits(decided(1, &[], &[])).0, [] as [&str; 0]);
}

#[test]
fn a_node_that_is_not_in_its_list_only_joins() {
    let list = &["b:1", "c:1"];
    let others = [("b:1", with_list(2, list)), ("c:1", with_list(3, list))];
    let (blocked, why) = waits(decided(1, list, &others));
    assert_eq!(blocked, ["b:1", "c:1"]);
    assert!(why.contains(&dir(1).to_string()) && why.contains("b:1,c:1"), "{why}");
    let joined = decided(1, list, &[("b:1", member("X", 1)), ("c:1", refused())]);
    assert_eq!(joined, Decision::Join { address: "b:1".into(), cluster_id: "X".into() });
}

#[test]
fn where_one_is_in_a_cluster_the_others_join_it() {
    let join = |address: &str| Decision::Join { address: address.into(), cluster_id: "X".into() };
    let cases = [
        ("the first comes late", vec![("a:1", empty(1)), ("b:1", member("X", 1)), ("c:1", empty(3))], join("b:1")),
        ("the rest is down", vec![("a:1", empty(1)), ("b:1", refused()), ("c:1", member("X", 1))], join("c:1")),
        ("lists differ", vec![("a:1", with_list(2, &["z:1"])), ("b:1", member("X", 1))], join("b:1")),
        ("two members", vec![("b:1", member("X", 1)), ("c:1", member("X", 2))], join("b:1")),
    ];
    for (why, answers, expected) in cases {
        assert_eq!(decided(1, LIST, &answers), expected, "{why}");
    }
}

#[test]
fn two_clusters_are_refused_and_named() {
    let refused = decided(1, LIST, &[("a:1", empty(1)), ("b:1", member("X", 4)), ("c:1", member("Y", 5))]);
    let Decision::Refuse { message } = refused else { panic!("{refused:?}") };
    for part in ["b:1 is node 4 of cluster X", "c:1 is node 5 of cluster Y"] {
        assert!(message.contains(part), "{message}");
    }
    let answers = BTreeMap::from([("a:1".to_owned(), member("X", 1))]);
    let list = strings(LIST);
    let round = Round { directory: dir(1), cluster_id: Some("Y"), list: &list, may_vote: true, answers: &answers };
    let Decision::Refuse { message } = decide(round) else { panic!() };
    assert!(message.contains("cluster Y") && message.contains("cluster X"), "{message}");
    let same = Round { cluster_id: Some("X"), ..round };
    assert!(matches!(decide(same), Decision::Join { .. }), "a node that comes back");
}

#[test]
fn a_node_that_is_a_broker_only_joins_and_never_begins() {
    let all = [("a:1", empty(1)), ("b:1", empty(2)), ("c:1", empty(3))];
    let down = [("a:1", empty(1)), ("b:1", refused()), ("c:1", empty(3))];
    let formed = [("a:1", empty(1)), ("b:1", member("X", 4)), ("c:1", empty(3))];
    let decided = |own: u8, answers: &[(&str, Answer)]| {
        let answers = answers.iter().map(|(address, answer)| ((*address).to_owned(), answer.clone())).collect();
        let list = strings(LIST);
        decide(Round { directory: dir(own), cluster_id: None, list: &list, may_vote: false, answers: &answers })
    };
    let Decision::Refuse { message } = decided(1, &all) else { panic!("the first would begin") };
    for part in
        ["a:1 is this node and the first", "process.roles=broker,controller", "controller.quorum.bootstrap.servers"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(matches!(decided(1, &down), Decision::Wait { .. }), "a node that is down may be in a cluster");
    assert!(matches!(decided(2, &all), Decision::Wait { .. }), "another waits for the first");
    assert!(matches!(decided(1, &formed), Decision::Join { .. }), "a cluster is joined");
}

/// Nodes on which rounds run. A round asks one address after the other, and other nodes go on in between.
struct Net {
    nodes: Vec<Node>,
    list: Vec<String>,
    clusters: usize,
}

#[derive(Default)]
struct Node {
    /// Rises when the node starts with an empty folder.
    folder: u8,
    up: bool,
    cluster: Option<usize>,
    round: BTreeMap<String, Answer>,
}

impl Net {
    fn new(count: usize) -> Self {
        let list = (0..count).map(|at| format!("n{at}:1")).collect();
        Self { nodes: (0..count).map(|_| Node::default()).collect(), list, clusters: 0 }
    }

    fn directory(&self, at: usize) -> Uuid {
        dir(at as u8 * 30 + self.nodes[at].folder + 1)
    }

    fn answer(&self, at: usize) -> Answer {
        match (self.nodes[at].up, self.nodes[at].cluster) {
            (false, _) => refused(),
            (true, Some(cluster)) => member(&cluster.to_string(), at as i32),
            (true, None) => Answer::Empty { directory: self.directory(at), list: self.list.clone() },
        }
    }

    /// `at` asks an address, if it still has to.
    fn ask(&mut self, at: usize, address: usize, reaches: bool) {
        if !self.nodes[at].up || self.nodes[at].cluster.is_some() {
            return;
        }
        let answer = if reaches || at == address { self.answer(address) } else { refused() };
        let name = self.list[address].clone();
        self.nodes[at].round.insert(name, answer);
    }

    /// `at` decides on what it heard, however old that is, and begins a new round.
    fn decide(&mut self, at: usize) {
        if !self.nodes[at].up || self.nodes[at].cluster.is_some() {
            return;
        }
        let answers = std::mem::take(&mut self.nodes[at].round);
        let directory = self.directory(at);
        match decide(Round { directory, cluster_id: None, list: &self.list, may_vote: true, answers: &answers }) {
            Decision::Begin => {
                self.nodes[at].cluster = Some(self.clusters);
                self.clusters += 1;
            }
            Decision::Join { address, cluster_id } => {
                let target = self.list.iter().position(|it| *it == address).unwrap();
                // The join is a request to the member, which must still be there.
                let there =
                    self.nodes[target].up && self.nodes[target].cluster.map(|id| id.to_string()) == Some(cluster_id);
                if there {
                    self.nodes[at].cluster = self.nodes[target].cluster;
                }
            }
            Decision::Wait { blocked_by } => assert!(!blocked_by.is_empty(), "a reason is named"),
            Decision::Refuse { message } => panic!("{message}"),
        }
    }

    /// Stops a node; with `wipe` its folder is lost.
    fn stop(&mut self, at: usize, wipe: bool) {
        let node = &mut self.nodes[at];
        node.up = false;
        node.round.clear();
        if wipe {
            node.folder = (node.folder + 1) % 30;
            node.cluster = None;
        }
    }

    fn full_round(&mut self, at: usize) {
        (0..self.nodes.len()).for_each(|address| self.ask(at, address, true));
        self.decide(at);
    }

    fn clusters(&self) -> Vec<usize> {
        let mut ids: Vec<usize> = self.nodes.iter().filter_map(|node| node.cluster).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// All are up and hear each other: they become one cluster.
    fn settle(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.up = true);
        for _ in 0..3 {
            (0..self.nodes.len()).rev().for_each(|at| self.full_round(at));
        }
        assert!(self.nodes.iter().all(|node| node.cluster.is_some()), "all are in a cluster");
        assert_eq!(self.clusters().len(), 1);
    }
}

#[test]
fn three_nodes_form_one_cluster_in_any_order_of_start() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut net = Net::new(3);
        for (started, at) in order.into_iter().enumerate() {
            assert_eq!(net.clusters(), [] as [usize; 0], "{order:?}: not before all are there");
            net.nodes[at].up = true;
            order[..=started].iter().for_each(|at| net.full_round(*at));
        }
        order.iter().for_each(|at| net.full_round(*at));
        assert!(net.nodes.iter().all(|node| node.cluster == Some(0)), "{order:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Start(usize),
    Stop(usize, bool),
    Ask(usize, usize, bool),
    FullRound(usize),
    Decide(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5usize).prop_map(Step::Start),
        1 => (0..5usize, prop::bool::weighted(0.3)).prop_map(|(at, wipe)| Step::Stop(at, wipe)),
        8 => (0..5usize, 0..5usize, prop::bool::weighted(0.9)).prop_map(|(at, to, reaches)| Step::Ask(at, to, reaches)),
        3 => (0..5usize).prop_map(Step::FullRound),
        4 => (0..5usize).prop_map(Step::Decide),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nodes start, stop, lose folders before they are in a cluster, and decide on old answers.
    #[test]
    fn never_two_clusters_and_one_in_the_end(count in 1..6usize, steps in vec(step(), 0..120)) {
        let mut net = Net::new(count);
        for step in steps {
            match step {
                Step::Start(at) => net.nodes[at % count].up = true,
                // A cluster whose only disk is lost is gone: that is not a matter of forming.
                Step::Stop(at, wipe) => {
                    let at = at % count;
                    let others = net.nodes.iter().enumerate().any(|(it, node)| it != at && node.cluster.is_some());
                    net.stop(at, wipe && (net.nodes[at].cluster.is_none() || others));
                }
                Step::Ask(at, address, reaches) => net.ask(at % count, address % count, reaches),
                Step::FullRound(at) => net.full_round(at % count),
                Step::Decide(at) => net.decide(at % count),
            }
            prop_assert!(net.clusters().len() <= 1, "two clusters");
        }
        net.settle();
    }
}
