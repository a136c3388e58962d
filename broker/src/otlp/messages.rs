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
