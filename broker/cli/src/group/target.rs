//! Where `esker group seek` moves to, and of which partitions: the flags as values.

use std::collections::BTreeMap;

use esker_admin::SeekTarget;

use esker_records::error::CliError;
use esker_records::times::{TIMES, parse_time};

/// The offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The same target for each partition.
    Each(SeekTarget),
    /// What another group has committed.
    Group(String),
}

/// The flags that name a target.
#[derive(Debug, Default)]
pub(super) struct TargetFlags<'a> {
    pub to: Option<&'a str>,
    pub by: Option<i64>,
    pub to_time: Option<&'a str>,
    pub to_group: Option<&'a str>,
}

/// The one target among the flags.
pub(super) fn parse_target(flags: &TargetFlags<'_>, now: i64) -> Result<Destination, CliError> {
    match *flags {
        TargetFlags { to: Some(to), by: None, to_time: None, to_group: None } => {
            let offset = || to.parse::<i64>().ok().filter(|offset| *offset >= 0).map(SeekTarget::Offset);
            let target = match to {
                "earliest" | "start" => Some(SeekTarget::Earliest),
                "latest" | "end" => Some(SeekTarget::Latest),
                _ => offset(),
            };
            let invalid = || CliError::Usage(format!("--to is earliest, latest or an offset, not '{to}'"));
            target.map(Destination::Each).ok_or_else(invalid)
        }
        TargetFlags { to: None, by: Some(by), to_time: None, to_group: None } => {
            Ok(Destination::Each(SeekTarget::By(by)))
        }
        TargetFlags { to: None, by: None, to_time: Some(text), to_group: None } => {
            let invalid = || CliError::Usage(format!("'{text}' is no time ({TIMES})"));
            parse_time(text, now).map(|at| Destination::Each(SeekTarget::Timestamp(at))).ok_or_else(invalid)
        }
        TargetFlags { to: None, by: None, to_time: None, to_group: Some(other) } => {
            Ok(Destination::Group(other.to_owned()))
        }
        _ => Err(CliError::Usage("give one of --to, --by, --to-time and --to-group".to_owned())),
    }
}

/// The partitions of the topics in `--topic` flags, `TOPIC` or `TOPIC:0,3`; `None`: all partitions of the topic.
pub(super) fn parse_topics(flags: &[String]) -> Result<BTreeMap<String, Option<Vec<i32>>>, CliError> {
    let mut topics: BTreeMap<String, Option<Vec<i32>>> = BTreeMap::new();
    for flag in flags {
        let Some((topic, list)) = flag.split_once(':') else {
            topics.insert(flag.clone(), None);
            continue;
        };
        let invalid = || CliError::Usage(format!("'{flag}' is not TOPIC or TOPIC:PARTITION,PARTITION"));
        let number = |text: &str| text.trim().parse::<i32>().ok().filter(|id| *id >= 0).ok_or_else(invalid);
        let ids = list.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
        if let Some(known) = topics.entry(topic.to_owned()).or_insert_with(|| Some(Vec::new())) {
            known.extend(ids);
            known.sort_unstable();
            known.dedup();
        }
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_flag() {
        let to = |to| TargetFlags { to: Some(to), ..TargetFlags::default() };
        let time = |text| TargetFlags { to_time: Some(text), ..TargetFlags::default() };
        for (flags, target) in [
            (to("earliest"), Destination::Each(SeekTarget::Earliest)),
            (to("end"), Destination::Each(SeekTarget::Latest)),
            (to("7"), Destination::Each(SeekTarget::Offset(7))),
            (TargetFlags { by: Some(-3), ..TargetFlags::default() }, Destination::Each(SeekTarget::By(-3))),
            (time("-1h"), Destination::Each(SeekTarget::Timestamp(6_400_000))),
            (time("1970-01-01T00:00:01Z"), Destination::Each(SeekTarget::Timestamp(1000))),
            (TargetFlags { to_group: Some("g"), ..TargetFlags::default() }, Destination::Group("g".to_owned())),
        ] {
            assert_eq!(parse_target(&flags, 10_000_000).unwrap(), target);
        }
        for wrong in [
            TargetFlags::default(),
            to("-1"),
            to("sideways"),
            time("soon"),
            TargetFlags { to: Some("7"), by: Some(1), ..TargetFlags::default() },
        ] {
            assert!(matches!(parse_target(&wrong, 0), Err(CliError::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn topics_and_partitions() {
        let parse = |flags: &[&str]| parse_topics(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
        let topics = parse(&["a", "b:2,0", "b:0,1", "a:1"]).unwrap();
        assert_eq!(topics["a"], None, "all partitions");
        assert_eq!(topics["b"], Some(vec![0, 1, 2]));
        for wrong in ["a:", "a:x", "a:-1", "a:1,,2"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
