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
    deadline: Duration,
    stop: CancellationToken,
}

impl V1 {
    pub(super) fn new(served: Arc<Served>, access: Access, stop: CancellationToken) -> Self {
        let requests = Semaphore::new(REQUESTS_AT_ONCE);
        let api = Arc::new(Api::new(served));
        let (router, operations) = (OnceLock::new(), OnceLock::new());
        Self { api, access, router, operations, requests, deadline: DEADLINE, stop }
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
            answer = tokio::time::timeout(self.deadline, router.call(request)) => match answer {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let seconds = self.deadline.as_secs_f64();
                    let detail = format!("no answer within {seconds} s; a change may still be made: look, and try again");
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

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Method;
    use futures_util::stream;

    use super::*;
    use crate::config::HttpChanges;

    fn v1(deadline: Duration) -> V1 {
        let access = Access::new("0.0.0.0:9644".parse().unwrap(), HttpChanges::Any);
        V1 { deadline, ..V1::new(Arc::new(Served::default()), access, CancellationToken::new()) }
    }

    /// A change whose body never comes.
    fn unfinished() -> Request {
        let body = Body::from_stream(stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
        let request = Request::builder().method(Method::POST).uri("/v1/topics").header(header::HOST, "localhost");
        request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
    }

    async fn problem(response: Response) -> serde_json::Value {
        serde_json::from_slice(&to_bytes(response.into_body(), 1 << 16).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_request_that_takes_longer_than_the_deadline_is_answered_and_gives_its_place_back() {
        assert_eq!(v1(DEADLINE).deadline, Duration::from_secs(30));
        let v1 = v1(Duration::from_millis(20));
        let response = v1.answer(unfinished()).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let problem = problem(response).await;
        assert_eq!((&problem["status"], &problem["title"]), (&504.into(), &"Gateway Timeout".into()), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("no answer within 0.02 s") && detail.contains("may still be made"), "{detail}");
        assert_eq!(v1.requests.available_permits(), REQUESTS_AT_ONCE);
    }

    #[tokio::test]
    async fn requests_that_wait_are_answered_when_the_node_stops() {
        let v1 = v1(DEADLINE);
        let (response, ()) = tokio::join!(v1.answer(unfinished()), async { v1.stop.cancel() });
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(problem(response).await["detail"].as_str().unwrap().contains("this node stops"));
    }

    #[tokio::test]
    async fn the_last_place_is_taken_and_the_next_request_is_refused() {
        let v1 = Arc::new(v1(DEADLINE));
        let answer = |v1: &Arc<V1>| {
            let v1 = Arc::clone(v1);
            async move { v1.answer(unfinished()).await }
        };
        let mut pending = tokio::task::JoinSet::new();
        (0..REQUESTS_AT_ONCE).for_each(|_| drop(pending.spawn(answer(&v1))));
        while v1.requests.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = v1.answer(unfinished()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        assert!(problem(refused).await["detail"].as_str().unwrap().contains("16 requests"));
        // What is refused before it is looked at needs no place.
        let mut unsound = unfinished();
        unsound.headers_mut().remove(header::CONTENT_TYPE);
        assert_eq!(v1.answer(unsound).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        // A client that goes away gives its place back.
        pending.abort_all();
        while pending.join_next().await.is_some() {}
        assert_eq!(v1.requests.available_permits(), REQUESTS_AT_ONCE);
    }
}
