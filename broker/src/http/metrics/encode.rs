//! Prometheus' text format.

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

pub(super) fn encode(families: &[MetricFamily]) -> Result<String, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}
