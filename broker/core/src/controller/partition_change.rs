//! How a partition changes: from a new in-sync set or a new assignment follow the leader and the eligible leader replicas. Every rule
//! that changes a partition builds its record here.
//!
//! A clean leader is an in-sync replica, or an eligible one when none is in sync: while fewer than `min.insync.replicas` are in sync the
//! high watermark stands still, so that replicas that left since hold all that is committed (KIP-966). The last in-sync replica may leave,
//! too; it is then eligible. When no replica is eligible either, the last known leader is elected once it is available; any other
//! replica only by an unclean election. Both mark the partition as recovering. Eligible leader replicas are always tracked, also where Kafka's feature of that name is not finalized.
//!
//! The leader epoch rises with each election, also of the same broker, and when a replica is taken out of the assignment; not when the
//! in-sync set alone shrinks (KAFKA-15021). The partition epoch rises with each record.

use std::mem;

use esker_protocol::primitives::Uuid;

use crate::metadata::{NO_LEADER, PartitionChangeRecord, PartitionImage, directory};

/// Which leader is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Election {
    /// The first replica, if it may lead; else as `Online`.
    Preferred,
    /// The leader as it is, else the first replica that may lead.
    Online,
    /// As `Online`, and if none may lead, the first replica that is there.
    Unclean,
}

/// A change of one partition. The fields hold the target state; it begins as the current one.
pub(super) struct PartitionChange<'a> {
    partition: &'a PartitionImage,
    /// Whether a replica's broker is there and may lead.
    available: &'a dyn Fn(i32) -> bool,
    /// `min.insync.replicas`.
    min_isr: usize,
    /// Which leader is looked for.
    pub election: Election,
    /// Replicas that may have lost committed records.
    pub lost: Vec<i32>,
    /// Replicas that lost all of them: not even the last resort.
    pub erased: Vec<i32>,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// The replicas, those that a reassignment adds or removes among them.
    pub replicas: Vec<i32>,
    /// Those that it adds.
    pub adding: Vec<i32>,
    /// Those that it removes.
    pub removing: Vec<i32>,
    /// The leader has to recover from an unclean election.
    pub recovering: bool,
    /// Log dirs that replicas are in now.
    pub directories: Vec<(i32, Uuid)>,
}

/// Whether `list` has all of `members`.
fn holds_all(list: &[i32], members: &[i32]) -> bool {
    members.iter().all(|id| list.contains(id))
}

fn without(list: &[i32], gone: &[i32]) -> Vec<i32> {
    list.iter().copied().filter(|id| !gone.contains(id)).collect()
}

impl<'a> PartitionChange<'a> {
    pub(super) fn new(partition: &'a PartitionImage, min_isr: usize, available: &'a dyn Fn(i32) -> bool) -> Self {
        Self {
            partition,
            available,
            min_isr,
            election: Election::Online,
            lost: Vec::new(),
            erased: Vec::new(),
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
            recovering: partition.recovering,
            directories: Vec::new(),
        }
    }

    /// The record, if anything changes.
    pub(super) fn build(mut self) -> Option<PartitionChangeRecord> {
        let before = self.partition;
        self.complete_reassignment();
        let mut elr = self.eligible();
        let (leader, unclean) = self.elect(&elr);
        if unclean {
            (self.isr, elr, self.recovering) = (vec![leader], Vec::new(), true);
        } else if leader != NO_LEADER && !self.isr.contains(&leader) {
            self.isr = vec![leader];
            elr.retain(|id| *id != leader);
        }
        // With enough replicas in sync the leader commits records that the eligible ones do not have.
        if self.isr.len() >= self.min_isr.min(self.replicas.len()) {
            elr.clear();
        }
        let last_leader = self.last_known_leader(leader);
        let directories = self.assigned_directories();
        let elects = leader != before.leader || !holds_all(&self.replicas, &before.replicas);
        fn changed<T: PartialEq + Clone>(now: Vec<T>, before: &[T]) -> Option<Vec<T>> {
            (now != before).then_some(now)
        }
        let record = PartitionChangeRecord {
            topic_id: before.topic_id,
            partition: before.partition,
            isr: changed(self.isr, &before.isr),
            leader: if elects { leader } else { PartitionChangeRecord::default().leader },
            replicas: changed(self.replicas, &before.replicas),
            removing: changed(self.removing, &before.removing),
            adding: changed(self.adding, &before.adding),
            recovering: if self.recovering == before.recovering { -1 } else { i8::from(self.recovering) },
            elr: changed(elr, &before.elr),
            last_known_elr: changed(last_leader, &before.last_known_elr),
            directories: changed(directories, &before.directories),
        };
        (!record.is_empty()).then_some(record)
    }

    /// A reassignment is complete when all replicas that stay are in sync (KIP-455).
    fn complete_reassignment(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let (isr, replicas) = (without(&self.isr, &self.removing), without(&self.replicas, &self.removing));
        if !isr.is_empty() && !replicas.is_empty() && holds_all(&isr, &replicas) {
            (self.isr, self.replicas) = (isr, replicas);
            self.adding.clear();
            self.removing.clear();
        }
    }

    /// The replicas that left the in-sync set since it fell below `min.insync.replicas`, as far as they lost nothing.
    fn eligible(&self) -> Vec<i32> {
        let before = self.partition;
        let eligible = |id: &i32| {
            let held_all = before.elr.contains(id) || before.isr.contains(id);
            held_all && ![&self.isr, &self.lost, &self.erased].iter().any(|list| list.contains(id))
        };
        self.replicas.iter().copied().filter(eligible).collect()
    }

    /// The leader, and whether its election is unclean.
    fn elect(&self, elr: &[i32]) -> (i32, bool) {
        let clean = |id: &i32| {
            let holds = if self.isr.is_empty() { elr.contains(id) } else { self.isr.contains(id) };
            holds && self.replicas.contains(id) && (self.available)(*id)
        };
        let preferred = self.replicas.first().filter(|_| self.election == Election::Preferred);
        let candidates = preferred.into_iter().chain([&self.partition.leader]).chain(&self.replicas);
        if let Some(leader) = candidates.copied().find(clean) {
            return (leader, false);
        }
        // No replica is left that surely holds everything: the last leader is the one that lost least.
        if let [last] = self.partition.last_known_elr.as_slice()
            && self.isr.is_empty()
            && elr.is_empty()
            && self.replicas.contains(last)
            && !self.erased.contains(last)
            && (self.available)(*last)
        {
            return (*last, true);
        }
        let unclean = || self.replicas.iter().copied().find(|id| (self.available)(*id));
        match unclean().filter(|_| self.election == Election::Unclean) {
            Some(leader) => (leader, true),
            None => (NO_LEADER, false),
        }
    }

    /// The last leader of a partition without one, as long as no replica is in sync (KIP-966).
    fn last_known_leader(&self, leader: i32) -> Vec<i32> {
        let before = self.partition;
        let last = match leader {
            NO_LEADER if self.isr.is_empty() && before.leader != NO_LEADER => vec![before.leader],
            NO_LEADER => before.last_known_elr.clone(),
            _ => Vec::new(),
        };
        without(&last, &self.erased)
    }

    /// The log dirs in the order of the replicas; none as long as none is known.
    fn assigned_directories(&mut self) -> Vec<Uuid> {
        let moved = mem::take(&mut self.directories);
        let directory = |replica: &i32| {
            let moved = moved.iter().find(|(id, _)| id == replica).map(|(_, dir)| *dir);
            moved.unwrap_or_else(|| self.partition.directory(*replica))
        };
        let directories: Vec<Uuid> = self.replicas.iter().map(directory).collect();
        if directories.iter().all(|dir| *dir == directory::UNASSIGNED) { Vec::new() } else { directories }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CHANGE: i32 = -2;

    /// Replicas 1, 2 and 3.
    fn partition(leader: i32, isr: &[i32], elr: &[i32]) -> PartitionImage {
        PartitionImage {
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            leader,
            leader_epoch: 7,
            partition_epoch: 9,
            elr: elr.to_vec(),
            ..PartitionImage::default()
        }
    }

    struct Case {
        why: &'static str,
        before: PartitionImage,
        available: &'static [i32],
        election: Election,
        isr: &'static [i32],
        lost: &'static [i32],
        /// Leader, in-sync replicas, eligible ones, last leader, recovering.
        after: (i32, &'static [i32], &'static [i32], &'static [i32], bool),
    }

    fn case(why: &'static str, before: PartitionImage, isr: &'static [i32]) -> Case {
        let after = (1, [].as_slice(), [].as_slice(), [].as_slice(), false);
        Case { why, before, available: &[1, 2, 3], election: Election::Online, isr, lost: &[], after }
    }

    /// `min.insync.replicas` is 2.
    #[test]
    fn leaders_and_sets() {
        use Election::{Online, Preferred, Unclean};
        let all = || partition(1, &[1, 2, 3], &[]);
        let last = |leader: i32| PartitionImage { last_known_elr: vec![leader], ..partition(-1, &[], &[]) };
        let cases = [
            Case { after: (1, &[1, 2], &[], &[], false), ..case("a follower leaves", all(), &[1, 2]) },
            Case {
                after: (1, &[1], &[2], &[], false),
                ..case("below the minimum it is eligible", partition(1, &[1, 2], &[]), &[1])
            },
            Case { after: (1, &[1], &[2, 3], &[], false), ..case("two at once", all(), &[1]) },
            Case {
                lost: &[2],
                after: (1, &[1], &[], &[], false),
                ..case("what may have lost records is not eligible", partition(1, &[1, 2], &[]), &[1])
            },
            Case {
                after: (1, &[1, 3], &[], &[], false),
                ..case("at the minimum none is eligible", partition(1, &[1], &[2]), &[1, 3])
            },
            Case {
                available: &[2, 3],
                after: (2, &[2, 3], &[], &[], false),
                ..case("the leader leaves: the first in sync leads", all(), &[2, 3])
            },
            Case {
                available: &[3],
                after: (3, &[3], &[1, 2], &[], false),
                ..case("the first that is available", all(), &[3])
            },
            Case {
                available: &[2, 3],
                after: (-1, &[], &[1], &[1], false),
                ..case("the last one leaves: none leads, and it is eligible", partition(1, &[1], &[]), &[])
            },
            Case {
                available: &[2, 3],
                after: (2, &[2], &[1], &[], false),
                ..case("an eligible one leads", partition(1, &[1], &[2]), &[])
            },
            Case {
                available: &[1],
                after: (1, &[1], &[2], &[], false),
                ..case("it comes back", PartitionImage { last_known_elr: vec![1], ..partition(-1, &[], &[1, 2]) }, &[])
            },
            Case {
                election: Unclean,
                available: &[2, 3],
                after: (2, &[2], &[], &[], true),
                ..case("an unclean election", partition(1, &[1], &[]), &[])
            },
            Case {
                election: Unclean,
                available: &[3],
                after: (3, &[3], &[1, 2], &[], false),
                ..case("is clean where a clean leader is there", all(), &[3])
            },
            Case {
                available: &[1, 2],
                after: (1, &[1], &[], &[], true),
                ..case("the last leader leads when none is eligible", last(1), &[])
            },
            Case { available: &[2], after: (-1, &[], &[], &[1], false), ..case("if it is available", last(1), &[]) },
            Case {
                election: Preferred,
                after: (1, &[1, 2, 3], &[], &[], false),
                ..case("the preferred leader", partition(2, &[1, 2, 3], &[]), &[1, 2, 3])
            },
            Case {
                election: Preferred,
                available: &[2, 3],
                after: (2, &[1, 2, 3], &[], &[], false),
                ..case("as long as it is available", partition(2, &[1, 2, 3], &[]), &[1, 2, 3])
            },
            Case {
                election: Online,
                after: (2, &[1, 2, 3], &[], &[], false),
                ..case("a leader that can stay, stays", partition(2, &[1, 2, 3], &[]), &[1, 2, 3])
            },
            Case {
                available: &[1, 3],
                after: (-1, &[2], &[], &[], false),
                ..case("in sync and not available", partition(-1, &[2], &[]), &[2])
            },
        ];
        for Case { why, before, available, election, isr, lost, after } in cases {
            let available = |id| available.contains(&id);
            let mut change = PartitionChange::new(&before, 2, &available);
            (change.isr, change.election) = (isr.to_vec(), election);
            change.lost = lost.to_vec();
            let record = change.build();
            let now = record.as_ref().map_or_else(|| before.clone(), |record| before.changed(record));
            let state = (now.leader, &*now.isr, &*now.elr, &*now.last_known_elr, now.recovering);
            assert_eq!(state, after, "{why}");
            assert_eq!(now.leader_epoch, 7 + i32::from(now.leader != before.leader), "{why}");
            assert_eq!(now.partition_epoch, 9 + i32::from(record.is_some()), "{why}");
        }
    }

    #[test]
    fn a_reassignment_goes_on_until_the_new_replicas_are_in_sync() {
        let any = |_| true;
        let moving = PartitionImage {
            replicas: vec![3, 4, 1, 2],
            adding: vec![4],
            removing: vec![1, 2],
            ..partition(1, &[1, 2, 3], &[])
        };
        assert_eq!(PartitionChange::new(&moving, 2, &any).build(), None, "nothing has changed");
        let mut change = PartitionChange::new(&moving, 2, &any);
        change.isr = vec![1, 2, 3, 4];
        let now = moving.changed(&change.build().unwrap());
        assert_eq!((now.replicas, now.isr, now.leader), (vec![3, 4], vec![3, 4], 3));
        assert!(now.adding.is_empty() && now.removing.is_empty() && now.elr.is_empty());
        assert_eq!(now.leader_epoch, 8);
    }

    #[test]
    fn the_leader_epoch_rises_when_a_replica_is_taken_out() {
        let any = |_| true;
        let before = PartitionImage { removing: vec![3], ..partition(1, &[1, 2, 3], &[]) };
        let record = PartitionChange::new(&before, 2, &any).build().unwrap();
        assert_eq!((record.leader, record.replicas.as_deref()), (1, Some([1, 2].as_slice())));
        assert_eq!(before.changed(&record).leader_epoch, 8);
        let mut shrinks = PartitionChange::new(&before, 2, &any);
        (shrinks.isr, shrinks.removing) = (vec![1, 2], vec![]);
        assert_eq!(shrinks.build().unwrap().leader, NO_CHANGE, "not when the in-sync set shrinks alone");
    }

    /// Found by the property test: others stayed eligible, and lacked what the new leader committed.
    #[test]
    fn an_elected_leader_that_may_commit_alone_ends_eligibility() {
        let before = partition(-1, &[], &[1, 2, 3]);
        let any = |_| true;
        for (min_isr, elr) in [(1, &[][..]), (2, &[2, 3])] {
            let now = before.changed(&PartitionChange::new(&before, min_isr, &any).build().unwrap());
            assert_eq!((now.leader, now.isr.as_slice(), now.elr.as_slice()), (1, &[1][..], elr));
        }
    }

    #[test]
    fn directories_follow_their_replicas() {
        let (any, a, b) = (|_| true, Uuid([1; 16]), Uuid([2; 16]));
        let before = partition(1, &[1, 2, 3], &[]);
        let mut change = PartitionChange::new(&before, 2, &any);
        change.directories = vec![(2, b)];
        let now = before.changed(&change.build().unwrap());
        assert_eq!(now.directories, [directory::UNASSIGNED, b, directory::UNASSIGNED]);
        let mut change = PartitionChange::new(&now, 2, &any);
        (change.replicas, change.directories) = (vec![3, 2, 1], vec![(1, a)]);
        let now = now.changed(&change.build().unwrap());
        assert_eq!(now.directories, [directory::UNASSIGNED, b, a]);
        assert_eq!([now.directory(2), now.directory(9)], [b, directory::UNASSIGNED]);
    }
}
