//! What a handler is: stage one of one API, with the broker and the origin of the request.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use esker_protocol::Request;
use esker_protocol::api::ApiKey;
use esker_protocol::primitives::{Reader, Str};
use esker_protocol::schema::Schema;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::broker::{Broker, Endpoint};
use crate::server::{CloseReason, ConnectionInfo, Outcome};
use crate::telemetry::Arrival;
use crate::trace::Span;

/// What a handler is given beside its request.
#[derive(Clone)]
pub struct RequestContext {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Where the request came in.
    pub connection: Arc<ConnectionInfo>,
    /// The client's name for itself.
    pub client_id: Option<Str>,
    /// The version of the request.
    pub api_version: i16,
    /// When it came.
    pub arrival: Arrival,
    /// All that is served on this listener.
    pub routes: &'static [Route],
    /// Its span, if it is traced.
    pub trace: Option<Arc<Span>>,
}

impl RequestContext {
    /// Where clients of this connection's listener reach a broker.
    pub fn endpoint_of(&self, node_id: i32) -> Option<Endpoint> {
        self.broker.endpoint_of(node_id, &self.connection.listener)
    }
}

/// What stage one of a handler leaves.
pub enum Staged<R> {
    /// The answer.
    Ready(R),
    /// The answer will come; meanwhile later requests of the connection begin.
    Later(BoxFuture<'static, R>),
    /// As `Later`, of a request that has been dropped: only so many bytes of it are still in memory.
    Parked(usize, BoxFuture<'static, R>),
    /// Stage one continues after a wait: until it ends no later request of the connection begins.
    Held(BoxFuture<'static, Staged<R>>),
    /// The client expects no answer.
    NoReply,
    /// The connection ends.
    Close(CloseReason),
}

impl<R> Staged<R> {
    /// Begins `answer` now, so that what it does before its first wait happens in request order; the rest continues later.
    pub fn start(answer: impl Future<Output = R> + Send + 'static) -> Self {
        let mut answer = answer.boxed();
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => Self::Ready(response),
            Poll::Pending => Self::Later(answer),
        }
    }
}

/// One API.
pub trait Handler {
    /// Its request.
    type Request: Request;
    /// The versions that are served, all of them whole.
    const VERSIONS: RangeInclusive<i16>;
    /// Stage one: runs in request order on the connection's task and must not block. Whatever must keep the order (an
    /// append) happens here.
    fn handle(ctx: RequestContext, request: Self::Request) -> Staged<<Self::Request as Request>::Response>;
}

/// One row of the list of handlers.
#[derive(Debug)]
pub struct Route {
    /// The API.
    pub key: ApiKey,
    /// First version served.
    pub min_version: i16,
    /// Last version served.
    pub max_version: i16,
    /// What its answer looks like.
    pub response: &'static Schema,
    pub(super) run: fn(RequestContext, i32, &mut Reader) -> Outcome,
}
