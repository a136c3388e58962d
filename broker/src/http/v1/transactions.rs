//! Transactions: list, read, abort.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_admin::{TransactionReport, TransactionSummary, abort_transaction, describe_transaction, list_transactions};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, InQuery, page};

/// Which transactions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TransactionsQuery {
    /// Items at most, up to 10000 [default: 1000].
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Only items behind this one: `next` of the page before.
    after: Option<String>,
    /// Only those in this state, such as Ongoing.
    state: Option<String>,
}

/// A page of transactional ids.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransactionPage {
    transactions: Vec<TransactionSummary>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// How to abort.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AbortRequest {
    /// Only show the transaction, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// List transactional ids and the states of their transactions.
#[utoipa::path(
    get, path = "/v1/transactions", tag = "transactions", operation_id = "list_transactions", params(TransactionsQuery),
    responses((status = 200, body = TransactionPage), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InQuery(query): InQuery<TransactionsQuery>,
) -> Result<Json<TransactionPage>, Problem> {
    let page = page::<String>(query.limit, query.after.as_deref())?;
    let states: Vec<String> = query.state.into_iter().collect();
    let found = list_transactions(api.client().await?, &states).await?;
    let (transactions, next) = page.cut(found, |transaction| transaction.transactional_id.clone());
    Ok(Json(TransactionPage { transactions, next }))
}

/// Read a transactional id and its transaction.
#[utoipa::path(
    get, path = "/v1/transactions/{id}", tag = "transactions", operation_id = "read_transaction",
    params(("id" = String, Path, description = "The transactional id")),
    responses((status = 200, body = TransactionReport), Failed)
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
) -> Result<Json<TransactionReport>, Problem> {
    let (coordinator, transaction) = describe_transaction(api.client().await?, &id).await?;
    Ok(Json(TransactionReport::new(coordinator, &transaction, None)))
}

/// Abort the open transaction of a transactional id, and fence its producer.
#[utoipa::path(
    post, path = "/v1/transactions/{id}/abort", tag = "transactions", operation_id = "abort_transaction",
    request_body = AbortRequest,
    params(("id" = String, Path, description = "The transactional id")),
    responses((status = 200, body = TransactionReport), Failed)
)]
pub(super) async fn abort(
    State(api): State<Arc<Api>>,
    InPath(id): InPath<String>,
    Body(request): Body<AbortRequest>,
) -> Result<Json<TransactionReport>, Problem> {
    Ok(Json(abort_transaction(api.client().await?, &id, request.dry_run).await?))
}
