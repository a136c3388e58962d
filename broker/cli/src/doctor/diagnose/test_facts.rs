//! Facts of a healthy cluster, which tests change.

use esker_client::Partition;

use super::super::facts::{
    BootstrapFacts, BrokerFacts, DirFacts, Facts, QuorumFacts, TopicFacts, TransactionFacts, VoterFacts, Way,
};
use super::super::finding::{Finding, Severity};

/// Three brokers in three racks, and a topic with three replicas.
pub(in super::super) fn healthy() -> Facts {
    let broker = |id: i32| BrokerFacts {
        id,
        host: format!("kafka-{id}"),
        port: 9092,
        rack: Some(format!("rack-{id}")),
        fenced: false,
        way: Way::Reached { only_loopback: false },
        log_dirs: Ok(vec![DirFacts {
            path: "/data".to_owned(),
            space: Some((1000 << 30, 600 << 30)),
            ..DirFacts::default()
        }]),
        durability: Ok("flush".to_owned()),
    };
    let voter = |id: i32| VoterFacts { id, log_end: Some(50), last_contact_ms: Some(1_000_000) };
    let topic = TopicFacts {
        name: "t".to_owned(),
        partitions: vec![partition(0, &[1, 2, 3], &[1, 2, 3])],
        min_isr: Some(2),
        durability: None,
    };
    Facts {
        cluster_id: "cluster".to_owned(),
        now_ms: 1_000_000,
        bootstrap: vec![BootstrapFacts { address: "kafka-1:9092".to_owned(), is_loopback: false, reached: Ok(()) }],
        brokers: vec![broker(1), broker(2), broker(3)],
        topics: vec![topic],
        quorum: Ok(QuorumFacts { leader: 1, log_end: 50, voters: vec![voter(1), voter(2), voter(3)] }),
        groups: Ok(Vec::new()),
        transactions: Ok(TransactionFacts { max_timeout_ms: 900_000, ..TransactionFacts::default() }),
        nodes: Vec::new(),
    }
}

pub(in super::super) fn partition(id: i32, replicas: &[i32], isr: &[i32]) -> Partition {
    Partition {
        id,
        leader: isr.first().copied(),
        leader_epoch: 1,
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        offline: Vec::new(),
    }
}

/// Fails unless the worst finding has this severity and its text contains each of the parts.
pub(in super::super) fn assert_worst(findings: &[Finding], severity: Severity, parts: &[&str]) {
    let worst = findings.iter().max_by_key(|finding| finding.severity).unwrap();
    assert_eq!(worst.severity, severity, "{findings:?}");
    let text = format!("{} {}", worst.text, worst.advice);
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
