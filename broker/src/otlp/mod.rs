//! OTLP, the protocol of OpenTelemetry: the part of its messages that Esker reads and writes, and the export over HTTP.
//!
//! Messages are plain structs with derived codecs, not generated from `.proto` files: neither `protoc` nor gRPC is needed. Must never:
//! know the state of the broker.

mod client;
mod export;
mod messages;
mod samples;
mod spans;

pub use client::{ExportError, OtlpClient};
pub use export::{ForwardCounts, Forwarder, forward_metrics, start_exports};
pub use samples::{ClientLabels, OtlpError, PushedSamples, add_client, read_samples};
pub use spans::{ClockAnchor, SpanSource, encode_spans};
