//! The plan of `esker group seek`: pure rules from the offsets of each partition to the offset to commit.

use esker_client::TopicPartition;

use super::target::SeekTarget;

/// A partition before the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionOffsets {
    pub partition: TopicPartition,
    /// What the group has committed.
    pub committed: Option<i64>,
    pub start: i64,
    pub end: i64,
    /// Of the first record of the target's time or later.
    pub at_time: Option<i64>,
    /// What the target's group has committed.
    pub other: Option<i64>,
}

/// A partition and the offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedSeek {
    pub partition: TopicPartition,
    pub committed: Option<i64>,
    pub end: i64,
    pub new: i64,
    /// The target lies outside the partition: the nearest offset is committed.
    pub clamped: bool,
}

impl PlannedSeek {
    /// Records after the new offset.
    pub(super) fn lag(&self) -> i64 {
        self.end.saturating_sub(self.new).max(0)
    }
}

/// The plan for each partition. Partitions that the target's group has no commits of stay as they are.
///
/// # Errors
/// Why a partition has no offset to move to.
pub(super) fn plan_seek(target: &SeekTarget, partitions: &[PartitionOffsets]) -> Result<Vec<PlannedSeek>, String> {
    let mut planned = Vec::with_capacity(partitions.len());
    for at in partitions {
        let wanted = match target {
            SeekTarget::Earliest => at.start,
            SeekTarget::Latest => at.end,
            SeekTarget::Offset(offset) => *offset,
            SeekTarget::By(by) => match at.committed {
                Some(committed) => committed.saturating_add(*by),
                None => {
                    return Err(format!(
                        "the group has committed no offset of {} that --by could start from: use --to, or leave the \
                         partition out with --topic",
                        at.partition
                    ));
                }
            },
            SeekTarget::Time(_) => at.at_time.unwrap_or(at.end),
            SeekTarget::Group(_) => match at.other {
                Some(other) => other,
                None => continue,
            },
        };
        let new = wanted.clamp(at.start.min(at.end), at.end);
        planned.push(PlannedSeek {
            partition: at.partition.clone(),
            committed: at.committed,
            end: at.end,
            new,
            clamped: new != wanted,
        });
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(committed: Option<i64>, at_time: Option<i64>, other: Option<i64>) -> PartitionOffsets {
        PartitionOffsets { partition: TopicPartition::new("t", 0), committed, start: 10, end: 100, at_time, other }
    }

    #[test]
    fn each_target_has_an_offset() {
        let group = || SeekTarget::Group("other".to_owned());
        for (target, before, new, clamped) in [
            (SeekTarget::Earliest, offsets(Some(50), None, None), 10, false),
            (SeekTarget::Earliest, offsets(None, None, None), 10, false),
            (SeekTarget::Latest, offsets(Some(50), None, None), 100, false),
            (SeekTarget::Offset(70), offsets(Some(50), None, None), 70, false),
            (SeekTarget::Offset(100), offsets(None, None, None), 100, false),
            (SeekTarget::Offset(7), offsets(Some(50), None, None), 10, true),
            (SeekTarget::Offset(101), offsets(Some(50), None, None), 100, true),
            (SeekTarget::By(5), offsets(Some(50), None, None), 55, false),
            (SeekTarget::By(-5), offsets(Some(50), None, None), 45, false),
            (SeekTarget::By(-45), offsets(Some(50), None, None), 10, true),
            (SeekTarget::By(i64::MAX), offsets(Some(50), None, None), 100, true),
            (SeekTarget::Time(1), offsets(None, Some(42), None), 42, false),
            (SeekTarget::Time(1), offsets(Some(50), None, None), 100, false),
            (group(), offsets(Some(50), None, Some(33)), 33, false),
            (group(), offsets(Some(50), None, Some(3)), 10, true),
        ] {
            let planned = plan_seek(&target, std::slice::from_ref(&before)).unwrap();
            let [only] = planned.as_slice() else { panic!("{target:?}: {planned:?}") };
            assert_eq!((only.new, only.clamped), (new, clamped), "{target:?} {before:?}");
            assert_eq!(only.lag(), 100 - new);
        }
    }

    #[test]
    fn partitions_that_the_other_group_has_not_committed_stay() {
        let before = [offsets(Some(50), None, None), offsets(Some(50), None, Some(20))];
        assert_eq!(plan_seek(&SeekTarget::Group("o".to_owned()), &before).unwrap().len(), 1);
    }

    #[test]
    fn a_distance_needs_a_committed_offset() {
        let refused = plan_seek(&SeekTarget::By(1), &[offsets(None, None, None)]).unwrap_err();
        assert!(refused.contains("t-0") && refused.contains("--to"), "{refused}");
    }
}
