//! DescribeConfigs (32, KIP-133): configs of topics, brokers and groups, with where each value comes from (v1, KIP-226), its type
//! (v3, KIP-569) and what would hold without it.

use std::ops::RangeInclusive;

use esker_core::config::{ConfigKey, ConfigSource, Dynamic, Kind, Resolved, Scope, keys, resolve_resource};
use esker_core::metadata::{ConfigResource, MetadataImage, ResourceKind, check_topic_name};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::loggers;
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
    if wanted.resource_type == loggers::RESOURCE_TYPE {
        return loggers::describe(broker, wanted);
    }
    let name = &wanted.resource_name;
    let kind = ResourceKind::of_id(wanted.resource_type)
        .ok_or_else(|| (ErrorCode::INVALID_REQUEST, format!("Unsupported resource type {}.", wanted.resource_type)))?;
    let refuse = |message: &str| Err((ErrorCode::INVALID_REQUEST, message.to_owned()));
    let all_brokers = kind == ResourceKind::Broker && name.is_empty();
    let scope = match kind {
        ResourceKind::Topic if check_topic_name(name).is_err() => {
            return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, format!("'{name}' is no name of a topic.")));
        }
        ResourceKind::Group if name.is_empty() => return refuse("The name of a group must not be empty."),
        ResourceKind::ClientMetrics if name.is_empty() => {
            return refuse("The name of a client-metrics subscription must not be empty.");
        }
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
    let resource = ConfigResource { kind, name: name.clone() };
    let asked = |key: &ConfigKey| {
        wanted.configuration_keys.as_ref().filter(|k| !k.is_empty()).is_none_or(|k| k.iter().any(|n| *n == key.name))
    };
    let rows = keys().iter().filter(|key| key.scope == scope && !key.internal && asked(key)).filter_map(|key| {
        let resolved = resolve_resource(image, broker.node_id, &broker.config.statics, &resource, key);
        if !all_brokers {
            return Some(row(kind, key, &resolved, with_synonyms));
        }
        // "All brokers" has what was set for all of them, and nothing else.
        let resolved = resolved.only(ConfigSource::DynamicDefaultBroker);
        (!resolved.levels.is_empty()).then(|| row(kind, key, &resolved, with_synonyms))
    });
    Ok(rows.collect())
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
