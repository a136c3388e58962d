//! Rules about configs that one row of the table cannot express: two configs that must fit each other, bounds that other configs
//! set, and patterns.

use esker_protocol::error::ErrorCode;

use super::decision::Refusal;
use crate::client_metrics::parse_patterns;
use crate::config::{ConfigKey, Scope, Statics, lookup, resolve_broker};
use crate::metadata::MetadataImage;

/// Checks the configs of a topic against each other. `value` returns the value that a config would have.
pub(super) fn check_topic(value: impl Fn(&str) -> Option<String>) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
    if value("remote.storage.enable").is_some_and(|v| v == "true") {
        return refuse("remote.storage.enable: tiered storage is not there; leave it at false.".to_owned());
    }
    let number = |name: &str| value(name).and_then(|v| v.parse::<i64>().ok());
    if let (Some(least), Some(most)) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"))
        && least > most
    {
        return refuse(format!("min.compaction.lag.ms ({least}) must not be above max.compaction.lag.ms ({most})."));
    }
    Ok(())
}

/// Holds a group's config against the bounds that the broker sets for all groups: for `group.share.session.timeout.ms` these
/// are `group.share.min.session.timeout.ms` and the same with `max`.
pub(super) fn check_group(
    image: &MetadataImage,
    node_id: i32,
    statics: &Statics,
    key: &ConfigKey,
    value: &str,
) -> Result<(), Refusal> {
    let Some((kind, rest)) = key.broker_name.strip_prefix("group.").and_then(|name| name.split_once('.')) else {
        return Ok(());
    };
    let Ok(number) = value.parse::<i64>() else { return Ok(()) };
    let rest = rest.strip_prefix("num.").unwrap_or(rest);
    let bound = |which: &str| {
        let name = format!("group.{kind}.{which}.{rest}");
        let key = lookup(Scope::Broker, &name)?;
        let bound = resolve_broker(image, node_id, statics, key).value()?.parse::<i64>().ok()?;
        Some((name, bound))
    };
    let refuse = |than: &str, (name, bound): (String, i64)| {
        Err(Refusal::new(ErrorCode::INVALID_CONFIG, format!("{} must be {than} {name} ({bound}).", key.name)))
    };
    if let Some(least) = bound("min").filter(|(_, least)| number < *least) {
        return refuse("at least", least);
    }
    match bound("max").filter(|(_, most)| number > *most) {
        Some(most) => refuse("at most", most),
        None => Ok(()),
    }
}

/// A group's session must outlive a heartbeat, where one of them is `changed`. `value` returns the value that a config would have.
pub(super) fn check_sessions(
    changed: impl Fn(&str) -> bool,
    value: impl Fn(&str) -> Option<String>,
) -> Result<(), Refusal> {
    let number = |name: &str| value(name).and_then(|v| v.parse::<i64>().ok());
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if (changed(&session) || changed(&heartbeat))
            && let (Some(s), Some(h)) = (number(&session), number(&heartbeat))
            && s <= h
        {
            let message = format!("{session} ({s}) must be greater than {heartbeat} ({h}).");
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
        }
    }
    Ok(())
}

/// Holds a config of a client-metrics subscription against KIP-714.
pub(super) fn check_client_metrics(name: &str, value: &str) -> Result<(), Refusal> {
    match name {
        "interval.ms" if !value.parse::<i32>().is_ok_and(|ms| (100..=3_600_000).contains(&ms)) => Err(Refusal::new(
            ErrorCode::INVALID_REQUEST,
            format!("Invalid value {value} for interval.ms: from 100 to 3600000 is allowed."),
        )),
        "match" => {
            let parsed = parse_patterns(value).map(|_| ());
            parsed.map_err(|error| Refusal::new(ErrorCode::INVALID_CONFIG, error.to_string()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        let check = |set: &[(&str, &str)]| {
            let found = check_topic(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()));
            found.map_err(|refusal| refusal.code)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[("remote.storage.enable", "true")]), Err(ErrorCode::INVALID_CONFIG));
        assert_eq!(check(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "5")]), Ok(()));
        let apart = [("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")];
        assert_eq!(check(&apart), Err(ErrorCode::INVALID_CONFIG));
    }

    #[test]
    fn sessions_outlive_heartbeats() {
        let check = |session: &str, heartbeat: &str| {
            let (session, heartbeat) = (session.to_owned(), heartbeat.to_owned());
            let changed = |name: &str| name == "consumer.session.timeout.ms";
            check_sessions(changed, |name| match name {
                "consumer.session.timeout.ms" => Some(session.clone()),
                "consumer.heartbeat.interval.ms" => Some(heartbeat.clone()),
                _ => None,
            })
        };
        assert_eq!(check("6", "5"), Ok(()));
        assert!(check("5", "5").is_err());
    }

    #[test]
    fn groups() {
        let mut statics = Statics::default();
        let check = |statics: &Statics, name: &str, value: &str| {
            let key = lookup(Scope::Group, name).unwrap();
            check_group(&MetadataImage::default(), 1, statics, key, value).is_ok()
        };
        assert!(check(&statics, "consumer.session.timeout.ms", "45000"));
        assert!(!check(&statics, "consumer.session.timeout.ms", "44999"));
        assert!(!check(&statics, "consumer.session.timeout.ms", "60001"));
        assert!(!check(&statics, "streams.num.standby.replicas", "3"));
        assert!(check(&statics, "share.isolation.level", "read_committed"));
        statics.0.insert("group.consumer.min.session.timeout.ms".into(), "1000".into());
        assert!(check(&statics, "consumer.session.timeout.ms", "1000"));
    }

    #[test]
    fn client_metrics() {
        let check = |name, value| check_client_metrics(name, value).map_err(|refusal| refusal.code);
        assert_eq!(check("interval.ms", "100"), Ok(()));
        assert_eq!(check("interval.ms", "99"), Err(ErrorCode::INVALID_REQUEST));
        assert_eq!(check("match", "client_id=a.*,client_source_port=1"), Ok(()));
        assert_eq!(check("match", "foo=bar"), Err(ErrorCode::INVALID_CONFIG));
        assert_eq!(check("metrics", "org.apache"), Ok(()));
    }
}
