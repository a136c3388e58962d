//! OTLP, the protocol of OpenTelemetry: the part of its messages that Esker reads and writes.
//!
//! Messages are plain structs with derived codecs, not generated from `.proto` files: neither `protoc` nor gRPC is needed. Must never:
//! know the state of the broker.

mod messages;
mod samples;

pub use samples::{ClientLabels, OtlpError, PushedSamples, read_samples};
