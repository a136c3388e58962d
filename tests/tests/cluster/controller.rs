//! The active controller dies.

use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_tests::cluster::{Cluster, find};
use esker_tests::wire::Wire;

#[test]
fn topics_are_created_soon_after_the_active_controller_is_killed() {
    let mut cluster = Cluster::start(3);
    let controller = cluster.controller();
    let survivor = cluster.live().find(|at| *at != controller).unwrap();
    cluster.kill(controller);
    let killed = Instant::now();
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 3, replication_factor: 2, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 2_000, validate_only: false };
    let mut wire = Wire::new(cluster.address(survivor), Duration::from_secs(5));
    let code = find("an answer that is not to be tried again", || {
        let answer = wire.ask(5, &request).ok()?;
        let code = answer.topics[0].error_code;
        (!code.is_retriable()).then_some(code)
    });
    let took = killed.elapsed();
    // A request whose answer was late may have been carried out.
    assert!(matches!(code, ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS), "{code:?}");
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert_ne!(cluster.controller(), controller);
}
