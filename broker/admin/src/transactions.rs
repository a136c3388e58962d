//! Transactions, and requests to the coordinator of a transactional id.

use std::time::Duration;

use async_recursion::async_recursion as boxed;
use esker_client::{Admin, Client, Error, ErrorCode, Target};
use esker_protocol::messages::describe_transactions::{DescribeTransactionsRequest, TransactionState};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::messages::list_transactions::ListTransactionsRequest;
use esker_protocol::primitives::Str;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::error::AdminError;

/// Kafka's number for transactional ids in FindCoordinator.
const TRANSACTION: i8 = 1;
/// How long a coordinator may load, and a transaction may end.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// A transactional id, in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransactionSummary {
    /// The transactional id.
    pub transactional_id: String,
    /// The state of its transaction.
    pub state: String,
    /// The id of its producer.
    pub producer_id: i64,
    /// The node id of its coordinator.
    pub coordinator: i32,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransactionReport {
    /// The transactional id.
    pub transactional_id: String,
    /// The state of its transaction.
    pub state: String,
    /// The id of its producer.
    pub producer_id: i64,
    /// The epoch of its producer.
    pub producer_epoch: i16,
    /// The node id of its coordinator.
    pub coordinator: i32,
    /// How long a transaction may be open, in ms.
    pub timeout_ms: i32,
    /// When the open transaction began, in ms since 1970.
    pub start_timestamp: Option<i64>,
    /// The partitions of the open transaction.
    pub partitions: Vec<TransactionPartition>,
    /// Only after a request to abort: whether nothing was aborted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// A partition of a transaction.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TransactionPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

impl TransactionReport {
    /// The report of a transaction.
    pub fn new(coordinator: i32, t: &TransactionState, dry_run: Option<bool>) -> Self {
        let partitions = t.topics.iter().flat_map(|topic| topic.partitions.iter().map(|id| (&topic.topic, *id)));
        Self {
            transactional_id: t.transactional_id.to_string(),
            state: t.transaction_state.to_string(),
            producer_id: t.producer_id,
            producer_epoch: t.producer_epoch,
            coordinator,
            timeout_ms: t.transaction_timeout_ms,
            start_timestamp: Some(t.transaction_start_time_ms).filter(|at| *at >= 0),
            partitions: partitions
                .map(|(topic, partition)| TransactionPartition { topic: topic.to_string(), partition })
                .collect(),
            dry_run,
        }
    }
}

/// All transactional ids by name, or those whose transactions are in these states.
#[boxed]
pub async fn list_transactions(client: &Client, states: &[String]) -> Result<Vec<TransactionSummary>, AdminError> {
    let mut found = Vec::new();
    // Each coordinator knows its own.
    for broker in Admin::new(client).describe_cluster().await?.brokers {
        let request = ListTransactionsRequest {
            state_filters: states.iter().map(|state| Str::copy(state)).collect(),
            ..ListTransactionsRequest::default()
        };
        let answer = client.request(Target::Node(broker.id), request).await?;
        check_code("the transactions", answer.error_code)?;
        if let Some(unknown) = answer.unknown_state_filters.first() {
            return Err(AdminError::Invalid(format!(
                "'{unknown}' is no state of a transaction: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, \
                 CompleteAbort, Dead, PrepareEpochFence"
            )));
        }
        found.extend(answer.transaction_states.into_iter().map(|t| TransactionSummary {
            transactional_id: t.transactional_id.to_string(),
            state: t.transaction_state.to_string(),
            producer_id: t.producer_id,
            coordinator: broker.id,
        }));
    }
    found.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
    Ok(found)
}

/// The coordinator of an id, and its transaction.
#[boxed]
pub async fn describe_transaction(client: &Client, id: &str) -> Result<(i32, TransactionState), AdminError> {
    let started = Instant::now();
    loop {
        let (node, code) = find_coordinator(client, id).await?;
        let code = match code {
            ErrorCode::NONE => {
                let request = DescribeTransactionsRequest { transactional_ids: vec![Str::copy(id)] };
                let answer = client.request(Target::Node(node), request).await?;
                let missing = || AdminError::Refused(format!("the broker left '{id}' out of its answer"));
                let found = answer.transaction_states.into_iter().next().ok_or_else(missing)?;
                if found.error_code == ErrorCode::NONE {
                    return Ok((node, found));
                }
                found.error_code
            }
            code => code,
        };
        if !code.is_retriable() || started.elapsed() > PATIENCE {
            check_code(&format!("transactional id '{id}'"), code)?;
        }
        sleep(PAUSE).await;
    }
}

async fn find_coordinator(client: &Client, id: &str) -> Result<(i32, ErrorCode), AdminError> {
    let request = |version| {
        let base = FindCoordinatorRequest { key_type: TRANSACTION, ..FindCoordinatorRequest::default() };
        match version {
            4.. => FindCoordinatorRequest { coordinator_keys: vec![Str::copy(id)], ..base },
            _ => FindCoordinatorRequest { key: Str::copy(id), ..base },
        }
    };
    let answer = client.request_with(Target::Any, request).await?;
    let found = answer.coordinators.first().map(|found| (found.node_id, found.error_code));
    Ok(found.unwrap_or((answer.node_id, answer.error_code)))
}

/// Aborts the open transaction of an id and returns the transaction after it; with `dry_run` changes nothing. The next epoch of its producer
/// begins, as when the producer starts anew.
#[boxed]
pub async fn abort_transaction(client: &Client, id: &str, dry_run: bool) -> Result<TransactionReport, AdminError> {
    let (coordinator, transaction) = describe_transaction(client, id).await?;
    if transaction.transaction_state.as_str() != "Ongoing" {
        let state = &transaction.transaction_state;
        return Err(AdminError::Refused(format!("'{id}' has no open transaction; its state is {state}")));
    }
    if dry_run {
        return Ok(TransactionReport::new(coordinator, &transaction, Some(true)));
    }
    fence_producer(client, coordinator, &transaction).await?;
    let (coordinator, transaction) = describe_transaction(client, id).await?;
    Ok(TransactionReport::new(coordinator, &transaction, Some(false)))
}

async fn fence_producer(client: &Client, coordinator: i32, transaction: &TransactionState) -> Result<(), AdminError> {
    let request = InitProducerIdRequest {
        transactional_id: Some(transaction.transactional_id.clone()),
        transaction_timeout_ms: transaction.transaction_timeout_ms,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let started = Instant::now();
    loop {
        let code = client.request(Target::Node(coordinator), request.clone()).await?.error_code;
        // The abort goes on until all its markers are written.
        let waits = code == ErrorCode::CONCURRENT_TRANSACTIONS || code.is_retriable();
        if !waits || started.elapsed() > PATIENCE {
            return check_code(&format!("transactional id '{}'", transaction.transactional_id), code);
        }
        sleep(PAUSE).await;
    }
}

/// `Ok` for success, a refusal otherwise.
fn check_code(what: &str, code: ErrorCode) -> Result<(), AdminError> {
    if !code.is_error() {
        return Ok(());
    }
    Err(Error::Refused { what: what.to_owned(), code, message: None }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_messages() {
        assert!(check_code("x", ErrorCode::NONE).is_ok());
        let message = check_code("id 'x'", ErrorCode::TRANSACTIONAL_ID_NOT_FOUND).unwrap_err().to_string();
        assert!(message.starts_with("id 'x': TRANSACTIONAL_ID_NOT_FOUND. There is no such"), "{message}");
    }
}
