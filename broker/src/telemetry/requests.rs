//! Requests by API: how many, how long, which errors.

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use prometheus::core::{AtomicU64, GenericLocalCounter};
use prometheus::local::LocalHistogram;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::shards::Shards;

/// An API and the versions of it that are served.
#[derive(Debug, Clone)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// The versions.
    pub versions: RangeInclusive<i16>,
}

/// Seconds; from far below a millisecond to the longest polls.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type LocalCounter = GenericLocalCounter<AtomicU64>;

/// What was counted of an API since the last scrape.
#[derive(Debug)]
struct Api {
    first_version: i16,
    /// By version, from the first.
    counts: Vec<LocalCounter>,
    latency: LocalHistogram,
    without_error: LocalCounter,
}

impl Api {
    fn fold(&self) {
        self.counts.iter().for_each(LocalCounter::flush);
        self.latency.flush();
        self.without_error.flush();
    }
}

/// Counters of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    /// The place is the API's key.
    apis: Vec<Option<Shards<Api>>>,
    errors: IntCounterVec,
}

impl RequestMetrics {
    pub(super) fn new(registry: &Registry, served: impl Iterator<Item = ServedApi>) -> Result<Self, prometheus::Error> {
        let count = IntCounterVec::new(
            Opts::new("kafka_network_requestmetrics_requests_total", "Requests answered, by API and version"),
            &["request", "version"],
        )?;
        let latency = HistogramVec::new(
            HistogramOpts::new("esker_request_duration_seconds", "From a request read to its answer ready, by API")
                .buckets(BUCKETS.to_vec()),
            &["request"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "kafka_network_requestmetrics_errors_total",
                "Errors in answers, by API and error; NONE is an answer without any",
            ),
            &["request", "error"],
        )?;
        registry.register(Box::new(count.clone()))?;
        registry.register(Box::new(latency.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        let mut apis = Vec::new();
        for ServedApi { key, versions } in served {
            let (Ok(at), name) = (usize::try_from(key.0), key.name()) else { continue };
            if apis.len() <= at {
                apis.resize_with(at + 1, || None);
            }
            let of_version = |version: i16| count.with_label_values(&[name, &version.to_string()]);
            let first_version = *versions.start();
            let counts: Vec<_> = versions.map(of_version).collect();
            let latency = latency.with_label_values(&[name]);
            let without_error = errors.with_label_values(&[name, ErrorCode::NONE.name()]);
            let api = Shards::new(|| Api {
                first_version,
                counts: counts.iter().map(prometheus::IntCounter::local).collect(),
                latency: latency.local(),
                without_error: without_error.local(),
            });
            if let Some(place) = apis.get_mut(at) {
                *place = Some(api);
            }
        }
        Ok(Self { apis, errors })
    }

    /// A request was answered, or wants no answer.
    pub fn answered(&self, key: ApiKey, version: i16, took: Duration, errors: &[ErrorCode]) {
        let Some(Some(api)) = usize::try_from(key.0).ok().and_then(|at| self.apis.get(at)) else { return };
        let Some(api) = api.local() else { return };
        let at = usize::try_from(version.saturating_sub(api.first_version)).ok();
        if let Some(count) = at.and_then(|at| api.counts.get(at)) {
            count.inc();
        }
        api.latency.observe(took.as_secs_f64());
        if errors.is_empty() {
            api.without_error.inc();
        }
        drop(api);
        for error in errors {
            self.errors.with_label_values(&[key.name(), error.name()]).inc();
        }
    }

    /// Adds to the registry's counters what came since the last time.
    pub(super) fn fold(&self) {
        self.apis.iter().flatten().for_each(|api| api.for_each(|api| api.fold()));
    }
}
