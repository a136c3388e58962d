//! The counters of one broker that hot paths hold handles of, and what they are called.
//!
//! A family without rows is on the page nonetheless: its name does not depend on what has happened.

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::page::{Family, Kind, Page, Rows};

/// See the module.
#[derive(Debug, Default)]
pub struct CounterSet {
    registry: Registry,
    families: Mutex<Vec<Family>>,
}

impl CounterSet {
    /// A counter without labels.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        let counter = IntCounter::new(name, help)?;
        self.register(&counter, (name, Kind::Counter, &[], help))?;
        Ok(counter)
    }

    /// Counters by labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.register(&counters, (name, Kind::Counter, labels, help))?;
        Ok(counters)
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        let gauge = IntGauge::new(name, help)?;
        self.register(&gauge, (name, Kind::Gauge, &[], help))?;
        Ok(gauge)
    }

    /// A histogram without labels.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.register(&histogram, (name, Kind::Histogram, &[], help))?;
        Ok(histogram)
    }

    /// Histograms by labels.
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, Error> {
        let histograms = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
        self.register(&histograms, (name, Kind::Histogram, labels, help))?;
        Ok(histograms)
    }

    fn register<C: Collector + Clone + 'static>(
        &self,
        collector: &C,
        (name, kind, labels, help): (&str, Kind, &[&str], &str),
    ) -> Result<(), Error> {
        self.registry.register(Box::new(collector.clone()))?;
        let mut labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        labels.sort_unstable();
        self.families.lock().push(Family { name: name.to_owned(), kind, labels, help: help.to_owned() });
        Ok(())
    }

    /// Writes all of them.
    pub fn write(&self, page: &mut Page) {
        let gathered = self.registry.gather();
        for family in self.families.lock().iter() {
            let labels: Vec<&str> = family.labels.iter().map(String::as_str).collect();
            let mut rows = page.family(&family.name, family.kind, &labels, &family.help);
            for found in gathered.iter().filter(|found| found.name() == family.name) {
                write_rows(&mut rows, found, &labels);
            }
        }
    }
}

fn write_rows(rows: &mut Rows<'_>, family: &MetricFamily, labels: &[&str]) {
    for metric in family.get_metric() {
        let value_of = |label: &&str| {
            let pair = metric.get_label().iter().find(|pair| pair.name() == *label);
            pair.map_or_else(String::new, |pair| pair.value().to_owned())
        };
        let values: Vec<String> = labels.iter().map(value_of).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        match family.get_field_type() {
            MetricType::COUNTER => rows.add(&values, metric.get_counter().get_value()),
            MetricType::HISTOGRAM => write_histogram(rows, metric, &values),
            _ => rows.add(&values, metric.get_gauge().get_value()),
        }
    }
}

fn write_histogram(rows: &mut Rows<'_>, metric: &Metric, values: &[&str]) {
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket() {
        let bound = bucket.upper_bound().to_string();
        rows.add_part("_bucket", values, Some(("le", &bound)), bucket.cumulative_count());
    }
    let count = histogram.get_sample_count();
    rows.add_part("_bucket", values, Some(("le", "+Inf")), count);
    rows.add_part("_sum", values, None, histogram.get_sample_sum());
    rows.add_part("_count", values, None, count);
}
