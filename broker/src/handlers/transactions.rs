//! DescribeTransactions (65) and ListTransactions (66): transactions as admins see them (KIP-664).
//!
//! ListTransactions v1 filters by how long ago a transaction began (KIP-994), v2 by a pattern over transactional ids (KIP-1152).

use std::ops::RangeInclusive;

use esker_core::transaction::{ListFilter, State};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState as Described,
};
use esker_protocol::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState as Listed,
};
use esker_protocol::primitives::Str;
use regex::{Regex, RegexBuilder};

use super::handler::{Handler, RequestContext, Staged};

/// The DescribeTransactions API.
pub struct DescribeTransactions;
/// The ListTransactions API.
pub struct ListTransactions;

/// The size limit of a compiled pattern: a hostile pattern is refused at any length.
const MAX_PATTERN_BYTES: usize = 1 << 20;
const MAX_PATTERN_CHARS: usize = 4096;

impl Handler for DescribeTransactions {
    type Request = DescribeTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: DescribeTransactionsRequest) -> Staged<DescribeTransactionsResponse> {
        let states = request.transactional_ids.into_iter().map(|id| describe(&ctx, id));
        Staged::Ready(DescribeTransactionsResponse {
            transaction_states: states.collect(),
            ..DescribeTransactionsResponse::default()
        })
    }
}

fn describe(ctx: &RequestContext, transactional_id: Str) -> Described {
    let image = ctx.broker.metadata.image();
    let failed = |error_code, transactional_id| Described { error_code, transactional_id, ..Described::default() };
    if transactional_id.is_empty() {
        return failed(ErrorCode::INVALID_REQUEST, transactional_id);
    }
    match ctx.broker.transactions.describe(&image, &transactional_id) {
        Err(error_code) => failed(error_code, transactional_id),
        Ok(None) => failed(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND, transactional_id),
        Ok(Some(found)) => Described {
            error_code: ErrorCode::NONE,
            transactional_id,
            transaction_state: found.state.into(),
            transaction_timeout_ms: found.timeout_ms,
            transaction_start_time_ms: found.started_ms,
            producer_id: found.producer_id,
            producer_epoch: found.epoch,
            topics: found.topics.into_iter().map(|(topic, partitions)| TopicData { topic, partitions }).collect(),
        },
    }
}

impl Handler for ListTransactions {
    type Request = ListTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: ListTransactionsRequest) -> Staged<ListTransactionsResponse> {
        let mut response = ListTransactionsResponse::default();
        let pattern = match request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
            None => None,
            Some(text) => match compile_anchored(text) {
                Some(pattern) => Some(pattern),
                None => {
                    response.error_code = ErrorCode::INVALID_REGULAR_EXPRESSION;
                    return Staged::Ready(response);
                }
            },
        };
        let mut states = Vec::new();
        for name in &request.state_filters {
            match State::parse(name) {
                Some(state) => states.push(state),
                None => response.unknown_state_filters.push(name.clone()),
            }
        }
        let filter = ListFilter {
            states: (!request.state_filters.is_empty()).then_some(states),
            producer_ids: request.producer_id_filters,
            longer_than_ms: request.duration_filter,
        };
        let passes = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        let (rows, loading) = ctx.broker.transactions.list(&filter, passes);
        if loading {
            response.error_code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
            return Staged::Ready(response);
        }
        response.transaction_states = rows
            .into_iter()
            .map(|row| Listed {
                transactional_id: row.id,
                producer_id: row.producer_id,
                transaction_state: row.state.into(),
            })
            .collect();
        Staged::Ready(response)
    }
}

/// A pattern that an id must match from its beginning to its end, as Kafka's RE2 does; `None` if it is none, or too large.
fn compile_anchored(pattern: &str) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN_CHARS {
        return None;
    }
    // The pattern must also be valid without the anchors: "a)(b" is one only within the parentheses.
    Regex::new(pattern).ok()?;
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(MAX_PATTERN_BYTES).build().ok()
}
