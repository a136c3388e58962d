//! Traces of requests (OpenTelemetry): spans, begun where a request is sampled or its records carry a `traceparent` header.
//!
//! Without an endpoint for them there is no [`Tracer`], and a request costs one look at an `Option`. A span that ends goes into a bounded
//! queue, or is dropped and counted: no request waits for an exporter. Must never: look into records that are compressed.

mod current;
mod span;
mod tracer;

pub use current::{current_context, run_with_current, with_current};
pub use span::{AttributeValue, FinishedSpan, SpanKind};
pub use tracer::{Span, Tracer, TracerCounts};
