//! Allocations that a request costs from its frame to its answer's chunks, in steady flow. Each kind has a bound near the figure
//! that was measured, so that a change which allocates more fails here. A change which allocates less lowers the bound.

use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::Str;

use super::*;
use crate::serve::Running;

/// Requests before the measurement: tables and caches reach their size.
const WARM_UP: i32 = 100;
/// Requests that are measured.
const MEASURED: i32 = 500;

/// Topics of 1 and of 10 partitions.
const TOPICS: [(&str, i32); 2] = [("one", 1), ("ten", 10)];

struct Bench {
    running: Running,
    service: ClientService,
    connection: Arc<ConnectionInfo>,
}

impl Bench {
    /// The answer; the request must not wait for anything.
    fn answer(&self, frame: bytes::Bytes) -> Reply {
        match dispatch(&self.service, &self.connection, frame) {
            Outcome::Ready(reply) => reply,
            _ => panic!("the answer is not ready"),
        }
    }

    /// Allocations a request, without what comes once in many requests: `request` makes the frame of each.
    fn allocations(&self, request: impl Fn(i32) -> bytes::Bytes) -> u64 {
        (1..=WARM_UP).for_each(|number| drop(self.answer(request(number))));
        let frames: Vec<_> = (WARM_UP + 1..=WARM_UP + MEASURED).map(request).collect();
        let info = allocation_counter::measure(|| frames.into_iter().for_each(|frame| drop(self.answer(frame))));
        info.count_total / u64::from(MEASURED.unsigned_abs())
    }

    fn log_end(&self, topic: &str, partition: i32) -> i64 {
        let topic = TopicRef::by_name(&Str::copy(topic));
        self.running.broker.replicas.partition(&topic, partition).unwrap().log().log_end_offset()
    }

    /// A Fetch of all partitions of a topic, from their first record or from their end.
    fn fetch(&self, (topic, partitions): (&'static str, i32), at_end: bool) -> FetchRequest {
        let partition = |partition| FetchPartition {
            partition,
            fetch_offset: if at_end { self.log_end(topic, partition) } else { 0 },
            partition_max_bytes: 1 << 10,
            ..FetchPartition::default()
        };
        let partitions = (0..partitions).map(partition).collect();
        let topic = FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() };
        FetchRequest { topics: vec![topic], session_epoch: -1, ..FetchRequest::default() }
    }

    /// Opens a session with `request`, and returns the requests that go on with it.
    fn incremental(&self, request: FetchRequest) -> impl Fn(i32) -> bytes::Bytes {
        let Reply::Frame(answer, _) = self.answer(frame(12, &FetchRequest { session_epoch: 0, ..request })) else {
            panic!("no answer");
        };
        let answer = answer.into_bytes().slice(4..);
        let (_, answer): (_, FetchResponse) = esker_protocol::decode_response::<FetchRequest>(12, answer).unwrap();
        assert_ne!(answer.session_id, 0);
        let session_id = answer.session_id;
        move |number| frame(12, &FetchRequest { session_id, session_epoch: number, ..FetchRequest::default() })
    }
}

fn produce(version: i16, acks: i16, (topic, partitions): (&'static str, i32)) -> impl Fn(i32) -> bytes::Bytes {
    let partitions = (0..partitions).map(|index| PartitionProduceData { index, records: Some(batch()) });
    let topic = TopicProduceData { name: topic.into(), partition_data: partitions.collect(), ..Default::default() };
    let request = ProduceRequest { acks, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() };
    // A copy each, as the socket would deliver it.
    let frame = frame(version, &request);
    move |_| bytes::Bytes::copy_from_slice(&frame)
}

async fn bench() -> (Bench, tempfile::TempDir) {
    let (running, dir) = broker(&[("log.durability", "page-cache")]).await;
    let topics = TOPICS.map(|(name, num_partitions)| CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest { topics: topics.into(), timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    Client::to(&running).await.ask(4, &request).await;
    let service = ClientService::new(Arc::clone(&running.broker));
    (Bench { running, service, connection: connection() }, dir)
}

#[tokio::test]
async fn a_request_costs_no_more_allocations_than_its_bound() {
    let (bench, _dir) = bench().await;
    let [one, ten] = TOPICS;
    let measured = [
        ("Produce, 1 partition, acks=1", bench.allocations(produce(9, 1, one)), 9),
        ("Produce, 1 partition, acks=all", bench.allocations(produce(9, -1, one)), 9),
        ("Produce, 10 partitions, acks=1", bench.allocations(produce(9, 1, ten)), 10),
        ("Produce, 10 partitions, acks=all", bench.allocations(produce(9, -1, ten)), 10),
        ("Fetch, 1 partition", bench.allocations(|_| frame(12, &bench.fetch(one, false))), 14),
        ("Fetch, 10 partitions", bench.allocations(|_| frame(12, &bench.fetch(ten, false))), 44),
        ("Fetch, session of 1, records", bench.allocations(bench.incremental(bench.fetch(one, false))), 16),
        ("Fetch, session of 10, nothing new", bench.allocations(bench.incremental(bench.fetch(ten, true))), 14),
    ];
    for (what, allocations, bound) in measured {
        println!("{what}: {allocations} allocations, at most {bound}");
    }
    let above: Vec<_> = measured.iter().filter(|(_, allocations, bound)| allocations > bound).collect();
    assert!(above.is_empty(), "{above:?}");
    bench.running.stop().await.unwrap();
}
