//! Spans of requests: begun where a request is sampled, or where its records are part of a sampled trace.
//!
//! A broker that traces nothing has no tracer: each function here returns after one look at an `Option`.

use std::sync::Arc;

use esker_core::replication::wire::ReplicaFetchRequest;
use esker_core::trace::TraceContext;
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::messages::produce::ProduceRequest;
use esker_protocol::primitives::Str;
use esker_protocol::{Message, RequestHeader};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::Instrument;

use super::handler::RequestContext;
use crate::broker::Broker;
use crate::node::Node;
use crate::peer::{PeerId, TracedRequest};
use crate::replica::Partition;
use crate::server::ConnectionInfo;
use crate::telemetry::Arrival;
use crate::trace::{Span, SpanKind, run_with_current, with_current};

/// Partitions of a request whose records are searched, and that have attributes.
const MAX_PARTITIONS: usize = 32;

/// The span of a request, if it is sampled.
pub(super) fn sample_request(
    broker: &Broker,
    header: &RequestHeader,
    connection: &ConnectionInfo,
    arrival: Arrival,
) -> Option<Arc<Span>> {
    let span = broker.node.tracer()?.sample(header.api_key.name(), SpanKind::Server, arrival.begun)?;
    describe_request(&span, header.client_id.as_ref(), header.api_version, connection);
    Some(Arc::new(span))
}

fn describe_request(span: &Span, client_id: Option<&Str>, api_version: i16, connection: &ConnectionInfo) {
    span.add_attribute("messaging.system", "kafka");
    span.add_attribute("messaging.client.id", client_id.map_or("", |id| id.as_str()));
    span.add_attribute("client.address", connection.peer.ip().to_string().as_str());
    span.add_attribute("esker.api.version", i32::from(api_version));
}

/// The span of a Produce: it is part of the first sampled trace among those of the records, and linked to the others.
pub(super) fn trace_produce(ctx: &RequestContext, request: &ProduceRequest) -> Option<Arc<Span>> {
    let tracer = ctx.broker.node.tracer()?;
    let data = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let records = data.filter_map(|data| data.records.as_ref()).take(MAX_PARTITIONS);
    let mut contexts = records.flat_map(|records| tracer.contexts_of(records));
    let Some(first) = contexts.next() else { return ctx.trace.clone() };
    let begin = || Arc::new(tracer.begin_span(None, "Produce", SpanKind::Server, ctx.arrival.begun));
    let span = ctx.trace.clone().unwrap_or_else(|| {
        let span = begin();
        describe_request(&span, ctx.client_id.as_ref(), ctx.api_version, &ctx.connection);
        span
    });
    span.set_parent(first);
    contexts.for_each(|other| span.add_link(other));
    span.add_attribute("kafka.acks", i32::from(request.acks));
    Some(span)
}

/// Names what was appended on the span of an append.
pub(super) fn describe_append(span: &Span, partition: &Partition, base_offset: Option<i64>) {
    span.add_attribute("messaging.destination.name", partition.topic());
    span.add_attribute("messaging.destination.partition.id", partition.index());
    match base_offset {
        Some(offset) => span.add_attribute("messaging.kafka.offset", offset),
        None => span.set_failed(),
    }
}

/// Links a consumer's Fetch to the sampled traces of the records that it is answered with.
pub(super) fn link_fetch(ctx: &RequestContext, response: &FetchResponse) {
    let Some(tracer) = ctx.broker.node.tracer() else { return };
    let data = response.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |data| (topic, data)));
    let mut span = ctx.trace.clone();
    for (topic, data) in data.take(MAX_PARTITIONS) {
        let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else { continue };
        let contexts: Vec<TraceContext> = tracer.contexts_of(records);
        if contexts.is_empty() {
            continue;
        }
        let span = span.get_or_insert_with(|| {
            let span = tracer.begin_span(None, "Fetch", SpanKind::Server, ctx.arrival.begun);
            describe_request(&span, ctx.client_id.as_ref(), ctx.api_version, &ctx.connection);
            Arc::new(span)
        });
        let image = ctx.broker.metadata.image();
        let name = image.topic_by_id(topic.topic_id).map_or(&topic.topic, |topic| &topic.name);
        span.add_attribute("messaging.destination.name", name.as_str());
        span.add_attribute("messaging.destination.partition.id", data.partition_index);
        contexts.into_iter().for_each(|context| span.add_link(context));
    }
}

/// The span of a request of another node: part of the trace that the request names, else sampled.
pub(super) fn begin_peer_span<R: TracedRequest>(
    node: &Node,
    request: &R,
    connection: &ConnectionInfo,
    arrival: Arrival,
) -> Option<Arc<Span>> {
    let tracer = node.tracer()?;
    let span = match request.trace_context() {
        Some(cause) => tracer.begin_span(Some(cause), R::SCHEMA.name, SpanKind::Server, arrival.begun),
        None => tracer.sample(R::SCHEMA.name, SpanKind::Server, arrival.begun)?,
    };
    describe_peer(&span, connection);
    Some(Arc::new(span))
}

/// The span of a follower's fetch, if it is sampled.
pub(super) fn sample_replica_fetch(node: &Node, connection: &ConnectionInfo, arrival: Arrival) -> Option<Arc<Span>> {
    let span = node.tracer()?.sample(ReplicaFetchRequest::SCHEMA.name, SpanKind::Server, arrival.begun)?;
    describe_peer(&span, connection);
    Some(Arc::new(span))
}

fn describe_peer(span: &Span, connection: &ConnectionInfo) {
    if let Some(peer) = connection.identity::<PeerId>() {
        span.add_attribute("esker.peer.node.id", peer.node_id);
    }
    span.add_attribute("client.address", connection.peer.ip().to_string().as_str());
}

/// Polls `future` within the span: log lines carry its ids, and requests to other nodes are part of its trace.
pub(super) fn in_span<T: 'static>(
    span: Option<&Arc<Span>>,
    future: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, T> {
    // Boxed before it is wrapped: the wrapping is compiled once for each output, not for each future.
    let future = future.boxed();
    match span {
        Some(span) => with_current(span, future.instrument(span.log_span())).boxed(),
        None => future,
    }
}

/// Runs `work` within the span, as [`in_span`] does.
pub(super) fn run_in_span<T>(span: Option<&Arc<Span>>, work: impl FnOnce() -> T) -> T {
    match span {
        Some(span) => span.log_span().in_scope(|| run_with_current(span, work)),
        None => work(),
    }
}
