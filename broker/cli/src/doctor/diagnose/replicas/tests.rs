use super::super::super::finding::Severity;
use super::super::test_facts::{assert_worst, healthy, partition};
use super::*;

#[test]
fn replicas_out_of_sync_are_explained() {
    assert_worst(&check_replication(&healthy()), Severity::Ok, &["1 partition"]);
    let mut facts = healthy();
    facts.topics[0].partitions = vec![partition(0, &[1, 2, 3], &[1, 2]), partition(1, &[2, 3, 1], &[2, 1])];
    assert_worst(&check_replication(&facts), Severity::Warning, &["broker 3 runs, but is behind", "t-0, t-1"]);
    facts.topics[0].partitions[0].offline = vec![3];
    facts.topics[0].partitions.pop();
    assert_worst(&check_replication(&facts), Severity::Warning, &["log dir of broker 3 has failed"]);
    facts.brokers[2].fenced = true;
    assert_worst(&check_replication(&facts), Severity::Warning, &["broker 3 is fenced"]);
    facts.brokers.pop();
    assert_worst(&check_replication(&facts), Severity::Warning, &["broker 3 does not run"]);
}

#[test]
fn partitions_that_refuse_writes_are_errors() {
    let mut facts = healthy();
    facts.topics[0].partitions = vec![partition(0, &[1, 2, 3], &[1])];
    assert_worst(&check_replication(&facts), Severity::Error, &["min.insync.replicas", "t-0"]);
    facts.topics[0].partitions[0].leader = None;
    assert_worst(&check_replication(&facts), Severity::Error, &["no leader", "t-0"]);
}

#[test]
fn a_single_replica_matters_where_there_could_be_more() {
    let mut facts = healthy();
    // min.insync.replicas is 2, and acks=all is not refused.
    facts.topics[0].partitions = vec![partition(0, &[1], &[1]), partition(1, &[2], &[2])];
    assert_worst(&check_replication(&facts), Severity::Warning, &["single replica", "disk: t "]);
    facts.brokers.truncate(1);
    facts.topics[0].partitions.truncate(1);
    assert_worst(&check_replication(&facts), Severity::Ok, &[]);
}

#[test]
fn replicas_in_one_rack() {
    assert_worst(&check_racks(&healthy()), Severity::Ok, &["3 racks"]);
    let mut facts = healthy();
    facts.brokers[1].rack = Some("rack-1".to_owned());
    assert_worst(&check_racks(&facts), Severity::Ok, &["2 racks"]);
    facts.topics[0].partitions.push(partition(1, &[1, 2], &[1, 2]));
    assert_worst(&check_racks(&facts), Severity::Warning, &["1 partition", "t-1"]);
    facts.brokers[0].rack = None;
    assert_worst(&check_racks(&facts), Severity::Warning, &["without a rack", "1"]);
    for broker in &mut facts.brokers {
        broker.rack = None;
    }
    assert_worst(&check_racks(&facts), Severity::Skipped, &["broker.rack"]);
}

#[test]
fn durability_in_force() {
    assert_worst(&check_durability(&healthy()), Severity::Ok, &["log.durability=flush on brokers 1, 2, 3", "no topic"]);
    let mut facts = healthy();
    facts.topics[0].durability = Some("page-cache".to_owned());
    assert_worst(&check_durability(&facts), Severity::Ok, &["t=page-cache"]);
    facts.topics[0].partitions = vec![partition(0, &[1], &[1])];
    assert_worst(&check_durability(&facts), Severity::Warning, &["t-0", "power failure"]);
    let mut facts = healthy();
    facts.brokers[0].durability = Ok("page-cache".to_owned());
    assert_worst(&check_durability(&facts), Severity::Warning, &["brokers differ"]);
    for broker in &mut facts.brokers {
        broker.durability = Err("these brokers have no log.durability".to_owned());
    }
    assert_worst(&check_durability(&facts), Severity::Skipped, &["log.durability"]);
}
