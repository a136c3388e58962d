//! OTLP, the protocol of OpenTelemetry: the part of its messages that Esker reads and writes, and the export over HTTP.
//!
//! Messages are plain structs with derived codecs, not generated from `.proto` files: neither `protoc` nor gRPC is needed. Must never:
//! know the state of the broker.
//!
//! OpenTelemetry's crates (0.33.1) were measured, with rustc 1.95 and `-j1` on two cores under load (tokio: 13.5 CPU seconds):
//! - A cold release build costs 41 CPU seconds more with `opentelemetry-otlp`, `http-proto` and no HTTP client of its own: 12 crates, of which
//!   `opentelemetry_sdk` takes 18.5 s (the feature includes metrics), zerocopy 5.2 s and the API 4.1 s. `opentelemetry-proto` with traces
//!   alone is 9 crates and 23 s. The limit for a feature that is off by default is 15 s.
//! - Most of this code would stay. A span of the SDK cannot change its parent, as a sampled Produce does when its records are read. The SDK's batch
//!   processor is a thread that does not report drops. `opentelemetry-otlp` without its own clients calls `thread::sleep` between retries,
//!   and its errors lose their cause ("network error").
//! - The SDK's W3C parser accepts `00-7-b-01`, and ids with a sign. 20 exporters encoded the same span in 6 ways: the order of resource attributes
//!   is random.
//! - Ids, times and connections are no reason: the crates accept the node's. Nor is memory: an exporter takes 0.3 MB and no thread.
//! - `tracing-opentelemetry` 0.34 needs a `tracing` span for each request: 19 allocations for one that is not sampled, instead of one look at
//!   an `Option`.

mod client;
mod export;
mod messages;
mod samples;
mod spans;

pub use client::{ExportError, OtlpClient};
pub use export::{ForwardCounts, Forwarder, forward_metrics, start_exports};
pub use samples::{ClientLabels, OtlpError, PushedSamples, add_client, read_samples};
pub use spans::{ClockAnchor, SpanSource, encode_spans};
