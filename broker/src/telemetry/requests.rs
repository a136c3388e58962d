//! Requests by API: how many, how long, which errors.

use std::time::Duration;

use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use crate::handlers::ROUTES;

/// Seconds; from far below a millisecond to the longest polls.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug)]
struct Api {
    key: ApiKey,
    count: IntCounter,
    latency: Histogram,
}

/// Counters of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    apis: Vec<Api>,
    errors: IntCounterVec,
}

impl RequestMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let count = IntCounterVec::new(
            Opts::new("kafka_network_requestmetrics_requests_total", "Requests answered, by API"),
            &["request"],
        )?;
        let latency = HistogramVec::new(
            HistogramOpts::new("esker_request_duration_seconds", "From a request read to its answer ready, by API")
                .buckets(BUCKETS.to_vec()),
            &["request"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new("kafka_network_requestmetrics_errors_total", "Errors in answers, by API and error"),
            &["request", "error"],
        )?;
        registry.register(Box::new(count.clone()))?;
        registry.register(Box::new(latency.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        let apis = ROUTES.iter().map(|route| Api {
            key: route.key,
            count: count.with_label_values(&[route.key.name()]),
            latency: latency.with_label_values(&[route.key.name()]),
        });
        Ok(Self { apis: apis.collect(), errors })
    }

    /// A request was answered.
    pub fn answered(&self, key: ApiKey, took: Duration, errors: &[ErrorCode]) {
        if let Some(api) = self.apis.iter().find(|api| api.key == key) {
            api.count.inc();
            api.latency.observe(took.as_secs_f64());
        }
        for error in errors {
            self.errors.with_label_values(&[key.name(), error.name()]).inc();
        }
    }
}
