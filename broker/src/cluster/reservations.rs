//! Node ids that were reserved and whose nodes never registered, as the active controller sees them: a node that asks for a place may never come back,
//! or may be no node at all.
//!
//! The metadata has no time of a reservation. The controller counts from when it first saw it; one that was elected counts anew, which keeps a
//! reservation longer and never shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use esker_core::metadata::MetadataImage;
use esker_protocol::primitives::Uuid;
use tokio::time::Instant;

use crate::raft::{QuorumView, RaftId};

/// A node that has not registered for so long is given up if its place is needed. A start that recovers many logs takes less.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// A node id, and the metadata folder that it is reserved for.
pub(super) type Reserved = (i32, Uuid);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unregistered {
    since: BTreeMap<Reserved, Instant>,
}

impl Unregistered {
    /// Takes in what is reserved now; returns what is abandoned, the oldest first. A node that follows the metadata log, as a member or by pulls, is a
    /// node that starts.
    pub(super) fn abandoned(
        &mut self,
        image: &MetadataImage,
        (view, pulling): (&QuorumView, &BTreeSet<RaftId>),
        now: Instant,
    ) -> Vec<Reserved> {
        let follows =
            view.members.iter().filter(|member| member.votes || member.entries.is_some_and(|count| count > 0));
        let follows: BTreeSet<RaftId> = follows.map(|member| member.id).chain(pulling.iter().copied()).collect();
        let is_unregistered = |(node_id, directory): &Reserved| {
            let id = RaftId { node_id: *node_id, directory: directory.0 };
            image.broker(*node_id).is_none() && !follows.contains(&id)
        };
        let current: BTreeSet<Reserved> = image.reservations().filter(is_unregistered).collect();
        self.since.retain(|reserved, _| current.contains(reserved));
        current.into_iter().for_each(|reserved| _ = self.since.entry(reserved).or_insert(now));
        let is_due = |since: Instant| now.saturating_duration_since(since) >= ABANDONED_AFTER;
        let mut due: Vec<(Instant, Reserved)> = self
            .since
            .iter()
            .filter(|(_, since)| is_due(**since))
            .map(|(reserved, since)| (*since, *reserved))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, reserved)| reserved).collect()
    }
}

#[cfg(test)]
mod tests {
    use esker_core::metadata::{BrokerRecord, MetadataRecord, NodeReservationRecord};

    use super::*;
    use crate::raft::Member;

    fn reserve(image: &mut MetadataImage, node_id: i32) -> Reserved {
        let directory = Uuid([u8::try_from(node_id).unwrap(); 16]);
        image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id, directory }));
        (node_id, directory)
    }

    #[test]
    fn only_nodes_that_were_not_seen_for_long_are_abandoned() {
        let (mut image, mut view, mut known) =
            (MetadataImage::default(), QuorumView::default(), Unregistered::default());
        let start = Instant::now();
        let mut pulling = BTreeSet::new();
        let later = |known: &mut Unregistered, image: &_, followers: (&_, &_), secs| {
            known.abandoned(image, followers, start + Duration::from_secs(secs))
        };
        let reserved: Vec<Reserved> = (1..=3).map(|node_id| reserve(&mut image, node_id)).collect();
        assert!(later(&mut known, &image, (&view, &pulling), 0).is_empty());
        let last = reserve(&mut image, 4);
        assert!(later(&mut known, &image, (&view, &pulling), 3599).is_empty());
        assert_eq!(later(&mut known, &image, (&view, &pulling), 3600), reserved, "the last was seen later");
        assert_eq!(later(&mut known, &image, (&view, &pulling), 3599 + 3600), [reserved.clone(), vec![last]].concat());
        // One registers, one follows the log; a member that never answered does not count.
        image.apply(&MetadataRecord::Broker(BrokerRecord { node_id: 1, ..BrokerRecord::default() }));
        for (node_id, entries) in [(2, Some(1)), (3, Some(0))] {
            let id = RaftId { node_id, directory: reserved[node_id as usize - 1].1.0 };
            view.members.push(Member { id, address: "a:1".into(), votes: false, entries });
        }
        assert_eq!(later(&mut known, &image, (&view, &pulling), 8000), [reserved[2], last]);
        pulling.insert(RaftId { node_id: 3, directory: reserved[2].1.0 });
        assert_eq!(later(&mut known, &image, (&view, &pulling), 8000), [last], "it pulls the log");
    }
}
