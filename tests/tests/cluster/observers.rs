//! Brokers beyond the voters pull the metadata log: they follow a new controller, get a vote on command, and take a snapshot after a long absence.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::ReplicaState;
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_tests::cluster::{Cluster, find, wait_until};
use esker_tests::wire::Wire;

use super::voters::{change, create, voters};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Entries after which the log is replaced by a snapshot, and those that are kept beside it.
const SNAPSHOT_AFTER: usize = 4096;

/// The observers as the leader knows them.
fn observers(cluster: &Cluster) -> Vec<ReplicaState> {
    cluster.quorum().observers
}

/// Waits until these nodes are the observers, and have all of the log by their last pulls.
fn wait_for_observers(cluster: &Cluster, expected: &BTreeSet<i32>) {
    wait_until("the observers have caught up", || {
        let quorum = cluster.quorum();
        let ids: BTreeSet<i32> = quorum.observers.iter().map(|observer| observer.replica_id).collect();
        let has_all = |observer: &ReplicaState| {
            let is_known = observer.last_fetch_timestamp > 0 && observer.last_caught_up_timestamp > 0;
            is_known && observer.log_end_offset >= quorum.high_watermark
        };
        ids == *expected && quorum.observers.iter().all(has_all)
    });
}

/// Waits until each node that runs knows the topic.
fn wait_for_topic(cluster: &Cluster, name: &str) {
    wait_until("all nodes know the topic", || {
        cluster.live().all(|at| {
            let answer = Wire::new(cluster.address(at), ANSWER).metadata(name);
            answer.is_ok_and(|answer| answer.topics.iter().all(|topic| topic.error_code == ErrorCode::NONE))
        })
    });
}

#[test]
fn observers_follow_another_controller_and_get_votes_on_command() {
    let mut cluster = Cluster::start(5);
    let all: BTreeSet<i32> = (0..5).map(|at| cluster.node_id(at)).collect();
    let seen: BTreeSet<i32> = all.difference(&voters(&cluster)).copied().collect();
    assert_eq!(seen.len(), 2, "three of five nodes vote");
    wait_for_observers(&cluster, &seen);
    create(&cluster, "before", 5);
    wait_for_topic(&cluster, "before");
    wait_until("the leader has their lags", || {
        let scrape = cluster.node(cluster.controller()).http_get("/metrics");
        scrape.matches("esker_raft_observer_lag{").count() == 2
    });
    for round in 0..2 {
        // Killed, and then paused: its connections stand.
        let leader = cluster.controller();
        match round {
            0 => cluster.kill(leader),
            _ => cluster.pause(leader),
        }
        assert_ne!(cluster.controller(), leader);
        let name = format!("after-{round}");
        create(&cluster, &name, 2);
        wait_for_topic(&cluster, &name);
        match round {
            0 => cluster.restart(leader),
            _ => cluster.resume(leader),
        }
        wait_for_topic(&cluster, &name);
        wait_for_observers(&cluster, &seen);
    }
    let promoted = *seen.first().unwrap();
    change(&cluster, "add", promoted);
    let mut expected: BTreeSet<i32> = all.difference(&seen).copied().chain([promoted]).collect();
    assert_eq!(voters(&cluster), expected);
    let removed = find("a voter that does not lead", || {
        let leader = cluster.node_id(cluster.controller());
        expected.iter().copied().find(|voter| *voter != leader && *voter != promoted)
    });
    change(&cluster, "remove", removed);
    expected.remove(&removed);
    wait_for_observers(&cluster, &all.difference(&expected).copied().collect());
    create(&cluster, "at-last", 5);
    wait_for_topic(&cluster, "at-last");
    assert_eq!(voters(&cluster), expected);
}

/// A voter that was killed and removed pulls the log when it is back: no member of the quorum is left of it meanwhile.
#[test]
fn a_voter_that_was_removed_while_it_was_dead_comes_back_as_an_observer() {
    let mut cluster = Cluster::start(4);
    let leader = cluster.node_id(cluster.controller());
    let dead = voters(&cluster).into_iter().find(|voter| *voter != leader).unwrap();
    let at = cluster.index_of(dead);
    cluster.kill(at);
    change(&cluster, "remove", dead);
    create(&cluster, "meanwhile", 2);
    wait_until("the dead node is no member", || {
        let says_so = |at| cluster.node(at).log().contains("a member without a vote leaves the metadata quorum");
        cluster.live().any(says_so)
    });
    cluster.restart(at);
    wait_for_topic(&cluster, "meanwhile");
    wait_until("it is an observer", || observers(&cluster).iter().any(|observer| observer.replica_id == dead));
}

#[test]
fn an_observer_that_was_away_for_long_takes_the_snapshot() {
    let mut cluster = Cluster::start_after(&[Duration::ZERO; 2], &["--set", "controller.quorum.size=1"]);
    create(&cluster, "t", 2);
    let seen = find("the observer", || observers(&cluster).first().map(|observer| observer.replica_id));
    let (away, voter) = (cluster.index_of(seen), cluster.controller());
    cluster.kill(away);
    let mut wire = Wire::new(cluster.address(voter), ANSWER);
    for number in 0..SNAPSHOT_AFTER + SNAPSHOT_AFTER / 4 {
        let value = (100_000 + number).to_string();
        let config = AlterableConfig { name: "retention.ms".into(), config_operation: 0, value: Some(value.into()) };
        let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = wire.ask(1, &request).expect("the voter answers");
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE, "{number}");
    }
    create(&cluster, "later", 1);
    wait_until("there is a snapshot", || cluster.data(voter).join("__cluster_metadata-0/metadata.snapshot").exists());
    cluster.restart(away);
    wait_for_topic(&cluster, "later");
    assert!(cluster.node(away).log().contains("needs the snapshot"), "{}", cluster.node(away).log());
    wait_for_observers(&cluster, &[seen].into());
    cluster.wait_in_sync("t");
}
