//! Every config of the log, from the built-in default up to the topic's own value and back: the answer of DescribeConfigs, and the
//! value in the log (`effects` tests that the log acts on it).

mod effects;
mod table;

use std::sync::Arc;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use table::{BROKER, TOPIC};

use super::*;
use crate::replica::{Partition, TopicRef};
use crate::serve::Running;
use crate::test_support::{Client, broker, create_topic};

/// Kafka's numbers of the config sources.
const FROM_TOPIC: i8 = 1;
const FROM_THIS_BROKER: i8 = 2;
const FROM_ALL_BROKERS: i8 = 3;
const FROM_FILE: i8 = 4;
const BUILT_IN: i8 = 5;

const ON_TOPIC: (i8, &str) = (2, "t");
const ON_THIS_BROKER: (i8, &str) = (4, "1");
const ON_ALL_BROKERS: (i8, &str) = (4, "");

/// Sets or (`None`) removes configs; returns the error code of the answer.
async fn try_set(client: &mut Client, on: (i8, &'static str), configs: &[(&'static str, Option<&str>)]) -> ErrorCode {
    let config = |(name, value): &(&'static str, Option<&str>)| AlterableConfig {
        name: (*name).into(),
        config_operation: i8::from(value.is_none()),
        value: value.map(|value| value.to_owned().into()),
    };
    let resource = AlterConfigsResource {
        resource_type: on.0,
        resource_name: on.1.into(),
        configs: configs.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.ask(1, &request).await.responses[0].error_code
}

async fn set(client: &mut Client, on: (i8, &'static str), configs: &[(&'static str, Option<&str>)]) {
    assert_eq!(try_set(client, on, configs).await, ErrorCode::NONE, "{configs:?}");
}

/// Value, source and whether it is read-only, by name.
async fn describe(client: &mut Client, on: (i8, &'static str)) -> impl Fn(&str) -> (String, i8, bool) + use<> {
    let resource =
        DescribeConfigsResource { resource_type: on.0, resource_name: on.1.into(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let configs = client.ask(4, &request).await.results.remove(0).configs;
    move |name| {
        let config =
            configs.iter().find(|config| &*config.name == name).unwrap_or_else(|| panic!("{name} is not described"));
        (config.value.as_deref().unwrap_or_default().to_owned(), config.config_source, config.read_only)
    }
}

fn partition(running: &Running) -> Arc<Partition> {
    running.broker.replicas.partition(&TopicRef::by_name(&"t".into()), 0).unwrap()
}

/// Checks that DescribeConfigs returns the expected values and sources, and that the partition has the same values.
async fn check_configs(
    running: &Running,
    client: &mut Client,
    step: &str,
    expected: impl Fn(&table::Row) -> (String, i8),
) {
    let described = describe(client, ON_TOPIC).await;
    let image = running.broker.metadata.image();
    let config = TopicConfig::resolve(&image, 1, &running.broker.config.statics, "t");
    let partition = partition(running);
    let role = partition.leader_for_epoch(-1).unwrap();
    assert_eq!(*partition.log().config(), role.settings.log, "{step}: the log has what its partition has");
    for row in TOPIC {
        let (value, source) = expected(row);
        let (text, from, _) = described(row.topic);
        assert_eq!((&text, from), (&value, source), "{step}: {} is described", row.topic);
        assert_eq!((row.has)(&config, &role.settings), value, "{step}: {} the log has", row.topic);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_configs_from_the_default_up_to_its_own_and_back() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    check_configs(&running, &mut client, "nothing set", |row| (row.default.into(), BUILT_IN)).await;
    running.stop().await.unwrap();

    let fixed: Vec<_> = TOPIC.iter().map(|row| (row.broker, row.values[0])).collect();
    let (running, _dir) = broker(&fixed).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let levels = [FROM_FILE, FROM_ALL_BROKERS, FROM_THIS_BROKER, FROM_TOPIC];
    let at = |level: usize| move |row: &table::Row| (row.values[level].to_owned(), levels[level]);
    check_configs(&running, &mut client, "in the file", at(0)).await;
    let named = |level: usize| -> Vec<(&'static str, Option<&str>)> {
        let name = |row: &table::Row| if level == 3 { row.topic } else { row.broker };
        TOPIC.iter().map(|row| (name(row), Some(row.values[level]))).collect()
    };
    let on = [ON_ALL_BROKERS, ON_ALL_BROKERS, ON_THIS_BROKER, ON_TOPIC];
    for (level, on) in on.into_iter().enumerate().skip(1) {
        set(&mut client, on, &named(level)).await;
        check_configs(&running, &mut client, "set", at(level)).await;
    }
    for level in (1..4).rev() {
        let gone: Vec<_> = named(level).into_iter().map(|(name, _)| (name, None)).collect();
        set(&mut client, on[level], &gone).await;
        check_configs(&running, &mut client, "removed", at(level - 1)).await;
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_of_in_sync_replicas_is_the_clusters_or_the_topics_own() {
    const MINIMUM: &str = "min.insync.replicas";
    let (running, _dir) = broker(&[(MINIMUM, "2")]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let check = async |client: &mut Client, value: &str, source: i8| {
        let (text, from, _) = describe(client, ON_TOPIC).await(MINIMUM);
        assert_eq!((&*text, from), (value, source));
        let role = partition(&running).leader_for_epoch(-1).unwrap();
        assert_eq!(role.settings.min_insync_replicas.to_string(), value);
    };
    // What the first controller was started with is the cluster's.
    check(&mut client, "2", FROM_ALL_BROKERS).await;
    set(&mut client, ON_ALL_BROKERS, &[(MINIMUM, Some("3"))]).await;
    check(&mut client, "3", FROM_ALL_BROKERS).await;
    for (on, value) in [(ON_THIS_BROKER, Some("1")), (ON_ALL_BROKERS, None)] {
        assert_eq!(try_set(&mut client, on, &[(MINIMUM, value)]).await, ErrorCode::INVALID_CONFIG, "{on:?} {value:?}");
    }
    set(&mut client, ON_TOPIC, &[(MINIMUM, Some("4"))]).await;
    check(&mut client, "4", FROM_TOPIC).await;
    set(&mut client, ON_TOPIC, &[(MINIMUM, None)]).await;
    check(&mut client, "3", FROM_ALL_BROKERS).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_configs_from_the_default_up_to_its_own_and_back() {
    let check_broker =
        async |running: &Running, client: &mut Client, expected: &dyn Fn(&table::BrokerRow) -> (String, i8)| {
            let described = describe(client, ON_THIS_BROKER).await;
            for row in BROKER {
                let (value, source) = expected(row);
                let (text, from, read_only) = described(row.name);
                assert_eq!((&text, from), (&value, source), "{} is described", row.name);
                assert_eq!(read_only, row.later.is_none(), "{}", row.name);
                if let Some(has) = row.has {
                    assert_eq!(has(running), value, "{} the broker has", row.name);
                }
            }
        };
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    check_broker(&running, &mut client, &|row| (row.default.into(), BUILT_IN)).await;
    running.stop().await.unwrap();

    let fixed: Vec<_> = BROKER.iter().map(|row| (row.name, row.fixed)).collect();
    let (running, _dir) = broker(&fixed).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let in_file = |row: &table::BrokerRow| (row.fixed.to_owned(), FROM_FILE);
    check_broker(&running, &mut client, &in_file).await;
    for row in BROKER.iter().filter(|row| row.later.is_none()) {
        let answer = try_set(&mut client, ON_THIS_BROKER, &[(row.name, Some(row.fixed))]).await;
        assert_eq!(answer, ErrorCode::INVALID_REQUEST, "{} is read at the start only", row.name);
    }
    let later = |level: usize| {
        let values = BROKER.iter().filter_map(move |row| Some((row.name, Some(row.later?[level]))));
        values.collect::<Vec<_>>()
    };
    let changed = |level: usize, source: i8| {
        move |row: &table::BrokerRow| {
            row.later.map_or((row.fixed.into(), FROM_FILE), |later| (later[level].into(), source))
        }
    };
    set(&mut client, ON_ALL_BROKERS, &later(0)).await;
    check_broker(&running, &mut client, &changed(0, FROM_ALL_BROKERS)).await;
    set(&mut client, ON_THIS_BROKER, &later(1)).await;
    check_broker(&running, &mut client, &changed(1, FROM_THIS_BROKER)).await;
    for on in [ON_THIS_BROKER, ON_ALL_BROKERS] {
        let gone: Vec<_> = later(0).into_iter().map(|(name, _)| (name, None)).collect();
        set(&mut client, on, &gone).await;
    }
    check_broker(&running, &mut client, &in_file).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn older_names_hold_where_the_newer_are_not_set() {
    // As Apache Kafka 4.4 answers: the value in the newer name's unit, described as a default.
    let fixed = [
        ("log.retention.hours", "2"),
        ("log.retention.minutes", "-1"),
        ("log.roll.hours", "3"),
        ("log.roll.jitter.hours", "4"),
        ("log.flush.scheduler.interval.ms", "12345"),
    ];
    let (running, _dir) = broker(&fixed).await;
    let mut client = Client::to(&running).await;
    create_topic(&mut client).await;
    let config = partition(&running).log().config();
    let has = [
        ("retention.ms", config.retention_ms, -1),
        ("segment.ms", config.segment_ms, 10_800_000),
        ("segment.jitter.ms", config.segment_jitter_ms, 14_400_000),
        ("flush.ms", config.flush_ms, 12345),
    ];
    let described = describe(&mut client, ON_TOPIC).await;
    for (name, has, expected) in has {
        assert_eq!(described(name), (expected.to_string(), BUILT_IN, false), "{name}");
        assert_eq!(has, expected, "{name}");
    }
    set(&mut client, ON_ALL_BROKERS, &[("log.flush.interval.ms", Some("7"))]).await;
    assert_eq!(describe(&mut client, ON_TOPIC).await("flush.ms"), ("7".to_owned(), FROM_ALL_BROKERS, false));
    assert_eq!(partition(&running).log().config().flush_ms, 7);
    running.stop().await.unwrap();
}
