use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{Str, Uuid};

use super::*;
use crate::metadata::{ConfigRecord, MetadataImage, MetadataRecord, ResourceKind};

const ID: Uuid = Uuid([7; 16]);
const MINUTE: i64 = 60_000;

fn client() -> ClientAttributes {
    ClientAttributes {
        instance_id: ID,
        client_id: Some(Str::copy("orders-1")),
        software_name: Str::copy("apache-kafka-java"),
        software_version: Str::copy("4.4.0"),
        source_address: "10.1.2.3".to_owned(),
        source_port: 4711,
    }
}

fn subscriptions(resources: &[(&str, &[(&str, &str)])]) -> Arc<Subscriptions> {
    let mut image = MetadataImage::default();
    for (name, configs) in resources {
        for (key, value) in *configs {
            image.apply(&MetadataRecord::Config(ConfigRecord {
                resource_type: ResourceKind::ClientMetrics.id(),
                resource_name: Str::copy(name),
                name: Str::copy(key),
                value: Some(Str::copy(value)),
            }));
        }
    }
    Arc::new(Subscriptions::default().update(&image).unwrap_or_default())
}

fn instances(resources: &[(&str, &[(&str, &str)])]) -> ClientInstances {
    let mut instances = ClientInstances::default();
    instances.set_subscriptions(subscriptions(resources));
    instances
}

fn push(subscription_id: i32) -> PushRequest {
    PushRequest { subscription_id, terminating: false, compression: 4, bytes: 10, max_bytes: 100 }
}

#[test]
fn a_pattern_matches_the_whole_value() {
    for (pattern, expected) in [
        ("", true),
        ("client_id=orders-1", true),
        ("client_id=orders", false),
        ("client_id=orders-.*", true),
        (" client_id = orders-[0-9] , client_source_port=47.1", true),
        ("client_id=orders-[0-9],client_source_port=48.1", false),
        ("client_id=other,client_id=orders-1", true),
        ("client_software_name=apache-kafka-java,client_software_version=4\\..*", true),
        ("client_source_address=10\\.1\\.2\\.3", true),
        ("client_source_address=10\\.1\\.2", false),
        (&format!("client_instance_id={ID}"), true),
        ("client_instance_id=other", false),
    ] {
        let set = subscriptions(&[("s", &[("metrics", "org."), ("match", pattern)])]);
        assert_eq!(!set.of_client(&client()).metrics.is_empty(), expected, "{pattern}");
    }
    let nameless = ClientAttributes { client_id: None, ..client() };
    let set = subscriptions(&[("s", &[("metrics", "org."), ("match", "client_id=.*")])]);
    assert!(set.of_client(&nameless).metrics.is_empty());
}

#[test]
fn patterns_that_are_none() {
    for pattern in [
        "client_id",
        "client_id=",
        "=x",
        "host=x",
        "client_id=a=b",
        "client_id=(",
        "client_id=(?=x)",
        "client_id=\\w{1000}{1000}",
    ] {
        assert!(parse_patterns(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_client_pushes_the_union_at_the_shortest_interval() {
    let set = subscriptions(&[
        ("a", &[("metrics", "org.b,org.a"), ("interval.ms", "5000")]),
        ("b", &[("metrics", "org.a,org.c"), ("interval.ms", "1000"), ("match", "client_id=orders-.*")]),
        ("c", &[("metrics", "*"), ("interval.ms", "100"), ("match", "client_id=payments")]),
    ]);
    let matched = set.of_client(&client());
    assert_eq!(matched.metrics, ["org.a", "org.b", "org.c"].map(Str::copy));
    assert_eq!(matched.interval_ms, 1000);
    let other = ClientAttributes { client_id: Some(Str::copy("payments")), ..client() };
    let of_other = set.of_client(&other);
    assert_eq!((of_other.metrics, of_other.interval_ms), (vec![Str::copy("*")], 100));
    assert_ne!(of_other.subscription_id, matched.subscription_id);
    let elsewhere = ClientAttributes { instance_id: Uuid([8; 16]), ..client() };
    assert_eq!(set.of_client(&elsewhere).metrics, matched.metrics);
    let none = subscriptions(&[]).of_client(&client());
    assert_eq!((none.metrics.len(), none.interval_ms), (0, 300_000));
}

#[test]
fn pushes_come_once_an_interval() {
    let mut instances = instances(&[("s", &[("metrics", "*"), ("interval.ms", "60000")])]);
    let now = 1_000_000;
    let id = instances.get_subscription(&client(), now).unwrap().subscription_id;
    assert_eq!(instances.get_subscription(&client(), now + 1), Err(Refusal::TooEarly));
    assert_eq!(instances.accept_push(&client(), push(id), now + 2), Ok(60_000), "the first push may come at once");
    assert_eq!(instances.accept_push(&client(), push(id), now + 3), Err(Refusal::TooEarly));
    assert_eq!(instances.accept_push(&client(), push(id), now + 2 + MINUTE), Ok(60_000));
    let ending = PushRequest { terminating: true, ..push(id) };
    assert_eq!(
        instances.accept_push(&client(), ending, now + 3 + MINUTE),
        Ok(60_000),
        "the last push may come at any time"
    );
    assert_eq!(instances.accept_push(&client(), push(id), now + 2 * MINUTE), Err(Refusal::Terminated));
}

#[test]
fn another_subscription_is_fetched_at_once() {
    let mut instances = instances(&[("s", &[("metrics", "*"), ("interval.ms", "60000")])]);
    let id = instances.get_subscription(&client(), 0).unwrap().subscription_id;
    instances.set_subscriptions(subscriptions(&[("s", &[("metrics", "org."), ("interval.ms", "60000")])]));
    assert_eq!(instances.accept_push(&client(), push(id), 1), Err(Refusal::UnknownSubscription));
    let other = instances.get_subscription(&client(), 2).unwrap().subscription_id;
    assert_ne!(other, id);
    assert_eq!(instances.accept_push(&client(), push(other), MINUTE + 2), Ok(60_000));
}

#[test]
fn refusals_have_kafkas_codes() {
    let first = |request: fn(i32) -> PushRequest| {
        let mut instances = instances(&[]);
        let id = instances.get_subscription(&client(), 0).unwrap().subscription_id;
        instances.accept_push(&client(), request(id), 0).map_err(Refusal::code)
    };
    assert_eq!(first(|id| PushRequest { compression: 0, ..push(id) }), Ok(300_000));
    assert_eq!(first(|id| push(id + 1)), Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID));
    assert_eq!(first(|id| PushRequest { compression: 5, ..push(id) }), Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE));
    assert_eq!(first(|id| PushRequest { compression: -1, ..push(id) }), Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE));
    assert_eq!(first(|id| PushRequest { bytes: 101, ..push(id) }), Err(ErrorCode::TELEMETRY_TOO_LARGE));
    let mut instances = instances(&[]);
    for id in [Uuid::ZERO, Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])] {
        let nobody = ClientAttributes { instance_id: id, ..client() };
        assert_eq!(instances.accept_push(&nobody, push(0), 0).map_err(Refusal::code), Err(ErrorCode::INVALID_REQUEST));
    }
}

#[test]
fn instances_are_bounded_and_expire() {
    let mut instances = instances(&[("s", &[("interval.ms", "60000")])]);
    for number in 2..20_000_u128 {
        let client = ClientAttributes { instance_id: Uuid((number << 64).to_be_bytes()), ..client() };
        assert!(instances.get_subscription(&client, 0).is_ok());
    }
    assert_eq!(instances.count(), 16_384);
    instances.expire(3 * MINUTE - 1);
    assert_eq!(instances.count(), 16_384);
    instances.expire(3 * MINUTE);
    assert_eq!(instances.count(), 0);
}

fn sample(name: &str, kind: SampleKind, labels: &str, value: f64) -> Sample {
    Sample { name: name.to_owned(), kind, labels: labels.to_owned(), value }
}

#[test]
fn sums_add_up_and_gauges_are_replaced() {
    use SampleKind::{Cumulative, Delta, Gauge};
    let mut series = ClientSeries::default();
    for (kind, name, expected) in [(Gauge, "g", 3.0), (Delta, "d", 5.0), (Cumulative, "c", 3.0)] {
        series.store(ID, MINUTE, vec![sample(name, kind, "{}", 2.0)], 0);
        series.store(ID, MINUTE, vec![sample(name, kind, "{}", 3.0)], 0);
        let rows = series.by_name();
        assert_eq!(rows[name], [SeriesRow { labels: "{}", value: expected, is_counter: kind.is_counter() }]);
    }
    series.expire(MINUTE);
    assert_eq!((series.count(), series.by_name().len()), (0, 0));
}

#[test]
fn series_are_bounded_in_all_directions() {
    let mut series = ClientSeries::default();
    let many = |count: usize| (0..count).map(|n| sample("a", SampleKind::Gauge, &n.to_string(), 1.0)).collect();
    for client in 0..26 {
        series.store(Uuid([client + 1; 16]), 1, many(2_005), 0);
    }
    assert_eq!(series.count(), 50_000);
    assert_eq!(series.drops().get(DropReason::SeriesOfClient), 25 * 5);
    assert_eq!(series.drops().get(DropReason::Series), 2_005);
    series.expire(1);
    let names = (0..1_010).map(|n| sample(&format!("n{n}"), SampleKind::Gauge, "", 1.0)).collect();
    series.store(ID, 2, names, 3);
    assert_eq!((series.count(), series.drops().get(DropReason::Names)), (1_000, 10));
    assert_eq!(series.drops().get(DropReason::Unsupported), 3);
    series.expire(2);
    series.store(ID, 3, vec![sample("other", SampleKind::Gauge, "", 1.0)], 0);
    assert_eq!(series.count(), 1, "names without series make room");
}
