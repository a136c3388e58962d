//! DescribeConfigs (32, KIP-133): configs of topics, brokers and groups, with where each value comes from (v1, KIP-226), its type
//! (v3, KIP-569) and what would hold without it.

use std::ops::RangeInclusive;

use esker_core::config::{
    ConfigKey, ConfigSource, Dynamic, Kind, Level, Resolved, Scope, keys, resolve_broker, resolve_topic,
};
use esker_core::metadata::{ConfigResource, MetadataImage, ResourceKind};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use esker_protocol::primitives::Str;

use super::{Handler, RequestContext, Staged};
use crate::broker::Broker;

/// The DescribeConfigs API.
pub struct DescribeConfigs;

impl Handler for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(ctx: RequestContext, request: DescribeConfigsRequest) -> Staged<DescribeConfigsResponse> {
        let image = ctx.broker.metadata.image();
        let results = request.resources.iter().map(|resource| {
            let described = describe(&ctx.broker, &image, resource, request.include_synonyms);
            let (configs, error_code, error_message) = match described {
                Ok(configs) => (configs, ErrorCode::NONE, None),
                Err((code, message)) => (Vec::new(), code, Some(Str::from(message))),
            };
            DescribeConfigsResult {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs,
            }
        });
        Staged::Ready(DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() })
    }
}

type Refused = (ErrorCode, String);

fn describe(
    broker: &Broker,
    image: &MetadataImage,
    wanted: &DescribeConfigsResource,
    with_synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let name = &wanted.resource_name;
    let kind = ResourceKind::of_id(wanted.resource_type)
        .ok_or_else(|| (ErrorCode::INVALID_REQUEST, format!("Unsupported resource type {}.", wanted.resource_type)))?;
    let all_brokers = kind == ResourceKind::Broker && name.is_empty();
    let scope = match kind {
        ResourceKind::Topic if image.topic(name).is_none() => {
            return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist.")));
        }
        ResourceKind::Topic => Scope::Topic,
        ResourceKind::Broker if !name.is_empty() && name.parse() != Ok(broker.node_id) => {
            return Err((
                ErrorCode::INVALID_REQUEST,
                format!("Unexpected broker id, expected {} or empty string, but received {name}", broker.node_id),
            ));
        }
        ResourceKind::Broker => Scope::Broker,
        ResourceKind::ClientMetrics => Scope::ClientMetrics,
        ResourceKind::Group => Scope::Group,
    };
    let asked = |key: &ConfigKey| {
        wanted.configuration_keys.as_ref().filter(|k| !k.is_empty()).is_none_or(|k| k.iter().any(|n| *n == key.name))
    };
    let rows = keys().iter().filter(|key| key.scope == scope && !key.internal && asked(key)).filter_map(|key| {
        let resolved = match kind {
            ResourceKind::Topic => resolve_topic(image, broker.node_id, &broker.config.statics, name, key),
            ResourceKind::Broker => resolve_broker(image, broker.node_id, &broker.config.statics, key),
            ResourceKind::Group | ResourceKind::ClientMetrics => on_resource(image, kind, name, key),
        };
        // "All brokers" has what was set for all of them, and nothing else.
        let shown = !all_brokers || resolved.levels.iter().any(|l| l.source == ConfigSource::DynamicDefaultBroker);
        let resolved = if all_brokers { only_defaults_for_all(resolved) } else { resolved };
        shown.then(|| row(kind, key, &resolved, with_synonyms))
    });
    Ok(rows.collect())
}

fn only_defaults_for_all(resolved: Resolved) -> Resolved {
    let levels = resolved.levels.into_iter().filter(|level| level.source == ConfigSource::DynamicDefaultBroker);
    Resolved { levels: levels.collect() }
}

fn on_resource(image: &MetadataImage, kind: ResourceKind, name: &Str, key: &'static ConfigKey) -> Resolved {
    let resource = ConfigResource { kind, name: name.clone() };
    let source = if kind == ResourceKind::Group { ConfigSource::Group } else { ConfigSource::ClientMetrics };
    let set = image.config(&resource, key.name).map(|v| Level { name: key.name, value: v.to_string().into(), source });
    let default = key.default.map(|v| Level { name: key.name, value: v.into(), source: ConfigSource::Default });
    Resolved { levels: set.into_iter().chain(default).collect() }
}

fn row(kind: ResourceKind, key: &ConfigKey, resolved: &Resolved, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let hidden = key.is_sensitive();
    let tell = |value: &str| (!hidden).then(|| Str::copy(value));
    let synonyms = resolved.levels.iter().filter(|_| with_synonyms).map(|level| DescribeConfigsSynonym {
        name: Str::from(level.name),
        value: tell(&level.value),
        source: level.source.id(),
    });
    DescribeConfigsResourceResult {
        name: Str::from(key.name),
        value: resolved.value().and_then(tell),
        read_only: kind == ResourceKind::Broker && key.dynamic == Dynamic::Static,
        is_default: false,
        config_source: resolved.source().id(),
        is_sensitive: hidden,
        synonyms: synonyms.collect(),
        config_type: type_id(key.kind),
        documentation: None,
    }
}

fn type_id(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}
