//! Whether a value is of its config's type and within what is allowed.

use thiserror::Error;

use super::table::{ConfigKey, Kind};

/// A value that a config does not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Invalid value {value} for configuration {name}: {expected}")]
pub struct InvalidValue {
    /// The config.
    pub name: String,
    /// The value.
    pub value: String,
    /// What is allowed.
    pub expected: String,
}

/// The elements of a LIST value.
pub fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Holds `value` against `key`.
pub fn validate(key: &ConfigKey, value: &str) -> Result<(), InvalidValue> {
    let invalid = |expected: String| InvalidValue { name: key.name.to_owned(), value: value.to_owned(), expected };
    let text = value.trim();
    match key.kind {
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "false" => Ok(()),
            _ => Err(invalid("true or false is needed".to_owned())),
        },
        Kind::Int => number(text, i32::MIN.into(), i32::MAX.into(), key.allowed).map_err(invalid),
        Kind::Short => number(text, i16::MIN.into(), i16::MAX.into(), key.allowed).map_err(invalid),
        Kind::Long => number(text, i64::MIN, i64::MAX, key.allowed).map_err(invalid),
        Kind::Double => double(text, key.allowed).map_err(invalid),
        Kind::List => list(text, key.allowed).map_err(invalid),
        Kind::String => string(text, key.allowed).map_err(invalid),
        Kind::Class | Kind::Password => Ok(()),
    }
}

/// `value` as it is kept and reported: without stray spaces, booleans in small letters.
pub fn canonical(key: &ConfigKey, value: &str) -> String {
    match key.kind {
        Kind::Boolean => value.trim().to_ascii_lowercase(),
        Kind::List => list_items(value).collect::<Vec<_>>().join(","),
        Kind::Password => value.to_owned(),
        _ => value.trim().to_owned(),
    }
}

/// `[low,...,high]`, `[low,...]`, either with `or -1` behind it.
struct Range<'a> {
    low: Option<&'a str>,
    high: Option<&'a str>,
    or_minus_one: bool,
}

fn range(allowed: &str) -> Option<Range<'_>> {
    let (inner, rest) = allowed.strip_prefix('[')?.split_once(']')?;
    let mut parts = inner.split(',').map(str::trim);
    let low = parts.next().filter(|low| !low.is_empty());
    if parts.next()? != "..." {
        return None;
    }
    Some(Range { low, high: parts.next(), or_minus_one: rest.trim() == "or -1" })
}

fn number(text: &str, least: i64, most: i64, allowed: &str) -> Result<(), String> {
    let value: i64 = text.parse().map_err(|_| "a whole number is needed".to_owned())?;
    if value < least || value > most {
        return Err(format!("a number from {least} to {most} is needed"));
    }
    let Some(range) = range(allowed) else { return Ok(()) };
    if range.or_minus_one && value == -1 {
        return Ok(());
    }
    let bound = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    if bound(range.low).is_some_and(|low| value < low) {
        return Err(format!("Value must be at least {}", range.low.unwrap_or_default()));
    }
    if bound(range.high).is_some_and(|high| value > high) {
        return Err(format!("Value must be no more than {}", range.high.unwrap_or_default()));
    }
    Ok(())
}

fn double(text: &str, allowed: &str) -> Result<(), String> {
    let value: f64 = text.parse().map_err(|_| "a number is needed".to_owned())?;
    let Some(range) = range(allowed) else { return Ok(()) };
    let bound = |text: Option<&str>| text.and_then(|t| t.parse::<f64>().ok());
    let too_low = bound(range.low).is_some_and(|low| value < low);
    let too_high = bound(range.high).is_some_and(|high| value > high);
    if value.is_nan() || too_low || too_high { Err(format!("allowed: {allowed}")) } else { Ok(()) }
}

/// The words of `[a, b, c]`, unless it is a range or a pattern.
fn choices(allowed: &str) -> Option<(bool, Vec<&str>)> {
    let (any_case, list) = match allowed.strip_prefix("(case insensitive) ") {
        Some(list) => (true, list),
        None => (false, allowed),
    };
    let inner = list.strip_prefix('[')?.strip_suffix(']')?;
    let words: Vec<_> = inner.split(',').map(str::trim).collect();
    let plain = words.iter().all(|word| !word.contains(['.', '[', ']', ':']) && word.parse::<f64>().is_err());
    plain.then_some((any_case, words))
}

fn list(text: &str, allowed: &str) -> Result<(), String> {
    if allowed == "non-empty list" && text.is_empty() {
        return Err("at least one element is needed".to_owned());
    }
    if allowed.starts_with("[partitionId]:[brokerId]") {
        return throttled_replicas(text);
    }
    let Some((any_case, words)) = choices(allowed) else { return Ok(()) };
    for item in list_items(text) {
        let found = words.iter().any(|word| *word == item || any_case && word.eq_ignore_ascii_case(item));
        if !found {
            return Err(format!("String must be one of: {}", words.join(", ")));
        }
    }
    Ok(())
}

/// `*`, or `partition:broker` pairs.
fn throttled_replicas(text: &str) -> Result<(), String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |item: &str| item.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker));
    if text == "*" || list_items(text).all(pair) {
        return Ok(());
    }
    Err("'*' or a list of [partitionId]:[brokerId] is needed".to_owned())
}

fn string(text: &str, allowed: &str) -> Result<(), String> {
    if allowed == "non-empty string" && text.is_empty() {
        return Err("String must be non-empty".to_owned());
    }
    if let Some(inner) = allowed.strip_prefix("[latest, earliest, by_duration:") {
        let _ = inner;
        let duration = text.strip_prefix("by_duration:").is_some_and(|d| d.starts_with('P'));
        return if duration || ["latest", "earliest"].contains(&text) {
            Ok(())
        } else {
            Err(format!("allowed: {allowed}"))
        };
    }
    let Some((any_case, words)) = choices(allowed) else { return Ok(()) };
    let found = words.iter().any(|word| *word == text || any_case && word.eq_ignore_ascii_case(text));
    if found { Ok(()) } else { Err(format!("String must be one of: {}", words.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scope, lookup};

    #[test]
    fn table() {
        let cases = [
            (Scope::Topic, "retention.ms", "-1", true),
            (Scope::Topic, "retention.ms", "-2", false),
            (Scope::Topic, "retention.ms", "soon", false),
            (Scope::Topic, "segment.bytes", "1048575", false),
            (Scope::Topic, "segment.bytes", "3000000000", false),
            (Scope::Topic, "cleanup.policy", "compact,delete", true),
            (Scope::Topic, "cleanup.policy", "compact, delete", true),
            (Scope::Topic, "cleanup.policy", "shred", false),
            (Scope::Topic, "compression.type", "zstd", true),
            (Scope::Topic, "compression.type", "rar", false),
            (Scope::Topic, "compression.gzip.level", "-1", true),
            (Scope::Topic, "compression.gzip.level", "0", false),
            (Scope::Topic, "min.cleanable.dirty.ratio", "0.5", true),
            (Scope::Topic, "min.cleanable.dirty.ratio", "1.5", false),
            (Scope::Topic, "preallocate", "TRUE", true),
            (Scope::Topic, "preallocate", "yes", false),
            (Scope::Topic, "leader.replication.throttled.replicas", "*", true),
            (Scope::Topic, "leader.replication.throttled.replicas", "0:1,1:2", true),
            (Scope::Topic, "leader.replication.throttled.replicas", "0:1,x", false),
            (Scope::Broker, "offsets.topic.replication.factor", "40000", false),
            (Scope::Broker, "group.consumer.migration.policy", "upgrade", true),
            (Scope::Group, "share.auto.offset.reset", "by_duration:PT1H", true),
            (Scope::Group, "share.auto.offset.reset", "yesterday", false),
        ];
        for (scope, name, value, valid) in cases {
            assert_eq!(validate(lookup(scope, name).unwrap(), value).is_ok(), valid, "{name}={value}");
        }
    }
}
