//! From a decoded header to the handler of its API, and from the handler's answer to a frame.

use std::sync::Arc;

use esker_protocol::api::ApiKey;
use esker_protocol::primitives::{Chunks, EncodeError, Reader};
use esker_protocol::{Message, Request, encode_response};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Route, Staged};
use super::traced::{in_span, run_in_span};
use crate::server::{CloseReason, Outcome, Reply};
use crate::telemetry::{Arrival, Metrics};
use crate::trace::Span;

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
    let key = <H::Request as Request>::KEY;
    let call = RouteCall::of(&ctx, key, correlation_id);
    match H::Request::decode(body, ctx.api_version) {
        Ok(request) => {
            let trace = ctx.trace.clone();
            let staged = run_in_span(trace.as_ref(), || H::handle(ctx, request));
            drop(trace);
            stage_outcome(staged, call, None)
        }
        Err(error) => Outcome::Refused(CloseReason::Malformed(Some(key), error)),
    }
}

/// What the answer to a request needs, and what is measured of it.
pub(super) struct RouteCall {
    metrics: Arc<Metrics>,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    arrival: Arrival,
    /// Held until the answer is encoded: its span ends then.
    trace: Option<Arc<Span>>,
}

impl RouteCall {
    pub(super) fn of(ctx: &RequestContext, key: ApiKey, correlation_id: i32) -> Self {
        let metrics = Arc::clone(&ctx.broker.metrics);
        let trace = ctx.trace.clone();
        Self { metrics, key, version: ctx.api_version, correlation_id, arrival: ctx.arrival, trace }
    }

    fn reply<M: Message>(&self, staged: Option<Instant>, response: &M) -> Reply {
        self.finish(staged, encode_response(self.key, self.version, self.correlation_id, response))
    }

    // `finish` and `reply_nothing` do not depend on the API: they are compiled once, not once for each.
    fn finish(&self, staged: Option<Instant>, encoded: Result<Chunks, EncodeError>) -> Reply {
        let Self { key, version, .. } = *self;
        match encoded {
            Ok(chunks) => {
                if let Some(span) = self.trace.as_ref().filter(|_| !chunks.errors().is_empty()) {
                    span.set_failed();
                }
                let answered = self.metrics.requests.answered((key, version), self.arrival, staged, chunks.errors());
                Reply::Frame(chunks, Some(answered))
            }
            Err(error) => {
                tracing::error!(%key, version, %error, "an answer cannot be encoded");
                Reply::Close(CloseReason::Unencodable(key, version))
            }
        }
    }

    fn reply_later<M: Message + Send>(
        self,
        waits: Option<Instant>,
        response: BoxFuture<'static, M>,
    ) -> BoxFuture<'static, Reply> {
        let trace = self.trace.clone();
        in_span(trace.as_ref(), async move { self.reply(waits, &response.await) })
    }

    fn reply_nothing(&self, began_wait: Option<Instant>) -> Outcome {
        let requests = &self.metrics.requests;
        let answered = requests.answered((self.key, self.version), self.arrival, began_wait, &[]);
        requests.ended_without_answer(answered);
        Outcome::Ready(Reply::Nothing)
    }
}

/// What stage one leaves, with the answer encoded. `began_wait` is when it first had to wait, if it had to.
pub(super) fn stage_outcome<M: Message + Send>(
    staged: Staged<M>,
    call: RouteCall,
    began_wait: Option<Instant>,
) -> Outcome {
    let waits = || began_wait.or_else(|| Some(Instant::now()));
    match staged {
        Staged::Ready(response) => Outcome::Ready(call.reply(began_wait, &response)),
        Staged::Later(response) => Outcome::Later(call.reply_later(waits(), response)),
        Staged::Parked(bytes, response) => Outcome::Parked(bytes, call.reply_later(waits(), response)),
        Staged::Held(rest) => {
            let waits = waits();
            let trace = call.trace.clone();
            let outcome = async move { stage_outcome(rest.await, call, waits) };
            Outcome::Held(in_span(trace.as_ref(), outcome))
        }
        Staged::NoReply => call.reply_nothing(began_wait),
        Staged::Close(reason) => Outcome::Ready(Reply::Close(reason)),
    }
}
