//! From metrics in OTLP to values with names and labels as Prometheus has them.

use bytes::Bytes;
use esker_core::client_metrics::{Sample, SampleKind};
use prost::Message;
use thiserror::Error;

use super::messages::{
    KeyValue, Metric, MetricsData, Number, NumberData, NumberDataPoint, Resource, ResourceMetrics, Scalar, ScopeMetrics,
};
use crate::telemetry::labels_text;

/// Values of one push; more are dropped.
const MAX_SAMPLES: usize = 10_000;
/// Characters of a name.
const MAX_NAME: usize = 200;
/// Attributes of a value.
const MAX_ATTRIBUTES: usize = 16;
/// Bytes of a label's value; the rest is cut off.
const MAX_LABEL: usize = 200;
/// The beginning of the names that KIP-714 defines. It goes.
const STANDARD: &str = "org.apache.kafka.";
/// The beginning of all names of clients' metrics: no client can write a metric of the broker.
const PREFIX: &str = "kafka_client_";
/// OTLP's number for values that are since the last push.
const DELTA: i32 = 1;

/// Why metrics cannot be read.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("the metrics are no OTLP metrics: {0}")]
pub struct OtlpError(#[from] prost::DecodeError);

/// The labels that all series of a client have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLabels {
    /// `client.id`.
    pub client_id: String,
    /// The id that the broker gave the client.
    pub instance_id: String,
    /// The name of its library.
    pub software_name: String,
}

/// What a push has.
#[derive(Debug, Default, PartialEq)]
pub struct PushedSamples {
    /// Its values.
    pub samples: Vec<Sample>,
    /// Values or metrics that are not served.
    pub unsupported: u64,
}

/// Reads a push.
///
/// # Errors
/// It is no OTLP message.
pub fn read_samples(payload: Bytes, client: &ClientLabels) -> Result<PushedSamples, OtlpError> {
    let mut pushed = PushedSamples::default();
    for resource in MetricsData::decode(payload)?.resource_metrics {
        for scope in ResourceMetrics::decode(resource)?.scope_metrics {
            for metric in ScopeMetrics::decode(scope)?.metrics {
                read_metric(Metric::decode(metric)?, client, &mut pushed)?;
            }
        }
    }
    Ok(pushed)
}

/// The metrics of a push with the client's labels among the attributes of each resource, for other receivers.
///
/// # Errors
/// It is no OTLP message.
pub fn add_client(payload: Bytes, client: &ClientLabels) -> Result<Bytes, OtlpError> {
    let text = |key: &str, value: &str| KeyValue::new(key, Scalar::String(value.to_owned()));
    let attributes = vec![
        text("client_id", &client.client_id),
        text("client_instance_id", &client.instance_id),
        text("client_software_name", &client.software_name),
    ];
    // Fields of a message that are encoded one after the other are those of one message.
    let added = Resource { attributes }.encode_to_vec();
    let mut data = MetricsData::decode(payload)?;
    for metrics in &mut data.resource_metrics {
        let mut with_client = ResourceMetrics::decode(std::mem::take(metrics))?;
        let resource = [with_client.resource.unwrap_or_default().as_ref(), added.as_slice()].concat();
        with_client.resource = Some(resource.into());
        *metrics = with_client.encode_to_vec().into();
    }
    Ok(data.encode_to_vec().into())
}

fn read_metric(metric: Metric, client: &ClientLabels, pushed: &mut PushedSamples) -> Result<(), OtlpError> {
    let (data, kind) = match (metric.gauge, metric.sum) {
        (Some(gauge), _) => (gauge, SampleKind::Gauge),
        (None, Some(sum)) => {
            let kind = sum_kind(&sum);
            (sum, kind)
        }
        (None, None) => {
            pushed.unsupported += 1;
            return Ok(());
        }
    };
    let Some(name) = metric_name(&metric.name, kind) else {
        pushed.unsupported += 1;
        return Ok(());
    };
    for point in data.data_points {
        let point = NumberDataPoint::decode(point)?;
        let value = match point.value {
            Some(Number::Double(value)) => Some(value),
            Some(Number::Int(value)) => Some(value as f64),
            None => None,
        };
        let (true, Some(value)) = (pushed.samples.len() < MAX_SAMPLES, value) else {
            pushed.unsupported += 1;
            continue;
        };
        let labels = read_labels(point.attributes, client)?;
        pushed.samples.push(Sample { name: name.clone(), kind, labels, value });
    }
    Ok(())
}

/// A sum that may fall is a gauge, unless it comes in parts.
fn sum_kind(sum: &NumberData) -> SampleKind {
    match (sum.temporality, sum.is_monotonic) {
        (DELTA, _) => SampleKind::Delta,
        (_, true) => SampleKind::Cumulative,
        (_, false) => SampleKind::Gauge,
    }
}

/// `org.apache.kafka.producer.connection.creation.total` becomes `kafka_client_producer_connection_creation_total`.
fn metric_name(name: &str, kind: SampleKind) -> Option<String> {
    let short = name.strip_prefix(STANDARD).unwrap_or(name);
    if short.is_empty() || short.len() > MAX_NAME {
        return None;
    }
    let mut text = format!("{PREFIX}{}", sanitize(short));
    if kind.is_counter() && !text.ends_with("_total") {
        text.push_str("_total");
    }
    Some(text)
}

fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The client's labels, then the value's attributes. An attribute whose name is one of a label before it is left out.
fn read_labels(attributes: Vec<Bytes>, client: &ClientLabels) -> Result<String, OtlpError> {
    let mut labels = vec![
        ("client_id".to_owned(), client.client_id.clone()),
        ("client_instance_id".to_owned(), client.instance_id.clone()),
        ("client_software_name".to_owned(), client.software_name.clone()),
    ];
    for attribute in attributes.into_iter().take(MAX_ATTRIBUTES) {
        let attribute = KeyValue::decode(attribute)?;
        let mut key = sanitize(cut(&attribute.key));
        if !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            key.insert(0, 'x');
        }
        let Some(value) = attribute.text().filter(|_| labels.iter().all(|(known, _)| *known != key)) else { continue };
        labels.push((key, cut(&value).to_owned()));
    }
    labels.iter_mut().for_each(|(_, value)| *value = cut(value).to_owned());
    Ok(labels_text(labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_LABEL);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientLabels {
        ClientLabels { client_id: "c\"1".to_owned(), instance_id: "id".to_owned(), software_name: "lib".to_owned() }
    }

    fn attribute(key: &str, value: Scalar) -> Bytes {
        KeyValue::new(key, value).encode_to_vec().into()
    }

    fn point(value: Option<Number>, attributes: Vec<Bytes>) -> Bytes {
        NumberDataPoint { attributes, value }.encode_to_vec().into()
    }

    fn push(metrics: &[Metric]) -> Bytes {
        let metrics = metrics.iter().map(|metric| metric.encode_to_vec().into()).collect();
        let scope_metrics = vec![ScopeMetrics { metrics }.encode_to_vec().into()];
        let resource = ResourceMetrics { resource: None, scope_metrics, schema_url: String::new() };
        MetricsData { resource_metrics: vec![resource.encode_to_vec().into()] }.encode_to_vec().into()
    }

    fn gauge(name: &str, data_points: Vec<Bytes>) -> Metric {
        let data = NumberData { data_points, temporality: 0, is_monotonic: false };
        Metric { name: name.to_owned(), gauge: Some(data), sum: None }
    }

    fn sum(name: &str, temporality: i32, is_monotonic: bool) -> Metric {
        let data_points = vec![point(Some(Number::Double(1.5)), Vec::new())];
        Metric { name: name.to_owned(), gauge: None, sum: Some(NumberData { data_points, temporality, is_monotonic }) }
    }

    #[test]
    fn names_and_labels_are_those_of_prometheus() {
        let attributes = vec![
            attribute("topic", Scalar::String("t\n".to_owned())),
            attribute("client_id", Scalar::String("forged".to_owned())),
            attribute("node.id", Scalar::Int(3)),
            attribute("1x", Scalar::Bool(true)),
            attribute("node_id", Scalar::Double(4.0)),
        ];
        let long = "ä".repeat(150);
        let pushed = push(&[
            gauge("org.apache.kafka.consumer.fetch-lag", vec![point(Some(Number::Int(-7)), attributes)]),
            gauge(
                "own",
                vec![
                    point(Some(Number::Double(0.5)), vec![attribute("a", Scalar::String(long))]),
                    point(None, Vec::new()),
                ],
            ),
        ]);
        let pushed = read_samples(pushed, &client()).unwrap();
        let own = "client_id=\"c\\\"1\",client_instance_id=\"id\",client_software_name=\"lib\"";
        let first = &pushed.samples[0];
        assert_eq!(
            (first.name.as_str(), first.kind, first.value),
            ("kafka_client_consumer_fetch_lag", SampleKind::Gauge, -7.0)
        );
        assert_eq!(first.labels, format!("{{{own},topic=\"t\\n\",node_id=\"3\",x1x=\"true\"}}"));
        let second = &pushed.samples[1];
        assert_eq!(second.name, "kafka_client_own");
        assert_eq!(second.labels, format!("{{{own},a=\"{}\"}}", "ä".repeat(100)));
        assert_eq!((pushed.samples.len(), pushed.unsupported), (2, 1));
    }

    #[test]
    fn a_forwarded_push_names_its_client() {
        let pushed = push(&[gauge("a", vec![point(Some(Number::Int(1)), Vec::new())])]);
        let forwarded = add_client(pushed.clone(), &client()).unwrap();
        assert_eq!(read_samples(forwarded.clone(), &client()), read_samples(pushed, &client()));
        let again = add_client(forwarded, &client()).unwrap();
        let data = MetricsData::decode(again).unwrap();
        let resource = ResourceMetrics::decode(data.resource_metrics[0].clone()).unwrap().resource.unwrap();
        let attributes = Resource::decode(resource).unwrap().attributes;
        assert_eq!(attributes.len(), 6);
        assert_eq!((attributes[1].key.as_str(), attributes[1].text()), ("client_instance_id", Some("id".to_owned())));
    }

    #[test]
    fn sums_are_counters() {
        let pushed = push(&[
            sum("org.apache.kafka.producer.connection.creation.total", 1, true),
            sum("d", 1, false),
            sum("c", 2, true),
            sum("g", 2, false),
            Metric { name: "histogram".to_owned(), gauge: None, sum: None },
            sum(&"n".repeat(MAX_NAME + 1), 1, true),
            sum("", 1, true),
        ]);
        let pushed = read_samples(pushed, &client()).unwrap();
        let found: Vec<_> = pushed.samples.iter().map(|sample| (sample.name.as_str(), sample.kind)).collect();
        let expected = [
            ("kafka_client_producer_connection_creation_total", SampleKind::Delta),
            ("kafka_client_d_total", SampleKind::Delta),
            ("kafka_client_c_total", SampleKind::Cumulative),
            ("kafka_client_g", SampleKind::Gauge),
        ];
        assert_eq!(found, expected);
        assert_eq!(pushed.unsupported, 3);
    }

    #[test]
    fn bytes_that_are_no_metrics() {
        let good = push(&[gauge("a", vec![point(Some(Number::Int(1)), vec![attribute("k", Scalar::Int(1))])])]);
        for end in 1..good.len() {
            assert!(read_samples(good.slice(..end), &client()).is_err(), "cut at {end}");
        }
        assert!(read_samples(Bytes::from_static(b"\xff\xff\xff"), &client()).is_err());
        assert_eq!(read_samples(Bytes::new(), &client()).unwrap(), PushedSamples::default());
        let many = (0..MAX_SAMPLES + 5).map(|_| point(Some(Number::Int(1)), Vec::new())).collect();
        let pushed = read_samples(push(&[gauge("a", many)]), &client()).unwrap();
        assert_eq!((pushed.samples.len(), pushed.unsupported), (MAX_SAMPLES, 5));
    }
}
