//! Traces (OpenTelemetry): one trace from the producer through append, replication and acknowledgment, and the Fetch that is linked to it; and
//! one from a request to what it causes on other nodes.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::records::{BatchBuilder, RecordHeader};
use esker_tests::Esker;
use esker_tests::cluster::{Cluster, STEADY, find, wait_until};
use esker_tests::collector::{Collector, ReceivedSpan};
use esker_tests::topics::{create_by, new_topic};
use esker_tests::wire::{FETCH, PRODUCE, Wire, fetch_request, produce_request, produced};

const TOPIC: &str = "t";
const ID: &str = "transactions";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";
const ANSWER: Duration = Duration::from_secs(20);

/// A batch of one record that is part of the client's trace.
fn traced_batch(flags: &str) -> Bytes {
    let traceparent = format!("00-{TRACE}-{CLIENT_SPAN}-{flags}");
    let headers = [RecordHeader::new("traceparent", Some(traceparent.as_bytes()))];
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1, None, Some(b"7"), &headers);
    builder.build().unwrap()
}

fn settings(endpoint: &str, ratio: &str) -> Vec<String> {
    let set = |setting: String| ["--set".to_owned(), setting];
    let settings = [format!("otlp.endpoint={endpoint}"), format!("tracing.sample.ratio={ratio}")];
    let steady = STEADY.map(str::to_owned);
    settings.into_iter().flat_map(set).chain(["--log-level", "debug"].map(str::to_owned)).chain(steady).collect()
}

fn of_trace(collector: &Collector, name: &str) -> Vec<ReceivedSpan> {
    collector.spans().into_iter().filter(|span| span.trace_id == TRACE && span.name == name).collect()
}

#[test]
fn a_trace_goes_from_the_producer_through_all_replicas_to_the_consumer() {
    let collector = Collector::start();
    // Few enough that only the producer's trace is there.
    let flags = settings(&collector.endpoint(), "0.000000001");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(&[&flags, &flags, &flags]);
    cluster.create_topic(TOPIC, 1, "flush");
    cluster.wait_in_sync(TOPIC);
    let leader = cluster.leader(TOPIC, 0);
    let mut wire = Wire::new(cluster.address(leader), ANSWER);
    let mut produce =
        |flags| produced(&wire.ask(PRODUCE, &produce_request(TOPIC, 0, -1, traced_batch(flags))).unwrap());
    // A broker answers Metadata a moment before it serves the partitions in it.
    wait_until("the leader serves the partition", || is_done(produce("00").error_code));
    let sampled = produce("01");
    assert_eq!(sampled.error_code, ErrorCode::NONE);
    let answer = wire.ask(FETCH, &fetch_request(TOPIC, 0, sampled.base_offset)).unwrap();
    assert!(!answer.responses[0].partitions[0].records.as_ref().unwrap().is_empty());

    let replicated =
        find("spans of both followers", || Some(of_trace(&collector, "replicate")).filter(|spans| spans.len() == 2));
    let leader_id = cluster.node_id(leader).to_string();
    let mut nodes: Vec<&str> = replicated.iter().map(|span| span.node.as_str()).collect();
    nodes.sort_unstable();
    let mut followers: Vec<_> = (0..3).filter(|at| *at != leader).map(|at| cluster.node_id(at).to_string()).collect();
    followers.sort_unstable();
    assert_eq!(nodes, followers);
    let root = find("the span of the request", || of_trace(&collector, "Produce").pop());
    assert_eq!((root.node.as_str(), root.parent.as_str()), (leader_id.as_str(), CLIENT_SPAN));
    assert!(
        replicated.iter().all(|span| span.parent == CLIENT_SPAN && span.attribute("esker.leader.node.id") == leader_id)
    );
    let append = find("the append", || of_trace(&collector, "append").pop());
    assert_eq!(
        (append.parent.as_str(), append.attribute("messaging.destination.name")),
        (root.span_id.as_str(), TOPIC)
    );
    let offset = sampled.base_offset.to_string();
    assert_eq!(append.attribute("messaging.kafka.offset"), offset, "the first record's trace is not sampled");
    let commit = find("the wait for the followers", || of_trace(&collector, "commit").pop());
    assert_eq!(commit.parent, root.span_id);
    let within = |part: &ReceivedSpan| root.times[0] <= part.times[0] && part.times[1] <= root.times[1];
    assert!(within(&append) && within(&commit), "{root:?} {append:?} {commit:?}");
    assert_eq!(of_trace(&collector, "Produce").len(), 1);

    let fetch = find("the consumer's span", || collector.spans().into_iter().find(|span| span.name == "Fetch"));
    assert_eq!((fetch.links.as_slice(), fetch.node.as_str()), ([TRACE.to_owned()].as_slice(), leader_id.as_str()));
    assert_ne!(fetch.trace_id, TRACE);
    let log = cluster.node(leader).log();
    assert!(log.lines().any(|line| line.contains(TRACE) && line.contains(&root.span_id)), "{log}");
    wait_until("the spans are counted", || {
        cluster.node(leader).metric("esker_tracing_spans_total{result=\"taken\"}") >= 4.0
    });
}

#[test]
fn requests_between_nodes_are_spans() {
    let collector = Collector::start();
    let flags = settings(&collector.endpoint(), "1.0");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(&[&flags, &flags, &flags]);
    cluster.create_topic(TOPIC, 1, "flush");
    let created = find("the client's request", || {
        collector
            .spans()
            .into_iter()
            .find(|span| span.name == "CreateTopics" && !span.attribute("messaging.client.id").is_empty())
    });
    assert_eq!(created.parent, "");
    let heartbeat = find("a heartbeat", || collector.spans().into_iter().find(|span| span.name.contains("Heartbeat")));
    assert!(!heartbeat.attribute("esker.peer.node.id").is_empty() && heartbeat.times[1] > heartbeat.times[0]);
}

/// Whether a request is carried out. Another error than one to try again on ends the test.
fn is_done(code: ErrorCode) -> bool {
    assert!(code == ErrorCode::NONE || code.is_retriable(), "{code}");
    code == ErrorCode::NONE
}

/// Spans by their ids.
fn by_id(collector: &Collector) -> HashMap<String, ReceivedSpan> {
    collector.spans().into_iter().map(|span| (span.span_id.clone(), span)).collect()
}

/// Of each request: the nodes of its span on the receiver's side, of that on the sender's, and of the span `caused_by` above them.
fn nodes_of_requests(collector: &Collector, name: &str, caused_by: &str) -> Vec<[String; 3]> {
    let spans = by_id(collector);
    let nodes = |received: &ReceivedSpan| {
        let sent = spans.get(&received.parent).filter(|sent| sent.name == name)?;
        let cause = spans.get(&sent.parent).filter(|cause| cause.name == caused_by)?;
        assert!(
            received.trace_id == sent.trace_id && sent.trace_id == cause.trace_id,
            "{cause:?} {sent:?} {received:?}"
        );
        // Each node has read the wall clock once, which may have been set since then.
        let begins_after =
            |later: &ReceivedSpan, earlier: &ReceivedSpan| later.times[0] + 1_000_000_000 > earlier.times[0];
        assert!(begins_after(sent, cause) && begins_after(received, sent), "{cause:?} {sent:?} {received:?}");
        Some([received.node.clone(), sent.node.clone(), cause.node.clone()])
    };
    let received = spans.values().filter(|span| span.name == name && !span.attribute("client.address").is_empty());
    received.filter_map(nodes).collect()
}

/// Has a node that is not the active controller create a topic; returns the topic, and the ids of the controller and of that node. Where the
/// controller moves meanwhile, maybe to that node, another topic is created.
fn create_through_another(cluster: &Cluster) -> (String, [String; 2]) {
    let mut number = 0;
    find("a topic is created under one controller", || {
        let before = cluster.quorum();
        let other = (cluster.index_of(before.leader_id) + 1) % 3;
        let name = format!("{TOPIC}-{number}");
        number += 1;
        let mut wire = Wire::new(cluster.address(other), ANSWER);
        let code = create_by(new_topic(&name, 3, 3, &[]), |_, request| wire.ask(7, request).ok());
        assert_eq!(code, ErrorCode::NONE);
        let is_same = cluster.quorum().leader_epoch == before.leader_epoch;
        is_same.then(|| (name, [before.leader_id, cluster.node_id(other)].map(|id| id.to_string())))
    })
}

#[test]
fn what_a_request_causes_on_other_nodes_is_in_its_trace() {
    let collector = Collector::start();
    let flags = settings(&collector.endpoint(), "1.0");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with(&[&flags, &flags, &flags]);
    let (topic, [controller, other]) = create_through_another(&cluster);
    let expected = [controller, other.clone(), other];
    wait_until("the request to the controller", || {
        nodes_of_requests(&collector, "SubmitRequest", "CreateTopics").contains(&expected)
    });

    cluster.wait_in_sync(&topic);
    let key = FindCoordinatorRequest { key: ID.into(), key_type: 1, ..Default::default() };
    let coordinator = find("the coordinator", || {
        let answer = cluster.ask(2, &key)?;
        (answer.error_code == ErrorCode::NONE).then(|| cluster.index_of(answer.node_id))
    });
    let mut wire = Wire::new(cluster.address(coordinator), ANSWER);
    let init = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let (producer_id, producer_epoch) = find("a producer id", || {
        let answer = wire.ask(4, &init).ok()?;
        (answer.error_code == ErrorCode::NONE).then_some((answer.producer_id, answer.producer_epoch))
    });
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: vec![0, 1, 2] }],
        ..Default::default()
    };
    wait_until("the partitions are added", || {
        let Ok(added) = wire.ask(3, &add) else { return false };
        let results = &added.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().all(|result| is_done(result.partition_error_code))
    });
    let end = EndTxnRequest { transactional_id: ID.into(), producer_id, producer_epoch, committed: true };
    wait_until("the transaction ends", || wire.ask(3, &end).is_ok_and(|ended| is_done(ended.error_code)));
    let [received, sent, cause] =
        find("a marker on another node", || nodes_of_requests(&collector, "WriteMarkersRequest", "markers").pop());
    assert_eq!((&sent, &cause), (&cluster.node_id(coordinator).to_string(), &sent));
    assert_ne!(received, sent);
    let (root, markers) = find("the end of the transaction", || {
        let markers = collector.spans().into_iter().find(|span| span.name == "markers")?;
        by_id(&collector).remove(&markers.parent).map(|root| (root, markers))
    });
    assert_eq!((root.name.as_str(), &root.node), ("EndTxn", &sent));
    assert_eq!(markers.attribute("esker.transactional.id"), ID);
}

#[test]
fn an_endpoint_that_is_not_there_costs_no_request() {
    let unused = esker_tests::cluster::free_addresses(1)[0];
    let flags = settings(&format!("http://{unused}"), "1.0");
    let mut arguments = vec!["serve", "--ephemeral"];
    arguments.extend(flags.iter().map(String::as_str));
    let esker = Esker::spawn(&arguments);
    let mut wire = Wire::new(esker.kafka, ANSWER);
    wait_until("spans that are dropped", || {
        wire.metadata(TOPIC).unwrap();
        esker.metric("esker_tracing_spans_total{result=\"dropped\"}") > 0.0
    });
    assert!(esker.log().contains("check otlp.endpoint"));
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    let output = std::process::Command::new(esker_tests::binary())
        .args(["serve", "--ephemeral", "--set", "otlp.endpoint=https://collector:4318"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("otlp.endpoint") && text.contains("http://127.0.0.1:4318"), "{text}");
}
