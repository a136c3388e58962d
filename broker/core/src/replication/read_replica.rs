//! Which replica a consumer should read from (KIP-392): Kafka's `RackAwareReplicaSelector` over what the leader knows of its followers.
//!
//! Only an in-sync follower that has the offset is chosen: one that lags would stay behind the consumer for good. Among those in the
//! consumer's rack the most caught-up one is preferred, then the one with the highest id. Must never: choose a follower where the leader is in
//! the rack.

/// An in-sync follower, as its leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSyncFollower {
    /// The follower.
    pub id: i32,
    /// Its log start offset; -1 if it is not known.
    pub log_start: i64,
    /// Its log end offset; -1 if it is not known.
    pub log_end: i64,
    /// When it was caught up last, in milliseconds since the leadership began.
    pub caught_up_ms: i64,
}

/// The follower in `rack` that a consumer should read `offset` from; `None`: it reads from the leader. `is_in_rack` is true of
/// a broker in a rack that clients of the consumer's listener can reach.
pub fn preferred_read_replica(
    rack: &str,
    leader: i32,
    offset: i64,
    followers: impl Iterator<Item = InSyncFollower>,
    is_in_rack: impl Fn(i32, &str) -> bool,
) -> Option<i32> {
    if rack.is_empty() || is_in_rack(leader, rack) {
        return None;
    }
    let has_offset = |follower: &InSyncFollower| (follower.log_start..=follower.log_end).contains(&offset);
    let near = followers.filter(|follower| has_offset(follower) && is_in_rack(follower.id, rack));
    near.max_by_key(|follower| (follower.log_end, follower.caught_up_ms, follower.id)).map(|follower| follower.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let follower = |id, log_start, log_end, caught_up_ms| InSyncFollower { id, log_start, log_end, caught_up_ms };
        let racks = [(1, "a"), (2, "b"), (3, "b"), (4, "c")];
        let is_in_rack = |id: i32, rack: &str| racks.contains(&(id, rack));
        let same = || vec![follower(2, 0, 10, 5), follower(3, 0, 10, 5), follower(4, 0, 10, 5)];
        type Case<'a> = (&'a str, i64, Vec<InSyncFollower>, Option<i32>, &'a str);
        let cases: Vec<Case<'_>> = vec![
            ("", 5, same(), None, "a consumer without a rack"),
            ("a", 5, same(), None, "the leader's rack"),
            ("x", 5, same(), None, "a rack without a replica"),
            ("c", 5, same(), Some(4), "the one in the rack"),
            ("b", 5, same(), Some(3), "equal ones: the highest id"),
            ("b", 5, vec![follower(2, 0, 11, 5), follower(3, 0, 10, 5)], Some(2), "the longest log"),
            ("b", 5, vec![follower(2, 0, 10, 6), follower(3, 0, 10, 5)], Some(2), "the one caught up last"),
            ("c", 10, same(), Some(4), "the next record will come there"),
            ("c", 11, same(), None, "it does not have the offset yet"),
            ("c", 5, vec![follower(4, 6, 10, 5)], None, "it has deleted the offset"),
            ("c", 5, vec![follower(4, -1, -1, 5)], None, "it has not fetched yet"),
            ("c", 5, vec![], None, "it is not in sync"),
        ];
        for (rack, offset, followers, expected, why) in cases {
            let chosen = preferred_read_replica(rack, 1, offset, followers.into_iter(), is_in_rack);
            assert_eq!(chosen, expected, "{why}");
        }
    }
}
