//! From spans to OTLP: the body of an export request.

use esker_core::trace::TraceContext;
use prost::Message;
use tokio::time::Instant;

use super::messages::{KeyValue, Link, Resource, ResourceSpans, Scalar, Scope, ScopeSpans, Span, Status, TracesData};
use crate::trace::{AttributeValue, FinishedSpan, SpanKind};

/// OTLP's number of a span that failed.
const ERROR: i32 = 2;
/// The sampled bit of a span's flags.
const SAMPLED: u32 = 1;

/// The process that spans come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanSource {
    /// `node.id`.
    pub node_id: i32,
    /// The version of this broker.
    pub version: &'static str,
}

/// A moment on both clocks: spans are measured by the monotonic one, and reported by the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct ClockAnchor {
    /// By the monotonic clock.
    pub instant: Instant,
    /// By the wall clock, in ms since 1970.
    pub wall_ms: i64,
}

impl ClockAnchor {
    fn unix_nanos(self, at: Instant) -> u64 {
        let wall = u64::try_from(self.wall_ms).unwrap_or_default().saturating_mul(1_000_000);
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.instant) {
            Some(after) => wall.saturating_add(nanos(after)),
            None => wall.saturating_sub(nanos(self.instant.saturating_duration_since(at))),
        }
    }
}

/// The body of a request to `/v1/traces`.
pub fn encode_spans(source: &SpanSource, anchor: ClockAnchor, spans: Vec<FinishedSpan>) -> Vec<u8> {
    let text = |key: &str, value: String| KeyValue::new(key, Scalar::String(value));
    let attributes = vec![
        text("service.name", "esker".to_owned()),
        text("service.instance.id", source.node_id.to_string()),
        text("service.version", source.version.to_owned()),
    ];
    let spans = spans.into_iter().map(|span| encode_span(span, anchor)).collect();
    let scope = Scope { name: "esker".to_owned(), version: source.version.to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource = Some(Resource { attributes });
    TracesData { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

fn encode_span(span: FinishedSpan, anchor: ClockAnchor) -> Span {
    let attribute = |(key, value): (&'static str, AttributeValue)| match value {
        AttributeValue::Text(text) => KeyValue::new(key, Scalar::String(text)),
        AttributeValue::Int(value) => KeyValue::new(key, Scalar::Int(value)),
    };
    let link = |other: &TraceContext| Link { trace_id: trace_id(other), span_id: span_id(other.span_id) };
    Span {
        trace_id: trace_id(&span.context),
        span_id: span_id(span.context.span_id),
        parent_span_id: span.parent.map(span_id).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: kind_number(span.kind),
        start_unix_nanos: anchor.unix_nanos(span.start),
        end_unix_nanos: anchor.unix_nanos(span.end),
        links: span.links.iter().map(link).collect(),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        status: span.failed.then_some(Status { code: ERROR }),
        flags: SAMPLED,
    }
}

fn trace_id(context: &TraceContext) -> Vec<u8> {
    context.trace_id.to_be_bytes().to_vec()
}

fn span_id(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn kind_number(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Consumer => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_has_the_fields_of_otlp() {
        let start = Instant::now();
        let context = TraceContext { trace_id: 1 << 64 | 2, span_id: 3, sampled: true };
        let span = FinishedSpan {
            context,
            parent: Some(4),
            name: "Produce",
            kind: SpanKind::Server,
            start,
            end: start + Duration::from_micros(1500),
            attributes: vec![("topic", "t".into()), ("partition", 7_i32.into())],
            links: vec![context],
            failed: true,
        };
        let anchor = ClockAnchor { instant: start + Duration::from_millis(1), wall_ms: 1_000 };
        let body = encode_spans(&SpanSource { node_id: 5, version: "1" }, anchor, vec![span]);
        let data = TracesData::decode(body.as_slice()).unwrap();
        let resource = &data.resource_spans[0];
        let instance = &resource.resource.as_ref().unwrap().attributes[1];
        assert_eq!((instance.key.as_str(), instance.text()), ("service.instance.id", Some("5".to_owned())));
        let span = &resource.scope_spans[0].spans[0];
        assert_eq!(span.trace_id, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((span.span_id[7], span.parent_span_id[7], span.kind), (3, 4, 2));
        assert_eq!((span.start_unix_nanos, span.end_unix_nanos), (999_000_000, 1_000_500_000));
        assert_eq!(span.attributes[1].text(), Some("7".to_owned()));
        assert_eq!((span.links.len(), span.status.as_ref().unwrap().code), (1, 2));
    }
}
