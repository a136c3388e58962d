//! `/v1`: the cluster to read and to change, as JSON. Its handlers are thin: `admin` does the work, over a client of this very broker, so that
//! routing, bounds and authorization are those of Kafka's protocol, and any node answers for the whole cluster.
//!
//! Nothing is built before the first request: neither the routes, nor the document, nor the client's connections.

mod api;
mod cluster;
mod configs;
mod document;
mod drain;
mod extract;
mod groups;
mod nodes;
mod reassignments;
mod rebalances;
mod safe_to_stop;
mod seek;
mod topics;
mod transactions;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::access::Access;
use super::problem::{PROBLEM_JSON, Problem};
use super::served::Served;
use api::Api;
pub(super) use document::Operation;

/// Requests at a time; each may hold an answer of many topics in memory.
const REQUESTS_AT_ONCE: usize = 16;
/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The routes of `/v1`, and what is checked before them.
#[derive(Debug)]
pub(super) struct V1 {
    api: Arc<Api>,
    access: Access,
    router: OnceLock<Router>,
    operations: OnceLock<Vec<Operation>>,
    requests: Semaphore,
    stop: CancellationToken,
}

impl V1 {
    pub(super) fn new(served: Arc<Served>, access: Access, stop: CancellationToken) -> Self {
        let requests = Semaphore::new(REQUESTS_AT_ONCE);
        let api = Arc::new(Api::new(served));
        Self { api, access, router: OnceLock::new(), operations: OnceLock::new(), requests, stop }
    }

    /// What there is, by path.
    pub(super) fn operations(&self) -> &[Operation] {
        self.operations.get_or_init(document::operations)
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request) -> Response {
        let response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        describe_refusal(response)
    }

    async fn dispatch(&self, mut request: Request) -> Result<Response, Problem> {
        self.access.check(request.method(), request.headers())?;
        let busy = |_| {
            let detail = format!("{REQUESTS_AT_ONCE} requests are under way: try again when one has ended");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        };
        let _permit = self.requests.try_acquire().map_err(busy)?;
        let router = self.router.get_or_init(|| document::routes().with_state(Arc::clone(&self.api)).into());
        let mut router = router.clone();
        // The parameters of the route that led here are none of the routes within.
        request.extensions_mut().clear();
        tokio::select! {
            biased;
            answer = tokio::time::timeout(DEADLINE, router.call(request)) => match answer {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let detail = format!("no answer within {} s; a change may still be made: look, and try again", DEADLINE.as_secs());
                    Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail))
                }
            },
            () = self.stop.cancelled() => {
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this node stops: send the request to another one"))
            }
        }
    }
}

/// Gives refusals of the router (no such path, no such method) the form of all others.
fn describe_refusal(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => "there is no such path: /v1/openapi.json lists what there is",
        StatusCode::METHOD_NOT_ALLOWED => {
            "the path does not have this method: the header Allow lists those that it has"
        }
        _ => "the request is refused: /v1/openapi.json says what there is",
    };
    let mut described = Problem::new(status, detail).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        described.headers_mut().insert(header::ALLOW, allow.clone());
    }
    described
}
