//! New offsets for a group without members.

use std::collections::HashMap;

use esker_client::admin::OffsetSpec;
use esker_client::{Admin, TopicPartition};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::AdminError;

/// Where the offsets of partitions are set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SeekTo {
    /// The first record.
    Earliest,
    /// The end: records that are there are left out.
    Latest,
}

/// Which offset a partition gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTarget {
    /// The first record, or the end.
    To(SeekTo),
    /// The first record of this time (ms since 1970) or later; the end where there is none.
    Timestamp(i64),
    /// This offset.
    Offset(i64),
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
}

/// The offsets that a group would have in these partitions. An offset outside of its partition is refused.
pub async fn plan_seek(
    admin: &Admin,
    group: &str,
    targets: &[(TopicPartition, SeekTarget)],
) -> Result<Vec<SeekReport>, AdminError> {
    let committed: HashMap<TopicPartition, i64> =
        admin.committed_offsets(group).await?.into_iter().map(|found| (found.partition, found.offset)).collect();
    let all = |spec| targets.iter().map(|(tp, _)| (tp.clone(), spec)).collect::<Vec<_>>();
    let starts = admin.list_offsets(&all(OffsetSpec::Earliest)).await?;
    let ends = admin.list_offsets(&all(OffsetSpec::Latest)).await?;
    let timed = targets.iter().filter_map(|(tp, target)| match target {
        SeekTarget::Timestamp(at) => Some((tp.clone(), OffsetSpec::Timestamp(*at))),
        SeekTarget::To(_) | SeekTarget::Offset(_) => None,
    });
    let at_time = admin.list_offsets(&timed.collect::<Vec<_>>()).await?;
    let mut planned = Vec::with_capacity(targets.len());
    for (tp, target) in targets {
        let (Some(start), Some(end)) = (starts.get(tp), ends.get(tp)) else {
            return Err(AdminError::Refused(format!("the broker left {tp} out of its answer")));
        };
        let (start, end) = (start.offset, end.offset);
        let at_time = at_time.get(tp).map(|listed| listed.offset);
        planned.push(SeekReport {
            topic: tp.topic.to_string(),
            partition: tp.partition,
            committed: committed.get(tp).copied(),
            new_committed: choose_offset(tp, *target, (start, end), at_time)?,
        });
    }
    Ok(planned)
}

fn choose_offset(
    tp: &TopicPartition,
    target: SeekTarget,
    (start, end): (i64, i64),
    at_time: Option<i64>,
) -> Result<i64, AdminError> {
    match target {
        SeekTarget::To(SeekTo::Earliest) => Ok(start),
        SeekTarget::To(SeekTo::Latest) => Ok(end),
        SeekTarget::Timestamp(_) => Ok(at_time.filter(|offset| *offset >= 0).unwrap_or(end)),
        SeekTarget::Offset(offset) if (start..=end).contains(&offset) => Ok(offset),
        SeekTarget::Offset(offset) => {
            Err(AdminError::Invalid(format!("{tp} has offsets from {start} to {end}: {offset} is outside of them")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_lie_in_their_partition() {
        let tp = TopicPartition::new("t", 0);
        let choose = |target, at_time| choose_offset(&tp, target, (3, 9), at_time).ok();
        assert_eq!(choose(SeekTarget::To(SeekTo::Earliest), None), Some(3));
        assert_eq!(choose(SeekTarget::To(SeekTo::Latest), None), Some(9));
        assert_eq!(choose(SeekTarget::Timestamp(1), Some(5)), Some(5));
        assert_eq!(choose(SeekTarget::Timestamp(1), Some(-1)), Some(9), "no record is that late");
        for (offset, expected) in [(2, None), (3, Some(3)), (9, Some(9)), (10, None)] {
            assert_eq!(choose(SeekTarget::Offset(offset), None), expected, "{offset}");
        }
    }
}
