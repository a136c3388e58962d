//! What the brokers' and the groups' configs set for consumer groups.

use esker_protocol::primitives::Str;

use crate::config::{Scope, Statics, list_items, lookup, resolve_broker};
use crate::metadata::{ConfigResource, MetadataImage, ResourceKind};

/// Whether classic groups may become consumer groups and the other way round, while members roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MigrationPolicy {
    Disabled,
    Downgrade,
    Upgrade,
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy with Kafka's name, in any case.
    pub fn of_name(name: &str) -> Option<Self> {
        [
            ("disabled", Self::Disabled),
            ("downgrade", Self::Downgrade),
            ("upgrade", Self::Upgrade),
            ("bidirectional", Self::Bidirectional),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, policy)| policy)
    }

    /// Whether classic groups may become consumer groups.
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether consumer groups may become classic groups.
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// A number that a group may set for itself, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// What holds for a group that sets nothing.
    pub default: i32,
    /// The bounds.
    pub min: i32,
    /// See `min`.
    pub max: i32,
}

/// The rules that the broker's config sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// `group.coordinator.rebalance.protocols` has `consumer`.
    pub enabled: bool,
    /// `group.consumer.assignors`; the first is the default.
    pub assignors: Vec<String>,
    /// `group.consumer.heartbeat.interval.ms` and its bounds.
    pub heartbeat_interval_ms: Bounded,
    /// `group.consumer.session.timeout.ms` and its bounds.
    pub session_timeout_ms: Bounded,
    /// `group.consumer.assignment.interval.ms` and its bounds.
    pub assignment_interval_ms: Bounded,
    /// `group.consumer.max.size`.
    pub max_size: usize,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i64,
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self::read(&MetadataImage::default(), -1, &Statics::default())
    }
}

impl ConsumerLimits {
    /// What holds at a broker.
    pub fn read(image: &MetadataImage, node_id: i32, statics: &Statics) -> Self {
        let text = |name: &str| {
            let key = lookup(Scope::Broker, name);
            let resolved = key.map(|key| resolve_broker(image, node_id, statics, key));
            resolved.and_then(|resolved| resolved.value().map(str::to_owned)).unwrap_or_default()
        };
        let number = |name: &str| text(name).trim().parse::<i32>().unwrap_or_default();
        let bounded = |what: &str| Bounded {
            default: number(&format!("group.consumer.{what}.ms")),
            min: number(&format!("group.consumer.min.{what}.ms")),
            max: number(&format!("group.consumer.max.{what}.ms")),
        };
        Self {
            enabled: list_items(&text("group.coordinator.rebalance.protocols")).any(|name| name == "consumer"),
            assignors: list_items(&text("group.consumer.assignors")).map(str::to_owned).collect(),
            heartbeat_interval_ms: bounded("heartbeat.interval"),
            session_timeout_ms: bounded("session.timeout"),
            assignment_interval_ms: bounded("assignment.interval"),
            max_size: usize::try_from(number("group.consumer.max.size")).unwrap_or(usize::MAX),
            migration: MigrationPolicy::of_name(text("group.consumer.migration.policy").trim())
                .unwrap_or(MigrationPolicy::Bidirectional),
            regex_refresh_interval_ms: number("group.consumer.regex.refresh.interval.ms").into(),
        }
    }
}

/// The value of a group config, clamped to its bounds: a value from before the bounds were narrowed may lie outside.
pub(super) fn of_group(image: &MetadataImage, group: &Str, name: &str, limit: Bounded) -> i32 {
    let resource = ConfigResource { kind: ResourceKind::Group, name: group.clone() };
    let own = image.config(&resource, name).and_then(|value| value.trim().parse::<i32>().ok());
    own.unwrap_or(limit.default).clamp(limit.min.min(limit.max), limit.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas() {
        let limits = ConsumerLimits::default();
        assert!(limits.enabled);
        assert_eq!(limits.assignors, ["uniform", "range"]);
        assert_eq!(limits.session_timeout_ms, Bounded { default: 45_000, min: 45_000, max: 60_000 });
        assert_eq!(limits.assignment_interval_ms, Bounded { default: 1000, min: 0, max: 15_000 });
        assert_eq!((limits.max_size, limits.migration), (i32::MAX as usize, MigrationPolicy::Bidirectional));
    }
}
