//! BROKER_LOGGER configs (KIP-412): the levels of this broker's loggers, for DescribeConfigs and IncrementalAlterConfigs.
//!
//! They are of the process: nothing is kept across a restart, and other brokers have their own. Loggers are the modules of Esker, and `root`.

use esker_core::controller::{ConfigOp, ConfigOutcome, ConfigTarget, Refusal};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use esker_protocol::primitives::Str;

use crate::broker::Broker;
use crate::telemetry::{LevelChange, LevelError, LoggerLevels, change_logger_levels, logger_levels};

/// Kafka's number of the kind of resource.
pub(super) const RESOURCE_TYPE: i8 = 8;
/// Kafka's number of the source of such configs: DYNAMIC_BROKER_LOGGER_CONFIG.
const SOURCE: i8 = 6;
/// Kafka's number of a string.
const STRING: i8 = 2;

/// The levels of all loggers, or of those that are requested.
pub(super) fn describe(
    broker: &Broker,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    check_broker(broker.node_id, &wanted.resource_name)
        .map_err(|refusal| (refusal.code, refusal.message.to_string()))?;
    let is_wanted = |name: &str| {
        wanted
            .configuration_keys
            .as_ref()
            .filter(|keys| !keys.is_empty())
            .is_none_or(|keys| keys.iter().any(|key| *key == *name))
    };
    let levels = logger_levels().into_iter().filter(|(logger, _)| is_wanted(logger));
    let row = |(logger, level)| DescribeConfigsResourceResult {
        name: Str::from(logger),
        value: Some(Str::from(level)),
        config_source: SOURCE,
        config_type: STRING,
        ..DescribeConfigsResourceResult::default()
    };
    Ok(levels.map(row).collect())
}

/// Changes levels, all that a request names or none.
pub(super) fn alter(node_id: i32, target: &ConfigTarget, validate_only: bool) -> ConfigOutcome {
    check_broker(node_id, &target.resource_name)?;
    let refuse = |message: String| Err(Refusal { code: ErrorCode::INVALID_REQUEST, message: Str::from(message) });
    if target.replace_all {
        return refuse("Levels of loggers are changed by IncrementalAlterConfigs alone.".to_owned());
    }
    let mut changes = Vec::new();
    for change in &target.changes {
        let level = match change.op {
            Some(ConfigOp::Set) => LevelChange::Set(change.value.as_deref().unwrap_or_default()),
            Some(ConfigOp::Delete) => LevelChange::Remove,
            Some(ConfigOp::Append) => {
                return refuse("APPEND operation is not allowed for the BROKER_LOGGER resource".to_owned());
            }
            Some(ConfigOp::Subtract) => {
                return refuse("SUBTRACT operation is not allowed for the BROKER_LOGGER resource".to_owned());
            }
            None => return refuse(format!("Unknown operation for the logger {}", change.name)),
        };
        LoggerLevels::check(&change.name, level).map_err(refusal_of)?;
        changes.push((change.name.as_str(), level));
    }
    if validate_only {
        return Ok(());
    }
    change_logger_levels(&changes).map_err(refusal_of)
}

fn refusal_of(error: LevelError) -> Refusal {
    let code = match error {
        LevelError::UnknownLogger(_) | LevelError::UnknownLevel { .. } => ErrorCode::INVALID_CONFIG,
        LevelError::RootNeedsLevel => ErrorCode::INVALID_REQUEST,
    };
    Refusal { code, message: Str::from(error.to_string()) }
}

/// A broker changes its own loggers alone.
fn check_broker(node_id: i32, name: &str) -> Result<(), Refusal> {
    let message = match name.parse::<i32>() {
        Ok(id) if id == node_id => return Ok(()),
        Ok(id) => format!("Unexpected broker id, expected {node_id} but received {id}"),
        Err(_) => format!("Node id must be an integer, but it is: {name}"),
    };
    Err(Refusal { code: ErrorCode::INVALID_REQUEST, message: Str::from(message) })
}

#[cfg(test)]
mod tests {
    use esker_core::controller::ConfigChange;

    use super::*;

    fn target(name: &str, changes: &[(&str, Option<ConfigOp>, &str)]) -> ConfigTarget {
        let change = |(name, op, value): &(&str, Option<ConfigOp>, &str)| ConfigChange {
            name: Str::copy(name),
            op: *op,
            value: Some(Str::copy(value)),
        };
        ConfigTarget {
            resource_type: RESOURCE_TYPE,
            resource_name: Str::copy(name),
            replace_all: false,
            changes: changes.iter().map(change).collect(),
        }
    }

    #[test]
    fn refusals_have_kafkas_codes() {
        use ConfigOp::{Append, Delete, Set, Subtract};
        let invalid = [
            (target("2", &[("root", Some(Set), "INFO")]), ErrorCode::INVALID_REQUEST),
            (target("", &[("root", Some(Set), "INFO")]), ErrorCode::INVALID_REQUEST),
            (target("1", &[("root", Some(Append), "INFO")]), ErrorCode::INVALID_REQUEST),
            (target("1", &[("root", Some(Subtract), "INFO")]), ErrorCode::INVALID_REQUEST),
            (target("1", &[("root", None, "INFO")]), ErrorCode::INVALID_REQUEST),
            (target("1", &[("root", Some(Delete), "")]), ErrorCode::INVALID_REQUEST),
            (target("1", &[("openraft", Some(Set), "LOUD")]), ErrorCode::INVALID_CONFIG),
            (target("1", &[("kafka.server", Some(Set), "INFO")]), ErrorCode::INVALID_CONFIG),
            (target("1", &[("openraft", Some(Set), "WARN"), ("none", Some(Set), "WARN")]), ErrorCode::INVALID_CONFIG),
        ];
        let before = logger_levels();
        for (target, code) in invalid {
            assert_eq!(alter(1, &target, false).unwrap_err().code, code, "{target:?}");
        }
        assert_eq!(alter(1, &target("1", &[("openraft", Some(Set), "TRACE")]), true), Ok(()));
        assert_eq!(logger_levels(), before, "all or nothing, and nothing by a validation");
    }
}
