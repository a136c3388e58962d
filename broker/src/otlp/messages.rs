//! Messages of OTLP 1.x, by their field numbers.
//!
//! A field that repeats a message stays bytes until its turn: each message is decoded, used and dropped by itself. So the memory of a
//! decoder is a small multiple of the payload, whatever a client sends.

use bytes::Bytes;
use prost::{Message, Oneof};

/// `MetricsData`, and `ExportMetricsServiceRequest`, which has the same form.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricsData {
    /// `ResourceMetrics`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) resource_metrics: Vec<Bytes>,
}

/// `ResourceMetrics`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceMetrics {
    /// `Resource`.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) resource: Option<Bytes>,
    /// `ScopeMetrics`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) scope_metrics: Vec<Bytes>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

/// `ScopeMetrics`, without the scope.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeMetrics {
    /// `Metric`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) metrics: Vec<Bytes>,
}

/// `Metric`: its data are those of one of five kinds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// `Gauge`.
    #[prost(message, optional, tag = "5")]
    pub(super) gauge: Option<NumberData>,
    /// `Sum`.
    #[prost(message, optional, tag = "7")]
    pub(super) sum: Option<NumberData>,
}

/// `Gauge` and `Sum`; a gauge has the points alone.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberData {
    /// `NumberDataPoint`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) data_points: Vec<Bytes>,
    /// 1: delta, 2: cumulative.
    #[prost(int32, tag = "2")]
    pub(super) temporality: i32,
    #[prost(bool, tag = "3")]
    pub(super) is_monotonic: bool,
}

/// `NumberDataPoint`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberDataPoint {
    /// `KeyValue`.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(super) attributes: Vec<Bytes>,
    #[prost(oneof = "Number", tags = "4, 6")]
    pub(super) value: Option<Number>,
}

/// The value of a point.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum Number {
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

/// `KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

/// `AnyValue`, of the kinds that are no collections.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Scalar", tags = "1, 2, 3, 4")]
    pub(super) value: Option<Scalar>,
}

/// See [`AnyValue`].
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Scalar {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

impl KeyValue {
    /// An attribute.
    pub(super) fn new(key: &str, value: Scalar) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }

    /// The value as text; `None` for a collection.
    pub(super) fn text(&self) -> Option<String> {
        match self.value.as_ref()?.value.as_ref()? {
            Scalar::String(text) => Some(text.clone()),
            Scalar::Bool(value) => Some(value.to_string()),
            Scalar::Int(value) => Some(value.to_string()),
            Scalar::Double(value) => Some(value.to_string()),
        }
    }
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

/// `TracesData`, and `ExportTraceServiceRequest`, which has the same form.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TracesData {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// `Span`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_unix_nanos: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_unix_nanos: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    pub(super) links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    pub(super) status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

/// `Span.Link`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Link {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
}

/// `Status`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}
