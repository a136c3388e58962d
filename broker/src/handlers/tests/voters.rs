//! Requests about the members of the cluster, to a broker that is alone.

use esker_protocol::error::ErrorCode as E;
use esker_protocol::messages::add_raft_voter::AddRaftVoterRequest;
use esker_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use esker_protocol::messages::unregister_broker::UnregisterBrokerRequest;

use super::*;

pub(super) async fn ask(a: &mut Asker) {
    a.ask(|_| AddRaftVoterRequest { voter_id: 9, ..AddRaftVoterRequest::default() }).await;
    a.ask(|_| RemoveRaftVoterRequest { voter_id: 9, ..RemoveRaftVoterRequest::default() }).await;
    a.ask(|_| UnregisterBrokerRequest { broker_id: 9 }).await;
}

#[tokio::test]
async fn the_voters_of_a_broker_that_is_alone() {
    let (running, _dir) = broker(&[]).await;
    let own = running.broker.metadata.quorum().borrow().own.unwrap();
    let (own, other) = ((own.node_id, Uuid(own.directory)), (9, Uuid([9; 16])));
    let cluster = || Some(running.broker.cluster_id.clone());
    let elsewhere = || Some("another".into());
    let mut client = Client::to(&running).await;
    for (cluster_id, (voter_id, voter_directory_id), expected) in [
        (elsewhere(), own, E::INCONSISTENT_CLUSTER_ID),
        (cluster(), own, E::DUPLICATE_VOTER),
        (None, own, E::DUPLICATE_VOTER),
        (cluster(), other, E::REQUEST_TIMED_OUT),
        (cluster(), (9, Uuid::ZERO), E::INVALID_REQUEST),
    ] {
        let request =
            AddRaftVoterRequest { cluster_id, voter_id, voter_directory_id, ..AddRaftVoterRequest::default() };
        assert_eq!(client.ask(1, &request).await.error_code, expected, "{voter_id} {voter_directory_id}");
    }
    for (cluster_id, (voter_id, voter_directory_id), expected) in [
        (elsewhere(), own, E::INCONSISTENT_CLUSTER_ID),
        (cluster(), own, E::INVALID_REQUEST),
        (None, other, E::VOTER_NOT_FOUND),
        (cluster(), (9, Uuid::ZERO), E::INVALID_REQUEST),
    ] {
        let request = RemoveRaftVoterRequest { cluster_id, voter_id, voter_directory_id };
        assert_eq!(client.ask(0, &request).await.error_code, expected, "{voter_id} {voter_directory_id}");
    }
    let answer = client.ask(0, &UnregisterBrokerRequest { broker_id: 9 }).await;
    assert_eq!(answer.error_code, E::BROKER_ID_NOT_REGISTERED);
    running.stop().await.unwrap();
}
