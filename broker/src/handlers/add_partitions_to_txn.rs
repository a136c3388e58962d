//! AddPartitionsToTxn (24, KIP-98): partitions that a transaction will write to. v0-3 come from producers, all or nothing; v4 and v5
//! from brokers (KIP-890), for several transactions at once, to add partitions or only to verify them. v2 knows
//! PRODUCER_FENCED.

use std::ops::RangeInclusive;

use esker_core::metadata::MetadataImage;
use esker_core::transaction::{AddRequest, Producer};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use crate::error::producer_fenced_code;

/// The AddPartitionsToTxn API.
pub struct AddPartitionsToTxn;

/// From here on brokers send the request.
const BROKERS: i16 = 4;

impl Handler for AddPartitionsToTxn {
    type Request = AddPartitionsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: AddPartitionsToTxnRequest) -> Staged<AddPartitionsToTxnResponse> {
        Staged::start(answer(ctx, request))
    }
}

/// Answers a request of a producer, or of another broker.
pub(super) async fn answer(ctx: RequestContext, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let image = ctx.broker.metadata.image();
    let mut response = AddPartitionsToTxnResponse::default();
    if ctx.api_version < BROKERS {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        response.results_by_topic_v3_and_below = add_or_verify(&ctx, &image, transaction).await;
        return response;
    }
    // Each waits for the commit of its change: together they wait once.
    let results = request.transactions.into_iter().map(async |transaction| {
        let transactional_id = transaction.transactional_id.clone();
        let topic_results = add_or_verify(&ctx, &image, transaction).await;
        AddPartitionsToTxnResult { transactional_id, topic_results }
    });
    response.results_by_transaction = futures_util::future::join_all(results).await;
    response
}

async fn add_or_verify(
    ctx: &RequestContext,
    image: &MetadataImage,
    transaction: AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let version = ctx.api_version;
    let topics = transaction.topics;
    let unknown = |topic: &str, partition: i32| {
        let count = image.topic(topic).map_or(0, |topic| topic.partitions.len());
        !usize::try_from(partition).is_ok_and(|partition| partition < count)
    };
    let any_unknown = topics.iter().any(|t| t.partitions.iter().any(|p| unknown(&t.name, *p)));
    if any_unknown {
        return results(topics, |topic, partition| match unknown(topic, partition) {
            true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            false => ErrorCode::OPERATION_NOT_ATTEMPTED,
        });
    }
    let request = AddRequest {
        id: transaction.transactional_id,
        producer: Producer { id: transaction.producer_id, epoch: transaction.producer_epoch },
        partitions: topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), *p))).collect(),
        client_version: if version >= BROKERS { 2 } else { 0 },
    };
    if transaction.verify_only {
        let codes_by_partition = ctx.broker.transactions.verify(image, &request).await;
        let mut codes_by_partition = codes_by_partition.map(Vec::into_iter);
        return results(topics, |_, _| match &mut codes_by_partition {
            Ok(codes) => codes.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => *code,
        });
    }
    let code = producer_fenced_code(ctx.broker.transactions.add(image, request).await, version, 2);
    results(topics, |_, _| code)
}

fn results(
    topics: Vec<AddPartitionsToTxnTopic>,
    mut code: impl FnMut(&Str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: AddPartitionsToTxnTopic| {
        let results = topic.partitions.iter().map(|partition| AddPartitionsToTxnPartitionResult {
            partition_index: *partition,
            partition_error_code: code(&topic.name, *partition),
        });
        AddPartitionsToTxnTopicResult { results_by_partition: results.collect(), name: topic.name }
    };
    topics.into_iter().map(of_topic).collect()
}
