//! IncrementalAlterConfigs and AlterConfigs: both become a list of changes of one resource; the older form first removes
//! what it does not name.
//!
//! Rules by kind of resource: a topic must exist; a broker's config must be dynamic, for one broker or for all as the
//! table says; groups and client-metrics subscriptions come into being with their first config.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::checks::{check_client_metrics, check_group, check_sessions, check_topic};
use super::decision::Refusal;
use super::elections::{ElectionRules, Event, apply_event};
use super::min_isr::check_min_isr;
use crate::config::{
    ConfigKey, Dynamic, Kind, Scope, Statics, canonical, list_items, lookup, nearest, removed, resolve_broker,
    resolve_resource, resolve_topic, unserved_protection, validate,
};
use crate::metadata::{ConfigRecord, ConfigResource, MetadataImage, MetadataRecord, NO_LEADER, ResourceKind};

/// What happens to one config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOp {
    /// Takes the value.
    Set,
    /// Goes back to the default.
    Delete,
    /// The elements are added to the list that holds now.
    Append,
    /// The elements are removed from the list that holds now.
    Subtract,
}

impl ConfigOp {
    /// Kafka's number of the operation.
    pub fn id(self) -> i8 {
        match self {
            Self::Set => 0,
            Self::Delete => 1,
            Self::Append => 2,
            Self::Subtract => 3,
        }
    }

    /// The operation with Kafka's number.
    pub fn of_id(id: i8) -> Option<Self> {
        [Self::Set, Self::Delete, Self::Append, Self::Subtract].into_iter().find(|op| op.id() == id)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config.
    pub name: Str,
    /// What happens to it; `None` for a number that Kafka does not know.
    pub op: Option<ConfigOp>,
    /// The value of the change.
    pub value: Option<Str>,
}

/// One resource and what is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigTarget {
    /// Kafka's number of the kind.
    pub resource_type: i8,
    /// Its name.
    pub resource_name: Str,
    /// AlterConfigs: configs that are not named are removed.
    pub replace_all: bool,
    /// The changes.
    pub changes: Vec<ConfigChange>,
}

/// The answer for one resource.
pub type ConfigOutcome = Result<(), Refusal>;

/// Decides the changes of several resources; each stands alone. `node_id` and `statics` are of the broker that decides.
pub fn alter_configs(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    targets: &[ConfigTarget],
) -> (Vec<MetadataRecord>, Vec<ConfigOutcome>) {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> =
        targets.iter().map(|t| (t.resource_type, &t.resource_name)).filter(|id| !seen.insert(*id)).collect();
    let (mut records, mut outcomes) = (Vec::new(), Vec::new());
    for target in targets {
        let decided = if twice.contains(&(target.resource_type, &target.resource_name)) {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Each resource must appear at most once."))
        } else {
            alter(image, node_id, statics, target)
        };
        outcomes.push(decided.map(|made| records.extend(made)));
    }
    records.extend(change_partitions(image, node_id, statics, &records));
    (records, outcomes)
}

/// Configs that decide about the leaders of partitions.
const ELECTION_CONFIGS: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];

/// Changes of partitions that follow from changes of their configs, in the same entry of the log. A lower `min.insync.replicas` lets a
/// leader commit records that the eligible leader replicas lack, which ends their eligibility (KIP-966). Where unclean elections become
/// allowed, partitions without a leader get one.
pub(super) fn change_partitions(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    records: &[MetadataRecord],
) -> Vec<MetadataRecord> {
    let changed = records.iter().filter_map(|record| match record {
        MetadataRecord::Config(config) if ELECTION_CONFIGS.contains(&&*config.name) => Some(config),
        _ => None,
    });
    let (mut topics, mut all) = (BTreeSet::new(), false);
    for config in changed {
        match ResourceKind::of_id(config.resource_type) {
            Some(ResourceKind::Topic) => {
                topics.insert(&config.resource_name);
            }
            _ => all = true,
        }
    }
    if topics.is_empty() && !all {
        return Vec::new();
    }
    let mut after = image.clone();
    records.iter().for_each(|record| after.apply(record));
    let affected = after.topics().filter(|topic| all || topics.contains(&topic.name));
    let partitions = affected.flat_map(|topic| topic.partitions.iter());
    let partitions = partitions.filter(|partition| !partition.elr.is_empty() || partition.leader == NO_LEADER);
    apply_event(&after, ElectionRules { node_id, statics }, partitions, Event::Reconfigured)
}

fn alter(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    target: &ConfigTarget,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::INVALID_REQUEST, message);
    let kind = ResourceKind::of_id(target.resource_type)
        .ok_or_else(|| invalid(format!("Unexpected resource type {}.", target.resource_type)))?;
    let resource = ConfigResource { kind, name: target.resource_name.detached() };
    check_resource(image, &resource)?;
    let mut names = BTreeSet::new();
    if let Some(change) = target.changes.iter().find(|change| !names.insert(&change.name)) {
        return Err(invalid(format!("Error due to duplicate config keys: {}", change.name)));
    }
    let mut after = BTreeMap::new();
    if target.replace_all {
        let unnamed = image.configs_of(&resource).filter(|(name, _)| !names.contains(name));
        after.extend(unnamed.map(|(name, _)| (name.clone(), None)));
    }
    for change in &target.changes {
        after.insert(change.name.detached(), changed(image, node_id, statics, &resource, change)?);
    }
    check_min_isr(&resource, &after)?;
    if kind == ResourceKind::Topic {
        check_topic(|name| {
            let key = lookup(Scope::Topic, name)?;
            // A topic that goes without its own value has that of no topic at all.
            let topic = match after.get(name) {
                Some(Some(value)) => return Some(value.to_string()),
                Some(None) => "",
                None => &*resource.name,
            };
            resolve_topic(image, node_id, statics, topic, key).value().map(str::to_owned)
        })?;
    }
    if kind == ResourceKind::Group {
        // A group that goes without its own value has that of no group at all.
        let nobody = ConfigResource { kind, name: Str::default() };
        let changed = |name: &str| after.contains_key(name);
        check_sessions(changed, |name| match after.get(name) {
            Some(Some(value)) => Some(value.to_string()),
            gone => {
                let resource = if gone.is_some() { &nobody } else { &resource };
                let key = lookup(Scope::Group, name)?;
                resolve_resource(image, node_id, statics, resource, key).value().map(str::to_owned)
            }
        })?;
    }
    if let Some(Some(cordoned)) = after.get("cordoned.log.dirs").filter(|_| kind == ResourceKind::Broker) {
        check_cordoned(node_id, statics, &resource, cordoned)?;
    }
    let differs = |name: &Str, value: &Option<Str>| image.config(&resource, name) != value.as_ref();
    Ok(after
        .into_iter()
        .filter(|(name, value)| differs(name, value))
        .map(|(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: kind.id(),
                resource_name: resource.name.clone(),
                name,
                value,
            })
        })
        .collect())
}

/// `*` alone, or log dirs that the broker has, each once. Another broker's dirs are known to that broker only.
fn check_cordoned(node_id: i32, statics: &Statics, resource: &ConfigResource, cordoned: &str) -> Result<(), Refusal> {
    if resource.name.parse() != Ok(node_id) {
        return Ok(());
    }
    let key = lookup(Scope::Broker, "log.dirs");
    let dirs = key.map(|key| resolve_broker(&MetadataImage::default(), node_id, statics, key));
    let dirs = dirs.as_ref().and_then(|dirs| dirs.value()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let known = |name: &str| list_items(dirs).any(|dir| dir.trim_end_matches('/') == name.trim_end_matches('/'));
    let sound = list_items(cordoned).all(|name| known(name) && seen.insert(name));
    if sound || cordoned.trim() == "*" {
        return Ok(());
    }
    let message = "All entries in cordoned.log.dirs must be present in log.dirs or log.dir, or it must be '*'.";
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
}

fn check_resource(image: &MetadataImage, resource: &ConfigResource) -> Result<(), Refusal> {
    let name = &resource.name;
    match resource.kind {
        ResourceKind::Topic if image.topic(name).is_none() => {
            Err(Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist.")))
        }
        ResourceKind::Broker if !name.is_empty() => {
            let known = name.parse().ok().and_then(|id| image.broker(id));
            known.map(|_| ()).ok_or_else(|| {
                Refusal::new(ErrorCode::INVALID_REQUEST, format!("'{name}' is not the id of a registered broker."))
            })
        }
        ResourceKind::Group | ResourceKind::ClientMetrics if name.is_empty() => {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "The resource's name must not be empty."))
        }
        _ => Ok(()),
    }
}

/// What a bad config is called: Kafka has one code for brokers, another for the rest, and client metrics have both.
fn refusal_code(kind: ResourceKind, unknown: bool) -> ErrorCode {
    match kind {
        ResourceKind::Broker => ErrorCode::INVALID_REQUEST,
        ResourceKind::ClientMetrics if unknown => ErrorCode::INVALID_REQUEST,
        _ => ErrorCode::INVALID_CONFIG,
    }
}

fn key_of(resource: &ConfigResource, name: &str) -> Result<&'static ConfigKey, Refusal> {
    let (scope, what) = match resource.kind {
        ResourceKind::Topic => (Scope::Topic, "topic"),
        ResourceKind::Broker => (Scope::Broker, "broker"),
        ResourceKind::ClientMetrics => (Scope::ClientMetrics, "client metrics"),
        ResourceKind::Group => (Scope::Group, "group"),
    };
    let Some(key) = lookup(scope, name) else {
        let removed = removed(name).map(|instead| format!("; Kafka removed it: {instead}"));
        let hint = removed.or_else(|| nearest(scope, name).map(|near| format!("; did you mean {near}?")));
        let hint = hint.unwrap_or_default();
        return Err(Refusal::new(
            refusal_code(resource.kind, true),
            format!("Unknown {what} config name: {name}{hint}"),
        ));
    };
    let refused = |why: &str| {
        Refusal::new(ErrorCode::INVALID_REQUEST, format!("Cannot update these configs dynamically: {name} {why}"))
    };
    match (resource.kind, key.dynamic) {
        (ResourceKind::Broker, Dynamic::Static) => Err(refused("is read at the start; set it in server.properties")),
        (ResourceKind::Broker, Dynamic::PerBroker) if resource.name.is_empty() => {
            Err(refused("can only be set for a single broker"))
        }
        _ => Ok(key),
    }
}

/// The value that a config has after `change`; `None` for "not set".
fn changed(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    resource: &ConfigResource,
    change: &ConfigChange,
) -> Result<Option<Str>, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::INVALID_REQUEST, message);
    let Some(op) = change.op else { return Err(invalid("Unknown config operation.".to_owned())) };
    let key = match key_of(resource, &change.name) {
        // An unknown config has no effect, so removing one is allowed; and what an older version allowed can be removed.
        Err(_) if op == ConfigOp::Delete && resource.kind == ResourceKind::Topic => return Ok(None),
        Err(_) if op == ConfigOp::Delete && image.config(resource, &change.name).is_some() => return Ok(None),
        key => key?,
    };
    if op == ConfigOp::Delete {
        return Ok(None);
    }
    let Some(value) = &change.value else {
        return Err(invalid(format!("Null value not supported for : {}", change.name)));
    };
    let value = match op {
        ConfigOp::Append | ConfigOp::Subtract if key.kind != Kind::List => {
            return Err(Refusal::new(
                ErrorCode::INVALID_CONFIG,
                format!("Can't append to or subtract from key {}, because its type is not LIST.", change.name),
            ));
        }
        ConfigOp::Append | ConfigOp::Subtract => combine_lists(image, node_id, statics, resource, key, op, value),
        ConfigOp::Set | ConfigOp::Delete => value.to_string(),
    };
    let value = canonical(key, &value);
    validate(key, &value).map_err(|e| Refusal::new(refusal_code(resource.kind, false), e.to_string()))?;
    check_served(resource, key, &value)?;
    match resource.kind {
        ResourceKind::Group => check_group(image, node_id, statics, key, &value)?,
        ResourceKind::ClientMetrics => check_client_metrics(key.name, &value)?,
        ResourceKind::Topic | ResourceKind::Broker => {}
    }
    Ok(Some(Str::from(value)))
}

/// A config that protects or keeps data is refused where it is not served: its lack of effect would go unnoticed.
fn check_served(resource: &ConfigResource, key: &ConfigKey, value: &str) -> Result<(), Refusal> {
    let missing = match (resource.kind, key.name) {
        // Kafka opens and closes listeners while it runs.
        (ResourceKind::Broker, "listeners" | "listener.security.protocol.map") => Some("it is read at the start"),
        _ => unserved_protection(key, value),
    };
    missing.map_or(Ok(()), |missing| {
        let message = format!("{} cannot be changed in this version of Esker: {missing}.", key.name);
        Err(Refusal::new(refusal_code(resource.kind, false), message))
    })
}

fn combine_lists(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    resource: &ConfigResource,
    key: &'static ConfigKey,
    op: ConfigOp,
    value: &str,
) -> String {
    let now = resolve_resource(image, node_id, statics, resource, key);
    let own = image.config(resource, key.name).map(|v| v.to_string());
    let now = own.or_else(|| now.value().map(str::to_owned)).unwrap_or_default();
    let mut items: Vec<&str> = list_items(&now).collect();
    for item in list_items(value) {
        items.retain(|known| op == ConfigOp::Append || *known != item);
        if op == ConfigOp::Append && !items.contains(&item) {
            items.push(item);
        }
    }
    items.join(",")
}
