//! Requests to the coordinator of a transactional id.

use std::time::Duration;

use esker_client::{Client, ErrorCode, Target, advice};
use esker_protocol::messages::describe_transactions::{DescribeTransactionsRequest, TransactionState};
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::init_producer_id::InitProducerIdRequest;
use esker_protocol::primitives::Str;
use tokio::time::{Instant, sleep};

use super::super::error::CliError;

/// Kafka's number for transactional ids in FindCoordinator.
const TRANSACTION: i8 = 1;
/// How long a coordinator may load, and a transaction may end.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// The coordinator of an id, and its transaction.
pub(super) async fn describe_transaction(client: &Client, id: &str) -> Result<(i32, TransactionState), CliError> {
    let started = Instant::now();
    loop {
        let (node, code) = find_coordinator(client, id).await?;
        let code = match code {
            ErrorCode::NONE => {
                let request = DescribeTransactionsRequest { transactional_ids: vec![Str::copy(id)] };
                let answer = client.request(Target::Node(node), request).await?;
                let missing = || CliError::Refused(format!("the broker left '{id}' out of its answer"));
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

async fn find_coordinator(client: &Client, id: &str) -> Result<(i32, ErrorCode), CliError> {
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

/// Aborts the open transaction of an id: the next epoch of its producer begins, as when the producer starts anew.
pub(super) async fn abort_transaction(
    client: &Client,
    coordinator: i32,
    transaction: &TransactionState,
) -> Result<(), CliError> {
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
pub(super) fn check_code(what: &str, code: ErrorCode) -> Result<(), CliError> {
    if !code.is_error() {
        return Ok(());
    }
    let text = match code {
        ErrorCode::TRANSACTIONAL_ID_NOT_FOUND => "there is no such transactional id: `esker txn list` shows all",
        code => advice(code),
    };
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    Err(CliError::Refused(format!("{what}: {}{text}", code.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_messages() {
        assert!(check_code("x", ErrorCode::NONE).is_ok());
        let message = check_code("id 'x'", ErrorCode::TRANSACTIONAL_ID_NOT_FOUND).unwrap_err().to_string();
        assert!(message.starts_with("id 'x': TRANSACTIONAL_ID_NOT_FOUND: there is no such"), "{message}");
    }
}
