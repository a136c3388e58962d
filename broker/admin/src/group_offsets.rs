//! New offsets for a group without members: the plan of `esker group seek` and of `/v1/groups/{group}/offsets`.

use std::collections::HashMap;

use async_recursion::async_recursion as boxed;
use esker_client::admin::OffsetSpec;
use esker_client::{Admin, TopicPartition};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::AdminError;
use super::offsets::committed_offsets;

/// Which offset a partition gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTarget {
    /// The first record.
    Earliest,
    /// The end: records that are there are left out.
    Latest,
    /// This offset.
    Offset(i64),
    /// So many records after the committed offset, or before it.
    By(i64),
    /// The first record of this time (ms since 1970) or later; the end where there is none.
    Timestamp(i64),
}

/// What becomes of a target that lies outside of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// The nearest offset is committed, as kafka-consumer-groups does.
    Clamp,
    /// The whole request is refused.
    Refuse,
}

/// A new offset of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SeekReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that the group has committed; null for none.
    pub committed: Option<i64>,
    /// The offset after the change.
    pub new_committed: i64,
    /// The end of the partition.
    pub end: i64,
    /// Records after the new offset.
    pub lag: i64,
    /// Whether the target lies outside of the partition, so that the nearest offset takes its place. `/v1` refuses such a target.
    pub clamped: bool,
}

/// A partition before the change.
#[derive(Debug, Clone, Copy)]
struct PartitionOffsets {
    committed: Option<i64>,
    start: i64,
    end: i64,
    /// Of the first record of the target's time or later.
    at_time: Option<i64>,
}

/// The offsets that a group would have in these partitions, in their order. Nothing is changed.
#[boxed]
pub async fn plan_seek(
    admin: &Admin,
    group: &str,
    targets: &[(TopicPartition, SeekTarget)],
    out_of_range: OutOfRange,
) -> Result<Vec<SeekReport>, AdminError> {
    let committed: HashMap<TopicPartition, i64> = committed_offsets(admin, group).await?.into_iter().collect();
    let all = |spec| targets.iter().map(|(tp, _)| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest)).await?;
    let timed = targets.iter().filter_map(|(tp, target)| match target {
        SeekTarget::Timestamp(at) => Some((tp.clone(), OffsetSpec::Timestamp(*at))),
        SeekTarget::Earliest | SeekTarget::Latest | SeekTarget::Offset(_) | SeekTarget::By(_) => None,
    });
    let at_time = admin.list_offsets(&timed.collect::<Vec<_>>()).await?;
    let plan = |(tp, target): &(TopicPartition, SeekTarget)| {
        let (Some(start), Some(end)) = (starts.get(tp), ends.get(tp)) else {
            return Err(AdminError::Refused(format!("the broker left {tp} out of its answer")));
        };
        let before = PartitionOffsets {
            committed: committed.get(tp).copied(),
            start: start.offset,
            end: end.offset,
            at_time: at_time.get(tp).map(|listed| listed.offset).filter(|offset| *offset >= 0),
        };
        plan_partition(tp, *target, before, out_of_range)
    };
    targets.iter().map(plan).collect()
}

/// The pure rule of one partition.
fn plan_partition(
    tp: &TopicPartition,
    target: SeekTarget,
    before: PartitionOffsets,
    out_of_range: OutOfRange,
) -> Result<SeekReport, AdminError> {
    let PartitionOffsets { committed, start, end, at_time } = before;
    let wanted = match (target, committed) {
        (SeekTarget::Earliest, _) => start,
        (SeekTarget::Latest, _) => end,
        (SeekTarget::Offset(offset), _) => offset,
        (SeekTarget::Timestamp(_), _) => at_time.unwrap_or(end),
        (SeekTarget::By(by), Some(committed)) => committed.saturating_add(by),
        (SeekTarget::By(_), None) => {
            return Err(AdminError::Refused(format!(
                "the group has committed no offset of {tp} to count from: name the offset itself, or leave the partition out"
            )));
        }
    };
    // Records may be deleted between the two requests for start and end.
    let new = wanted.clamp(start.min(end), end);
    if new != wanted && out_of_range == OutOfRange::Refuse {
        let text = format!("{tp} has offsets from {start} to {end}: {wanted} is outside of them");
        return Err(AdminError::Invalid(text));
    }
    Ok(SeekReport {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        committed,
        new_committed: new,
        end,
        lag: end.saturating_sub(new).max(0),
        clamped: new != wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        target: SeekTarget,
        committed: Option<i64>,
        at_time: Option<i64>,
        rule: OutOfRange,
    ) -> Result<SeekReport, AdminError> {
        let before = PartitionOffsets { committed, start: 10, end: 100, at_time };
        plan_partition(&TopicPartition::new("t", 0), target, before, rule)
    }

    #[test]
    fn each_target_has_an_offset() {
        for (target, committed, at_time, new, clamped) in [
            (SeekTarget::Earliest, Some(50), None, 10, false),
            (SeekTarget::Earliest, None, None, 10, false),
            (SeekTarget::Latest, Some(50), None, 100, false),
            (SeekTarget::Offset(70), Some(50), None, 70, false),
            (SeekTarget::Offset(10), Some(50), None, 10, false),
            (SeekTarget::Offset(100), None, None, 100, false),
            (SeekTarget::Offset(9), Some(50), None, 10, true),
            (SeekTarget::Offset(101), Some(50), None, 100, true),
            (SeekTarget::By(5), Some(50), None, 55, false),
            (SeekTarget::By(-5), Some(50), None, 45, false),
            (SeekTarget::By(-45), Some(50), None, 10, true),
            (SeekTarget::By(i64::MAX), Some(50), None, 100, true),
            (SeekTarget::Timestamp(1), None, Some(42), 42, false),
            (SeekTarget::Timestamp(1), Some(50), None, 100, false),
        ] {
            let planned = plan(target, committed, at_time, OutOfRange::Clamp).unwrap();
            assert_eq!((planned.new_committed, planned.clamped), (new, clamped), "{target:?} {committed:?}");
            assert_eq!((planned.lag, planned.committed), (100 - new, committed), "{target:?}");
            let strict = plan(target, committed, at_time, OutOfRange::Refuse);
            match clamped {
                true => assert!(matches!(strict, Err(AdminError::Invalid(text)) if text.contains("from 10 to 100"))),
                false => assert_eq!(strict.unwrap(), planned, "{target:?}"),
            }
        }
    }

    #[test]
    fn a_distance_needs_a_committed_offset() {
        let refused = plan(SeekTarget::By(1), None, None, OutOfRange::Clamp).unwrap_err().to_string();
        assert!(refused.contains("committed no offset of t-0"), "{refused}");
    }
}
