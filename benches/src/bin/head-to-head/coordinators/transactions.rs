//! Producers that each write one record a transaction, by the protocol of KIP-890: no partition is added by a request of its own,
//! and each end gives the next epoch.

use std::time::{Duration, Instant};

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::end_txn::EndTxnRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::Str;
use esker_protocol::records::BatchBuilder;

use super::{Figure, quantile, wait_for_coordinator};
use crate::peers::Broker;
use crate::{Result, load};
use esker_benches::client::Connection;

const PRODUCERS: i32 = 16;
const TOPIC: &str = "transactions";
/// How long a producer waits that is told that its last transaction is still being ended.
const PAUSE: Duration = Duration::from_millis(1);

/// One after the other for so long, each producer on its own partition.
pub(super) fn many(broker: &Broker, time: Duration) -> Result<Vec<Figure>> {
    load::create_topic(broker.address, TOPIC, PRODUCERS)?;
    wait_for_coordinator(broker, 1)?;
    let mut figures = Vec::new();
    // The first is the warm-up.
    for _ in 0..2 {
        let cpu = broker.cpu_seconds()?;
        let start = Instant::now();
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..PRODUCERS).map(|number| scope.spawn(move || producer(broker, number, start + time))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| "a load thread panicked")?);
            joined.collect::<Result<Vec<_>>>()
        })?;
        let elapsed = start.elapsed().as_secs_f64();
        let mut times: Vec<Duration> = done.into_iter().flatten().collect();
        let count = times.len() as f64;
        let cpu = broker.cpu_seconds()? - cpu;
        figures = vec![
            Figure::new(format!("transactions/s, {PRODUCERS} producers, one record each"), count / elapsed, 0),
            Figure::new("a transaction, p50 ms", quantile(&mut times, 0.5), 2),
            Figure::new("a transaction, p99 ms", quantile(&mut times, 0.99), 2),
            Figure::new("CPU ms a transaction", cpu * 1e3 / count, 3),
        ];
    }
    Ok(figures)
}

fn producer(broker: &Broker, number: i32, end: Instant) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(broker.address)?;
    let id = Str::copy(&format!("bench-{number}"));
    let ask = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let (mut producer, mut epoch) = loop {
        let answer = connection.call(5, &ask)?;
        match answer.error_code {
            ErrorCode::NONE => break (answer.producer_id, answer.producer_epoch),
            code if code.is_retriable() => std::thread::sleep(PAUSE),
            code => return Err(format!("InitProducerId: {code:?}").into()),
        }
    };
    let mut times = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        let mut batch = BatchBuilder::new(Compression::None).producer(producer, epoch, 0).transactional(true);
        batch.append(0, 1, None, Some(&[b'v'; 100]), &[]);
        let partition_data = vec![PartitionProduceData { index: number, records: Some(batch.build()?) }];
        let produce = ProduceRequest {
            transactional_id: Some(id.clone()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData { name: TOPIC.into(), partition_data, ..TopicProduceData::default() }],
        };
        loop {
            let answer = connection.call(12, &produce)?;
            let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
            match answer.map(|partition| partition.error_code) {
                Some(ErrorCode::NONE) => break,
                Some(code) if code.is_retriable() => std::thread::sleep(PAUSE),
                code => return Err(format!("Produce: {code:?}").into()),
            }
        }
        let commit = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: producer,
            producer_epoch: epoch,
            committed: true,
        };
        loop {
            let answer = connection.call(5, &commit)?;
            match answer.error_code {
                ErrorCode::NONE => {
                    (producer, epoch) = (answer.producer_id, answer.producer_epoch);
                    break;
                }
                code if code.is_retriable() => std::thread::sleep(PAUSE),
                code => return Err(format!("EndTxn: {code:?}").into()),
            }
        }
        times.push(start.elapsed());
    }
    Ok(times)
}
