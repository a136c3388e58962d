//! The active controller dies.

use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_tests::PATIENCE;
use esker_tests::cluster::Cluster;
use esker_tests::topics::{create_by, new_topic};
use esker_tests::wire::Wire;

#[test]
fn topics_are_created_after_the_active_controller_is_killed() {
    let mut cluster = Cluster::start(3);
    let controller = cluster.controller();
    let survivor = cluster.live().find(|at| *at != controller).unwrap();
    cluster.kill(controller);
    let killed = Instant::now();
    let mut wire = Wire::new(cluster.address(survivor), Duration::from_secs(20));
    let code = create_by(new_topic("t", 3, 2, &[]), |_, request| wire.ask(5, request).ok());
    let took = killed.elapsed();
    println!("created {} ms after the controller was killed", took.as_millis());
    assert_eq!(code, ErrorCode::NONE);
    assert!(took < PATIENCE, "it took {took:?}");
    assert_ne!(cluster.controller(), controller);
}
