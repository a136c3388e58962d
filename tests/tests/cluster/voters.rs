//! Voters of the metadata quorum are removed, added, replaced and recovered on command.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::process::Command;

use esker_protocol::error::ErrorCode;
use esker_tests::cluster::{Cluster, find, free_addresses, run_to_end, wait_until};
use esker_tests::topics::new_topic;
use esker_tests::writer::PartitionWriter;
use esker_tests::{Esker, binary};

/// Runs `esker cluster ...` against the nodes that run; returns what it printed, or what it wrote to standard error.
pub(super) fn run(cluster: &Cluster, arguments: &[&str]) -> Result<String, String> {
    let addresses: Vec<String> = cluster.live().map(|at| cluster.address(at).to_string()).collect();
    let bootstrap = addresses.join(",");
    run_command(&[&["cluster"], arguments, &["--bootstrap", &bootstrap]].concat())
}

fn run_command(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// What a change is answered that was made before.
const IS_MADE: [&str; 4] = ["is no voter", "is a voter already", "VOTER_NOT_FOUND", "DUPLICATE_VOTER"];

/// Adds or removes a voter. What the quorum cannot do at the moment is tried again, and a new leader may not know of a node that has no vote; a
/// change whose answer was lost may have been made.
pub(super) fn change(cluster: &Cluster, what: &str, node_id: i32) {
    let node_id = node_id.to_string();
    let mut is_tried = false;
    find("the voters change", || match run(cluster, &["voters", what, &node_id]) {
        Ok(_) => Some(()),
        Err(error) if is_tried && IS_MADE.iter().any(|made| error.contains(made)) => Some(()),
        Err(error) => {
            assert!(error.contains("REQUEST_TIMED_OUT") || error.contains("is not in the cluster"), "{error}");
            is_tried = true;
            None
        }
    });
}

/// The voters, by node id.
pub(super) fn voters(cluster: &Cluster) -> BTreeSet<i32> {
    cluster.quorum().current_voters.iter().map(|voter| voter.replica_id).collect()
}

fn observers(cluster: &Cluster) -> BTreeSet<i32> {
    cluster.quorum().observers.iter().map(|observer| observer.replica_id).collect()
}

/// Creates a topic of one partition.
pub(super) fn create(cluster: &Cluster, name: &str, replication: i16) {
    assert_eq!(cluster.create(new_topic(name, 1, replication, &[])), ErrorCode::NONE, "{name}");
}

#[test]
fn a_voter_that_is_removed_stays_removed_until_it_is_added() {
    let mut cluster = Cluster::start(3);
    let all = voters(&cluster);
    let removed = cluster.node_id(cluster.controller());
    change(&cluster, "remove", removed);
    let left: BTreeSet<i32> = all.iter().copied().filter(|voter| *voter != removed).collect();
    // A leader knows of an observer by its first pull.
    let is_observer = |cluster: &Cluster| observers(cluster) == BTreeSet::from([removed]);
    wait_until("the leader handed over", || voters(&cluster) == left && is_observer(&cluster));
    wait_until("it has no vote to lose", || {
        run(&cluster, &["voters", "remove", &removed.to_string()]).is_err_and(|error| error.contains("is no voter"))
    });
    create(&cluster, "without", 3);
    // The quorum grows by itself, and not by the node that was removed, also after a restart of the node and under another leader.
    cluster.terminate(cluster.index_of(removed));
    let stopped = (0..3).find(|at| !cluster.live().any(|live| live == *at)).unwrap();
    cluster.restart(stopped);
    wait_until("it says why it has no vote", || cluster.node(stopped).log().contains("was removed from the voters"));
    let join = cluster.address(0).to_string();
    let fourth = cluster.add(&join);
    let grown: BTreeSet<i32> = left.iter().copied().chain([cluster.node_id(fourth)]).collect();
    wait_until("the fourth node is a voter", || voters(&cluster) == grown);
    let leader = cluster.controller();
    cluster.terminate(leader);
    wait_until("another leads", || voters(&cluster) == grown);
    cluster.restart(leader);
    cluster.wait_in_sync("without");
    wait_until("it is an observer still", || voters(&cluster) == grown && is_observer(&cluster));
    change(&cluster, "add", removed);
    assert_eq!(voters(&cluster), grown.into_iter().chain([removed]).collect());
    wait_until("the voters are listed", || {
        let listed = run(&cluster, &["voters"]);
        listed.is_ok_and(|listed| listed.contains("leader=") && listed.matches("voter").count() == 3)
    });
}

/// The flags of a node that is a broker only.
const BROKER_ONLY: [&str; 2] = ["--set", "process.roles=broker"];

#[test]
fn a_node_that_is_a_broker_only_gets_no_vote() {
    let mut cluster = Cluster::start(1);
    let join = cluster.address(0).to_string();
    // Two nodes have one voter.
    let broker = cluster.add(&join);
    cluster.terminate(broker);
    cluster.restart_with(broker, &BROKER_ONLY);
    let others = [cluster.add(&join), cluster.add(&join)];
    let broker_id = cluster.node_id(broker);
    let expected: BTreeSet<i32> = [0, others[0], others[1]].map(|at| cluster.node_id(at)).into();
    wait_until("the nodes with both roles are voters", || voters(&cluster) == expected);
    wait_until("the other is an observer", || observers(&cluster) == BTreeSet::from([broker_id]));
    let add = || run(&cluster, &["voters", "add", &broker_id.to_string()]);
    let refused = find("the refusal", || add().err().filter(|error| !error.contains("REQUEST_TIMED_OUT")));
    assert!(refused.contains("process.roles=broker,controller"), "{refused}");
    assert_eq!(voters(&cluster), expected);
    cluster.terminate(broker);
    cluster.restart(broker);
    change(&cluster, "add", broker_id);
    assert_eq!(voters(&cluster), expected.into_iter().chain([broker_id]).collect());
    // With its vote it may come back as a broker only: an operator takes the vote.
    cluster.terminate(broker);
    cluster.restart_with(broker, &BROKER_ONLY);
    assert!(cluster.node(broker).log().contains("keeps its vote, in spite of process.roles=broker"));
    assert!(voters(&cluster).contains(&broker_id));
}

#[test]
fn a_node_that_is_a_broker_only_begins_no_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let own = free_addresses(1)[0].to_string();
    let start = ["serve", "--data-dir", &data, "--listen", &own, "--http", "127.0.0.1:0"];
    let alone = run_to_end(&[&start[..], &BROKER_ONLY].concat());
    assert!(alone.contains("no node would be a controller") && alone.contains("broker,controller"), "{alone}");
    let first = run_to_end(&[&start[..], &BROKER_ONLY, &["--join", &own]].concat());
    assert!(first.contains("the first of its join list") && first.contains("broker,controller"), "{first}");
    Esker::spawn(&start);
}

#[test]
fn a_voter_that_is_killed_for_good_is_replaced_by_another_node() {
    let mut cluster = Cluster::start(4);
    let replacement = find("a node that does not vote", || observers(&cluster).first().copied());
    let dead = find("a voter that does not lead", || {
        let leader = cluster.node_id(cluster.controller());
        voters(&cluster).into_iter().find(|voter| *voter != leader)
    });
    let at = cluster.index_of(dead);
    cluster.kill(at);
    let mut expected = voters(&cluster);
    change(&cluster, "add", replacement);
    expected.insert(replacement);
    assert_eq!(voters(&cluster), expected);
    change(&cluster, "remove", dead);
    expected.remove(&dead);
    assert_eq!(voters(&cluster), expected);
    // Three voters do without one.
    let leader = cluster.controller();
    cluster.kill(leader);
    assert_ne!(cluster.controller(), leader);
    create(&cluster, "after", 2);
}

#[test]
fn a_node_with_an_emptied_disk_takes_the_place_of_its_former_self() {
    let mut cluster = Cluster::start(3);
    create(&cluster, "t", 3);
    let at = (0..3).find(|at| *at != cluster.controller()).unwrap();
    let node_id = cluster.node_id(at);
    let before = directory_of(&cluster, node_id).unwrap();
    cluster.kill(at);
    fs::remove_dir_all(cluster.data(at)).unwrap();
    wait_until("the dead node is fenced and unregistered", || {
        run(&cluster, &["unregister", &node_id.to_string()]).is_ok()
    });
    cluster.restart_with(at, &["--node-id", &node_id.to_string()]);
    assert_eq!(cluster.node_id(at), node_id);
    wait_until("the new disk has the vote of the old one, and the old one is no member", || {
        let now = directory_of(&cluster, node_id);
        now.is_some_and(|now| now != before) && voters(&cluster).len() == 3 && observers(&cluster).is_empty()
    });
    cluster.wait_in_sync("t");
}

/// The metadata folder of a voter.
fn directory_of(cluster: &Cluster, node_id: i32) -> Option<String> {
    let quorum = cluster.quorum();
    let mut of_node = quorum.current_voters.iter().filter(|voter| voter.replica_id == node_id);
    let directory = of_node.next()?.replica_directory_id.to_string();
    of_node.next().is_none().then_some(directory)
}

#[test]
fn a_quorum_that_is_lost_is_recovered_from_one_node() {
    let mut cluster = Cluster::start(3);
    for name in ["a", "b"] {
        create(&cluster, name, 3);
        cluster.wait_in_sync(name);
    }
    let data = cluster.data(0).display().to_string();
    let recover = ["cluster", "recover", "--data-dir", &data, "--yes"];
    let in_use = run_command(&recover).unwrap_err();
    assert!(in_use.contains(&data), "{in_use}");
    cluster.kill(1);
    cluster.kill(2);
    cluster.kill(0);
    let elsewhere = tempfile::tempdir().unwrap();
    let no_member = ["cluster", "recover", "--yes", "--data-dir", &elsewhere.path().display().to_string()];
    assert!(run_command(&no_member).unwrap_err().contains("no data folder"));
    let asked = run_command(&recover[..4]).unwrap_err();
    assert!(asked.contains("nothing is changed"), "without an answer: {asked}");
    let recovered = run_command(&recover).unwrap();
    assert!(recovered.contains("other voters") && recovered.contains("is the only voter"), "{recovered}");
    cluster.restart(0);
    let survivor = cluster.node_id(0);
    assert_eq!(voters(&cluster), [survivor].into());
    for name in ["a", "b"] {
        let topic = find("the topic is led by the survivor", || {
            cluster.topic(name).filter(|topic| topic.partitions[0].leader_id == survivor)
        });
        assert_eq!(topic.partitions[0].replica_nodes.len(), 3, "{name}");
    }
    create(&cluster, "alone", 1);
    // The others come back with their data, one at a time, and take the survivor's log.
    for at in [1, 2] {
        cluster.restart(at);
        assert!(cluster.data(at).join("__cluster_metadata-0/replaced-metadata.log").exists(), "node {at}");
    }
    // New voters are listed before the change is committed; until then the cluster cannot do without the survivor.
    cluster.wait_for_voters();
    assert_eq!(voters(&cluster).len(), 3);
    for name in ["a", "b"] {
        cluster.wait_in_sync(name);
    }
    cluster.kill(0);
    assert_ne!(cluster.controller(), 0);
    find("the topic is known", || cluster.topic("alone"));
}

/// The others went on without the survivor: what they decided is lost on every node, and no replica keeps records of leaders that never were.
#[test]
fn what_a_survivor_lacks_is_lost_on_every_node() {
    let mut cluster = Cluster::start(3);
    cluster.create_topic("t", 1, "flush");
    let addresses = cluster.addresses();
    let mut writer = PartitionWriter::new("t", 0, &addresses);
    write(&mut writer, 1..=5);
    cluster.kill(0);
    write(&mut writer, 6..=10);
    create(&cluster, "later", 2);
    cluster.kill(1);
    cluster.kill(2);
    let data = cluster.data(0).display().to_string();
    run_command(&["cluster", "recover", "--data-dir", &data, "--yes"]).unwrap();
    (0..3).for_each(|at| cluster.restart(at));
    cluster.wait_for_voters();
    cluster.wait_in_sync("t");
    let mut writer = PartitionWriter::new("t", 0, &addresses);
    write(&mut writer, 11..=15);
    assert!(cluster.topic("later").is_none(), "the survivor never knew it");
    let (records, end) = cluster.read_all("t", 0);
    let values: Vec<u64> = records.iter().map(|(_, value)| *value).collect();
    assert!((1..=5).chain(11..=15).all(|value| values.contains(&value)), "{values:?}");
    (0..3).for_each(|at| assert!(cluster.terminate(at).success()));
    super::assert_equal_replicas(&cluster, "t", 0, end);
}

fn write(writer: &mut PartitionWriter, values: RangeInclusive<u64>) {
    for value in values {
        writer.write(value);
    }
}
