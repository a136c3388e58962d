use esker_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use esker_protocol::records::BatchBuilder;

use super::*;
use crate::replica::{LeaderHint, NoReplica, Role};
use crate::serve::Running;
use crate::server::ConnectionInfo;
use crate::test_support::{Client, broker, create_topic};

const ID: &str = "overtaken";

fn request(id: i64, epoch: i16) -> ProduceRequest {
    let none = esker_protocol::compression::Compression::None;
    let mut batch = BatchBuilder::new(none).producer(id, epoch, 0).transactional(true);
    batch.append(0, 1, None, Some(b"value"), &[]);
    let partition = PartitionProduceData { records: Some(batch.build().unwrap()), ..Default::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { transactional_id: Some(ID.into()), acks: -1, timeout_ms: 10_000, topic_data: vec![topic] }
}

fn context(running: &Running, client: &Client) -> RequestContext {
    let peer = client.0.local_addr().unwrap();
    let connection = ConnectionInfo::new(peer, "PLAINTEXT".into());
    RequestContext {
        broker: Arc::clone(&running.broker),
        connection: Arc::new(connection),
        client_id: None,
        api_version: ADDS_ITSELF,
        arrival: crate::telemetry::Arrival::at(tokio::time::Instant::now(), 0),
        routes: &[],
        trace: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_between_the_guard_and_the_coordinators_yes_does_not_refuse_the_batch() {
    let (running, _dir) = broker(&[("transaction.state.log.num.partitions", "1")]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let find = FindCoordinatorRequest { key: ID.into(), key_type: 1, ..FindCoordinatorRequest::default() };
    while client.ask(1, &find).await.error_code.is_error() {}
    let init = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let me = loop {
        let answer = client.ask(5, &init).await;
        if !answer.error_code.is_error() {
            break answer;
        }
    };
    let (id, epoch) = (me.producer_id, me.producer_epoch);
    let written = client.ask(ADDS_ITSELF, &request(id, epoch)).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, ErrorCode::NONE);

    // The next transaction's first batch is looked at before the end of this one has reached the partition.
    let ctx = context(&running, &client);
    let mut verification = begin_verification(&ctx, &request(id, epoch + 1)).unwrap().unwrap();
    let end = EndTxnRequest { transactional_id: ID.into(), producer_id: id, producer_epoch: epoch, committed: true };
    let ended = ctx.broker.coordinators.transactions.next_end(ID);
    assert_eq!(client.ask(5, &end).await.producer_epoch, epoch + 1);
    // A batch that waits for that is woken.
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap();
    let describe = DescribeTransactionsRequest { transactional_ids: vec![ID.into()] };
    while client.ask(0, &describe).await.transaction_states[0].transaction_state != "CompleteCommit" {}

    let partition = Arc::clone(&verification.partitions[0].partition);
    let stale = verification.partitions[0].guard.unwrap();
    // Without time for another attempt the producer has to try again.
    let add_request = verification.request(ADDS_ITSELF);
    let late = add(&ctx, &add_request, &mut verification, Instant::now()).await;
    assert_eq!(late, ErrorCode::CONCURRENT_TRANSACTIONS);
    let results = verify(&ctx, verification).await;
    let now = partition.log().begin_verification(id, epoch + 1, 0).unwrap();
    assert_ne!(now, stale, "the marker took it");
    let origin = results.origin(&partition, ADDS_ITSELF).unwrap();
    assert_eq!(origin, Origin::Transaction { transaction_v2: true, guard: now });
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_verified_before_this_broker_knows_that_it_leads() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let topic = running.broker.replicas.topic(&TopicRef::Name("t".into())).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.set_role(Role::None(NoReplica::Elsewhere(LeaderHint { leader: 2, leader_epoch: 7 }))).unwrap();
    let verification = begin_verification(&context(&running, &client), &request(7, 0)).unwrap();
    assert_eq!(verification.map(|verification| verification.partitions.len()), Some(1));
    running.stop().await.unwrap();
}
