//! Client metrics (KIP-714) over the wire: the subscription that a client gets, what becomes of a push, and pushes that are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::net::TcpStream;

use bytes::Bytes;
use esker_protocol::compression::{Compression, compress};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_protocol::messages::list_config_resources::ListConfigResourcesRequest;
use esker_protocol::messages::push_telemetry::PushTelemetryRequest;
use esker_protocol::primitives::{Str, Uuid};
use esker_tests::cluster::{find, wait_until};
use esker_tests::collector::Collector;
use esker_tests::{Esker, ask};

/// Kafka's number of a client-metrics resource.
const CLIENT_METRICS: i8 = 16;

/// A protobuf field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// One value of a delta counter in OTLP, with one attribute.
fn counter(name: &str, attribute: (&str, &str), value: f64) -> Vec<u8> {
    let any = field(1, attribute.1.as_bytes());
    let key_value = [field(1, attribute.0.as_bytes()), field(2, &any)].concat();
    let point = [field(7, &key_value), vec![4 << 3 | 1], value.to_le_bytes().to_vec()].concat();
    let sum = [field(1, &point), vec![2 << 3, 1, 3 << 3, 1]].concat();
    let metric = [field(1, name.as_bytes()), field(7, &sum)].concat();
    field(1, &field(2, &field(2, &metric)))
}

fn subscribe(stream: &mut TcpStream, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
    let config = |(name, value): &(&str, &str)| AlterableConfig {
        name: Str::copy(name),
        config_operation: 0,
        value: Some(Str::copy(value)),
    };
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: Str::copy(name),
        configs: configs.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    ask(stream, 1, &request).responses[0].error_code
}

fn get(stream: &mut TcpStream, client_instance_id: Uuid) -> GetTelemetrySubscriptionsResponse {
    ask(stream, 0, &GetTelemetrySubscriptionsRequest { client_instance_id })
}

/// The push of a client that was told what to push.
fn push_of(told: &GetTelemetrySubscriptionsResponse, codec: Compression, metrics: &[u8]) -> PushTelemetryRequest {
    let mut packed = Vec::new();
    compress(codec, None, metrics, &mut packed).unwrap();
    PushTelemetryRequest {
        client_instance_id: told.client_instance_id,
        subscription_id: told.subscription_id,
        terminating: false,
        compression_type: codec.id() as i8,
        metrics: packed.into(),
    }
}

fn push(stream: &mut TcpStream, request: &PushTelemetryRequest) -> ErrorCode {
    ask(stream, 0, request).error_code
}

fn connect_as(esker: &Esker, software: &str) -> TcpStream {
    let mut stream = esker.connect();
    let request = ApiVersionsRequest {
        client_software_name: Str::copy(software),
        client_software_version: "1.0".into(),
        ..ApiVersionsRequest::default()
    };
    let served = ask(&mut stream, 3, &request).api_keys;
    assert!([71, 72].iter().all(|key| served.iter().any(|api| api.api_key == *key)), "{served:?}");
    stream
}

#[test]
fn pushed_values_are_on_the_page_of_metrics() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = connect_as(&esker, "differ");
    let none = get(&mut stream, Uuid::ZERO);
    assert_eq!((none.error_code, none.requested_metrics.len(), none.push_interval_ms), (ErrorCode::NONE, 0, 300_000));
    assert_eq!(none.accepted_compression_types, [4, 3, 1, 2]);
    assert_eq!((none.telemetry_max_bytes, none.delta_temporality), (1 << 20, true));
    let configs = [("metrics", "org.apache.kafka."), ("interval.ms", "100"), ("match", "client_software_name=diff.*")];
    assert_eq!(subscribe(&mut stream, "mine", &configs), ErrorCode::NONE);
    let list = ask(&mut stream, 0, &ListConfigResourcesRequest::default());
    assert_eq!(list.config_resources.iter().map(|one| one.resource_name.as_str()).collect::<Vec<_>>(), ["mine"]);

    // The subscription changed: it is fetched before the interval is over.
    let told = get(&mut stream, none.client_instance_id);
    assert_eq!(told.requested_metrics, ["org.apache.kafka."].map(Str::from));
    assert_eq!((told.push_interval_ms, told.client_instance_id), (100, none.client_instance_id));
    assert_eq!(get(&mut connect_as(&esker, "other"), Uuid::ZERO).requested_metrics.len(), 0);

    let name = "org.apache.kafka.producer.record.send.total";
    let mut pushes = 0;
    for codec in [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy, Compression::None] {
        let request = push_of(&told, codec, &counter(name, ("topic", "orders"), 2.0));
        // A push that comes too early is throttled; it is tried again until its interval is over.
        while push(&mut stream, &request) == ErrorCode::THROTTLING_QUOTA_EXCEEDED {}
        pushes += 1;
        let row = format!(
            "kafka_client_producer_record_send_total{{client_id=\"test\",client_instance_id=\"{}\",client_software_name=\"differ\",topic=\"orders\"}}",
            told.client_instance_id
        );
        assert_eq!(esker.metric(&row), f64::from(2 * pushes), "{}", esker.http_get("/metrics"));
    }
    assert_eq!(esker.metric("kafka_server_client_metrics_plugin_export_total"), 5.0);
    assert_eq!(esker.metric("esker_client_metrics_series"), 1.0);

    let last = PushTelemetryRequest { terminating: true, ..push_of(&told, Compression::None, b"") };
    assert_eq!(push(&mut stream, &last), ErrorCode::NONE, "the last push may come at any time");
    assert_eq!(push(&mut stream, &last), ErrorCode::INVALID_REQUEST, "there is none after it");
}

#[test]
fn a_push_before_its_interval_is_over_is_throttled() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = esker.connect();
    // Five minutes, which is the most: they are not over before this test is, however slow that is.
    let configs = [("metrics", "*"), ("interval.ms", "300000")];
    assert_eq!(subscribe(&mut stream, "all", &configs), ErrorCode::NONE);
    let told = get(&mut stream, Uuid::ZERO);
    assert_eq!((told.error_code, told.push_interval_ms), (ErrorCode::NONE, 300_000));
    let request = push_of(&told, Compression::None, &counter("org.apache.kafka.a", ("k", "v"), 1.0));
    assert_eq!(push(&mut stream, &request), ErrorCode::NONE, "the first may come at once");
    assert_eq!(push(&mut stream, &request), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert_eq!(esker.metric("kafka_server_client_metrics_throttle_total"), 1.0);
    assert_eq!(esker.metric("kafka_server_client_metrics_plugin_export_total"), 1.0);
}

#[test]
fn pushes_that_are_refused() {
    let esker = Esker::spawn(&["serve", "--ephemeral", "--set", "telemetry.max.bytes=10000"]);
    let mut stream = esker.connect();
    assert_eq!(subscribe(&mut stream, "all", &[("metrics", "*")]), ErrorCode::NONE);
    let good = counter("org.apache.kafka.a", ("k", "v"), 1.0);
    let refused = |what: &str, expected: ErrorCode, change: &dyn Fn(&mut PushTelemetryRequest)| {
        let mut stream = esker.connect();
        let told = get(&mut stream, Uuid::ZERO);
        let mut request = push_of(&told, Compression::None, &good);
        change(&mut request);
        assert_eq!(push(&mut stream, &request), expected, "{what}");
    };
    let zeros = vec![0; 1 << 20];
    let bomb = |codec: Compression| push_of(&GetTelemetrySubscriptionsResponse::default(), codec, &zeros);
    refused("good", ErrorCode::NONE, &|_| ());
    refused("no instance", ErrorCode::INVALID_REQUEST, &|push| push.client_instance_id = Uuid::ZERO);
    refused("another subscription", ErrorCode::UNKNOWN_SUBSCRIPTION_ID, &|push| push.subscription_id += 1);
    refused("no compression", ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, &|push| push.compression_type = 5);
    refused("a negative one", ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, &|push| push.compression_type = -1);
    refused("too large", ErrorCode::TELEMETRY_TOO_LARGE, &|push| push.metrics = Bytes::from(vec![0; 10_001]));
    refused("no OTLP", ErrorCode::INVALID_RECORD, &|push| push.metrics = Bytes::from_static(b"\xff\xff"));
    refused("no zstd", ErrorCode::INVALID_RECORD, &|push| push.compression_type = 4);
    for codec in [Compression::Zstd, Compression::Lz4, Compression::Gzip] {
        let packed = bomb(codec);
        assert!(packed.metrics.len() < 10_000);
        refused("a bomb", ErrorCode::TELEMETRY_TOO_LARGE, &|push| {
            (push.compression_type, push.metrics) = (packed.compression_type, packed.metrics.clone());
        });
    }
    for (configs, expected) in [
        (("interval.ms", "99"), ErrorCode::INVALID_REQUEST),
        (("interval.ms", "3600001"), ErrorCode::INVALID_REQUEST),
        (("match", "client_id=("), ErrorCode::INVALID_CONFIG),
        (("match", "host=a"), ErrorCode::INVALID_CONFIG),
        (("retention.ms", "1"), ErrorCode::INVALID_REQUEST),
    ] {
        assert_eq!(subscribe(&mut stream, "bad", &[configs]), expected, "{configs:?}");
    }
    assert_eq!(esker.metric("kafka_server_client_metrics_plugin_error_total"), 6.0);
    assert_eq!(esker.metric("kafka_server_client_metrics_unknown_subscription_request_total"), 1.0);
    let labels = "{client_id=\"test\",client_instance_id=\"";
    assert!(esker.http_get("/metrics").contains(&format!("kafka_client_a_total{labels}")));
}

#[test]
fn clients_cannot_fill_the_page_of_metrics() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = esker.connect();
    assert_eq!(subscribe(&mut stream, "all", &[("metrics", "*")]), ErrorCode::NONE);
    let values = |count: usize| {
        (0..count).flat_map(|n| counter("org.apache.kafka.a", ("n", &n.to_string()), 1.0)).collect::<Vec<_>>()
    };
    let (many, few) = (values(5_000), values(1));
    let told = get(&mut stream, Uuid::ZERO);
    assert_eq!(push(&mut stream, &push_of(&told, Compression::Zstd, &many)), ErrorCode::NONE);
    assert_eq!(esker.metric("esker_client_metrics_series"), 2_000.0);
    assert_eq!(esker.metric("esker_client_metrics_dropped_total{reason=\"client_series\"}"), 3_000.0);
    // A metric of the broker's is no client's to write.
    let forged = counter("esker_broker_fenced", ("k", "v"), 1.0);
    let told = get(&mut stream, Uuid::ZERO);
    assert_eq!(push(&mut stream, &push_of(&told, Compression::None, &forged)), ErrorCode::NONE);
    let page = esker.http_get("/metrics");
    assert!(page.contains("\nkafka_client_esker_broker_fenced_total{"));
    assert_eq!(page.matches("# TYPE esker_broker_fenced ").count(), 1);
    let told = get(&mut stream, Uuid::ZERO);
    assert_eq!(push(&mut stream, &push_of(&told, Compression::None, &few)), ErrorCode::NONE);
}

#[test]
fn pushes_are_forwarded_to_the_endpoint() {
    let collector = Collector::start();
    let endpoint = format!("otlp.endpoint={}", collector.endpoint());
    let esker = Esker::spawn(&["serve", "--ephemeral", "--set", &endpoint]);
    let mut stream = connect_as(&esker, "differ");
    assert_eq!(subscribe(&mut stream, "all", &[("metrics", "*")]), ErrorCode::NONE);
    let told = get(&mut stream, Uuid::ZERO);
    let metrics = counter("org.apache.kafka.a", ("k", "v"), 1.0);
    assert_eq!(push(&mut stream, &push_of(&told, Compression::Zstd, &metrics)), ErrorCode::NONE);
    let body = find("the push", || collector.bodies("/v1/metrics").pop());
    for text in ["org.apache.kafka.a", "client_software_name", "differ", &told.client_instance_id.to_string()] {
        assert!(body.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    wait_until("it is counted", || esker.metric("esker_client_metrics_forwarded_total{result=\"taken\"}") == 1.0);
    assert_eq!(collector.spans(), [], "requests are not traced without tracing.sample.ratio");
}
