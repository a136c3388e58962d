//! What is exported of a span.

use esker_core::trace::TraceContext;
use tokio::time::Instant;

/// Bytes of an attribute's text.
const MAX_TEXT: usize = 256;

/// OpenTelemetry's kinds of spans, as far as they are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work within a request.
    Internal,
    /// A request that is served.
    Server,
    /// A request to another node.
    Client,
    /// Records of another process's trace arrive here.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
}

impl From<&str> for AttributeValue {
    /// A long text is cut off: a client's name for itself may be of any length.
    fn from(text: &str) -> Self {
        let end = text.floor_char_boundary(MAX_TEXT);
        Self::Text(text.get(..end).unwrap_or_default().to_owned())
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for AttributeValue {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

/// What is exported of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedSpan {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span that it is part of.
    pub parent: Option<u64>,
    /// What it is.
    pub name: &'static str,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// More about it.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Other traces that it has to do with.
    pub links: Vec<TraceContext>,
    /// Whether it failed.
    pub failed: bool,
}
