//! CreateTopics: names, counts, assignments and configs are checked for each topic alone; one bad topic spoils no other.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use esker_protocol::primitives::{Str, Uuid};

use super::checks::check_topic;
use super::decision::{Decision, Refusal};
use super::place::place;
use crate::config::{Scope, Statics, canonical, keys, lookup, nearest, removed, resolve_topic, validate};
use crate::metadata::{
    BrokerImage, ConfigRecord, MetadataImage, MetadataRecord, PartitionRecord, ResourceKind, TopicRecord,
    check_topic_name, collides,
};

/// What CreateTopics needs beside the image and the request.
#[derive(Debug)]
pub struct CreateTopicsContext<'a> {
    /// The broker that decides; its static configs give the defaults.
    pub node_id: i32,
    /// What it was started with.
    pub statics: &'a Statics,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// A fresh id for each topic of the request, in order.
    pub topic_ids: &'a [Uuid],
    /// Where placement begins.
    pub seed: u64,
}

/// The most partitions that one request may make, as in Kafka.
pub(super) const MAX_PARTITIONS: usize = 10_000;

/// Kafka's name for its metadata log; no topic may have that name.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Decides a CreateTopics request.
pub fn create_topics(
    image: &MetadataImage,
    ctx: &CreateTopicsContext<'_>,
    request: &CreateTopicsRequest,
) -> Decision<CreateTopicsResponse> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = request.topics.iter().map(|t| &t.name).filter(|name| !seen.insert(*name)).collect();
    let partitions_of = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        -1 => usize::try_from(ctx.default_partitions).unwrap_or_default(),
        count => usize::try_from(count).unwrap_or_default(),
    };
    let too_many = request.topics.iter().map(partitions_of).fold(0, usize::saturating_add) > MAX_PARTITIONS;
    let mut after = image.clone();
    let (mut records, mut topics) = (Vec::new(), Vec::new());
    let mut answered = BTreeSet::new();
    for (at, topic) in request.topics.iter().enumerate() {
        let decided = if twice.contains(&topic.name) {
            if !answered.insert(&topic.name) {
                continue;
            }
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Found multiple entries for this topic."))
        } else if too_many {
            Err(too_many_partitions())
        } else {
            let id = ctx.topic_ids.get(at).copied().unwrap_or_default();
            create(&after, ctx, topic, id, ctx.seed.wrapping_add(at as u64))
        };
        match decided {
            Ok(made) => {
                made.iter().for_each(|record| after.apply(record));
                topics.push(described(&after, ctx, topic));
                records.extend(made);
            }
            Err(refusal) => topics.push(CreatableTopicResult {
                name: topic.name.clone(),
                error_code: refusal.code,
                error_message: Some(refusal.message),
                ..CreatableTopicResult::default()
            }),
        }
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, reply: CreateTopicsResponse { topics, ..CreateTopicsResponse::default() } }
}

/// The refusal of a request for more than [`MAX_PARTITIONS`] partitions.
pub(super) fn too_many_partitions() -> Refusal {
    Refusal::new(
        ErrorCode::POLICY_VIOLATION,
        format!("Excessively large number of partitions per request: at most {MAX_PARTITIONS} are made at once."),
    )
}

fn create(
    image: &MetadataImage,
    ctx: &CreateTopicsContext<'_>,
    topic: &CreatableTopic,
    id: Uuid,
    seed: u64,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    if *topic.name == *METADATA_TOPIC {
        return refuse(
            ErrorCode::INVALID_REQUEST,
            format!("Creation of internal topic {METADATA_TOPIC} is prohibited."),
        );
    }
    if let Err(invalid) = check_topic_name(&topic.name) {
        return refuse(ErrorCode::INVALID_TOPIC_EXCEPTION, invalid.to_string());
    }
    if image.topic(&topic.name).is_some() {
        return refuse(ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{}' already exists.", topic.name));
    }
    if topic.name.contains(['.', '_'])
        && let Some(other) = image.topics().find(|other| collides(&other.name, &topic.name))
    {
        return refuse(
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!("Topic '{}' collides with existing topic: {}", topic.name, other.name),
        );
    }
    let replicas =
        if topic.assignments.is_empty() { placed(image, ctx, topic, seed)? } else { assigned(image, topic)? };
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name: topic.name.detached(), id })];
    for (partition, replicas) in replicas.into_iter().enumerate() {
        records.push(new_partition(image, id, i32::try_from(partition).unwrap_or(i32::MAX), replicas)?);
    }
    let mut own = BTreeMap::new();
    for config in &topic.configs {
        let value = check_config(&config.name, config.value.as_ref())?;
        own.insert(&*config.name, value.clone());
        records.push(MetadataRecord::Config(ConfigRecord {
            resource_type: ResourceKind::Topic.id(),
            resource_name: topic.name.detached(),
            name: config.name.detached(),
            value: Some(Str::from(value)),
        }));
    }
    check_topic(|name| {
        let inherited = || {
            resolve_topic(image, ctx.node_id, ctx.statics, &topic.name, lookup(Scope::Topic, name)?)
                .value()
                .map(str::to_owned)
        };
        own.get(name).cloned().or_else(inherited)
    })?;
    Ok(records)
}

/// A partition's first record: in sync are those of its replicas whose brokers are active.
pub(super) fn new_partition(
    image: &MetadataImage,
    topic_id: Uuid,
    partition: i32,
    replicas: Vec<i32>,
) -> Result<MetadataRecord, Refusal> {
    let lives = |id: &i32| image.broker(*id).is_some_and(BrokerImage::is_active);
    let isr: Vec<i32> = replicas.iter().copied().filter(lives).collect();
    let Some(leader) = isr.first().copied() else {
        return Err(Refusal::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            format!("All brokers specified in the manual partition assignment for partition {partition} are fenced."),
        ));
    };
    Ok(MetadataRecord::Partition(PartitionRecord {
        topic_id,
        partition,
        replicas,
        isr,
        leader,
        ..PartitionRecord::default()
    }))
}

fn placed(
    image: &MetadataImage,
    ctx: &CreateTopicsContext<'_>,
    topic: &CreatableTopic,
    seed: u64,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let count = if topic.num_partitions == -1 { ctx.default_partitions } else { topic.num_partitions };
    let factor = if topic.replication_factor == -1 { ctx.default_replication_factor } else { topic.replication_factor };
    let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
        Refusal::new(ErrorCode::INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    })?;
    let factor_count = usize::try_from(factor).ok().filter(|factor| *factor > 0).ok_or_else(|| {
        Refusal::new(
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    })?;
    place(image, count, factor_count, seed)
}

fn assigned(image: &MetadataImage, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.",
        ));
    }
    let invalid = |message: String| Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    let mut lists = BTreeMap::new();
    for assignment in &topic.assignments {
        check_replicas(image, assignment.partition_index, &assignment.broker_ids)?;
        if lists.insert(assignment.partition_index, assignment.broker_ids.clone()).is_some() {
            return Err(invalid(format!(
                "Found multiple manual assignments for partition {}",
                assignment.partition_index
            )));
        }
    }
    if !lists.keys().copied().eq((0..).take(lists.len())) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence".to_owned()));
    }
    let factor = lists.values().next().map(Vec::len);
    if lists.values().any(|list| Some(list.len()) != factor) {
        return Err(invalid("all partitions must have the same number of replicas".to_owned()));
    }
    Ok(lists.into_values().collect())
}

/// Checks a replica list of a request: not empty, each broker once, all of them known.
pub(super) fn check_replicas(image: &MetadataImage, partition: i32, replicas: &[i32]) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    if replicas.is_empty() {
        return invalid(format!("The manual partition assignment for partition {partition} includes no brokers."));
    }
    let mut seen = BTreeSet::new();
    for id in replicas {
        if !seen.insert(id) {
            return invalid(format!("The manual partition assignment includes the broker {id} more than once."));
        }
        if image.broker(*id).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
    }
    Ok(())
}

/// Checks a topic config's name and value: the value as it is kept.
fn check_config(name: &str, value: Option<&Str>) -> Result<String, Refusal> {
    let Some(key) = lookup(Scope::Topic, name) else {
        let removed = removed(name).map(|instead| format!("; Kafka removed it: {instead}"));
        let meant = || nearest(Scope::Topic, name).map(|near| format!("; did you mean {near}?"));
        let hint = removed.or_else(meant).unwrap_or_default();
        return Err(Refusal::new(ErrorCode::INVALID_CONFIG, format!("Unknown topic config name: {name}{hint}")));
    };
    let Some(value) = value else {
        return Err(Refusal::new(
            ErrorCode::INVALID_CONFIG,
            format!("Null value not supported for topic configs: {name}"),
        ));
    };
    let value = canonical(key, value);
    validate(key, &value).map_err(|invalid| Refusal::new(ErrorCode::INVALID_CONFIG, invalid.to_string()))?;
    Ok(value)
}

fn described(image: &MetadataImage, ctx: &CreateTopicsContext<'_>, topic: &CreatableTopic) -> CreatableTopicResult {
    let made = image.topic(&topic.name);
    let partitions = made.map(|t| t.partitions.len()).unwrap_or_default();
    let factor = made.and_then(|t| t.partitions.first()).map(|p| p.replicas.len()).unwrap_or_default();
    let configs = keys().iter().filter(|key| key.scope == Scope::Topic && !key.internal).map(|key| {
        let resolved = resolve_topic(image, ctx.node_id, ctx.statics, &topic.name, key);
        CreatableTopicConfigs {
            name: Str::from(key.name),
            value: resolved.value().map(Str::copy),
            read_only: false,
            config_source: resolved.origin().id(),
            is_sensitive: key.is_sensitive(),
        }
    });
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: made.map(|t| t.id).unwrap_or_default(),
        num_partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}
