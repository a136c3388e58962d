//! From a decoded header to the handler of its API, and from the handler's answer to a frame.

use std::sync::Arc;

use esker_protocol::api::ApiKey;
use esker_protocol::primitives::Reader;
use esker_protocol::{Message, Request, encode_response};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Route, Staged};
use crate::server::{CloseReason, Outcome, Reply};
use crate::telemetry::Metrics;

/// The routes of a listener by API key: a request finds its own with one look.
#[derive(Debug)]
pub(super) struct RouteTable {
    by_key: Vec<Option<&'static Route>>,
}

impl RouteTable {
    pub(super) fn new(routes: &'static [Route]) -> Self {
        let mut by_key = Vec::new();
        for route in routes {
            let Ok(at) = usize::try_from(route.key.0) else { continue };
            if by_key.len() <= at {
                by_key.resize(at + 1, None);
            }
            if let Some(place) = by_key.get_mut(at) {
                *place = Some(route);
            }
        }
        Self { by_key }
    }

    pub(super) fn get(&self, key: ApiKey) -> Option<&'static Route> {
        *self.by_key.get(usize::try_from(key.0).ok()?)?
    }
}

/// The route of a handler.
pub(super) const fn route_of<H: Handler>() -> Route
where
    <H::Request as Request>::Response: Send,
{
    Route {
        key: <H::Request as Request>::KEY,
        min_version: *H::VERSIONS.start(),
        max_version: *H::VERSIONS.end(),
        response: <<H::Request as Request>::Response as Message>::SCHEMA,
        run: run::<H>,
    }
}

fn run<H: Handler>(ctx: RequestContext, correlation_id: i32, body: &mut Reader) -> Outcome
where
    <H::Request as Request>::Response: Send,
{
    let (version, received, metrics) = (ctx.api_version, ctx.received, Arc::clone(&ctx.broker.metrics));
    let key = <H::Request as Request>::KEY;
    let request = match H::Request::decode(body, version) {
        Ok(request) => request,
        Err(error) => return Outcome::Refused(CloseReason::Malformed(Some(key), error)),
    };
    let encode = move |metrics: &Metrics, response: &<H::Request as Request>::Response| {
        reply(metrics, key, version, correlation_id, received, response)
    };
    outcome::<H>(H::handle(ctx, request), metrics, version, received, encode)
}

fn outcome<H: Handler>(
    staged: Staged<<H::Request as Request>::Response>,
    metrics: Arc<Metrics>,
    version: i16,
    received: Instant,
    encode: impl Fn(&Metrics, &<H::Request as Request>::Response) -> Reply + Send + Sync + 'static,
) -> Outcome
where
    <H::Request as Request>::Response: Send,
{
    match staged {
        Staged::Ready(response) => Outcome::Ready(encode(&metrics, &response)),
        Staged::Later(response) => Outcome::Later(async move { encode(&metrics, &response.await) }.boxed()),
        Staged::Parked(bytes, response) => {
            Outcome::Parked(bytes, async move { encode(&metrics, &response.await) }.boxed())
        }
        Staged::Held(rest) => {
            let rest = async move { outcome::<H>(rest.await, metrics, version, received, encode) };
            Outcome::Held(rest.boxed())
        }
        Staged::NoReply => {
            metrics.requests.answered(<H::Request as Request>::KEY, version, received.elapsed(), &[]);
            Outcome::Ready(Reply::Nothing)
        }
        Staged::Close(reason) => Outcome::Ready(Reply::Close(reason)),
    }
}

fn reply<M: Message>(
    metrics: &Metrics,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    received: Instant,
    response: &M,
) -> Reply {
    match encode_response(key, version, correlation_id, response) {
        Ok(chunks) => {
            metrics.requests.answered(key, version, received.elapsed(), chunks.errors());
            Reply::Frame(chunks)
        }
        Err(error) => {
            tracing::error!(%key, version, %error, "an answer cannot be encoded");
            Reply::Close(CloseReason::Unencodable(key, version))
        }
    }
}
