//! The entries of moves in the throttle lists of topics (KIP-73, `*.replication.throttled.replicas`), beside entries of others.
//!
//! A list may hold what an operator or another reassignment has set. A move adds the entries that are missing and removes those again; it
//! never changes an entry that it did not add, and leaves a list that names all replicas (`*`) as it is.

use std::collections::BTreeSet;

use super::layout::Move;

/// All replicas of a topic.
const ALL: &str = "*";

/// Entries in the two lists of a topic, each `partition:broker`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottleEntries {
    /// `leader.replication.throttled.replicas`.
    pub leaders: BTreeSet<String>,
    /// `follower.replication.throttled.replicas`.
    pub followers: BTreeSet<String>,
}

impl ThrottleEntries {
    /// The entries of a move: the replicas that it copies from, and those that it adds.
    pub fn of(one: &Move) -> Self {
        let entry = |broker: i32| format!("{}:{broker}", one.partition);
        Self { leaders: one.from.iter().copied().map(entry).collect(), followers: one.added().map(entry).collect() }
    }

    /// Adds other entries.
    pub fn extend(&mut self, other: Self) {
        self.leaders.extend(other.leaders);
        self.followers.extend(other.followers);
    }
}

/// How a list of a topic changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListChange {
    /// It stays as it is.
    Keep,
    /// These entries are added.
    Append(Vec<String>),
    /// These entries are removed, and others stay.
    Subtract(Vec<String>),
    /// No entry is left: the config is removed.
    Delete,
}

/// The change that puts entries into a list which holds `current`.
pub fn add_to_list(current: &str, wanted: &BTreeSet<String>) -> ListChange {
    let present: BTreeSet<&str> = items(current).collect();
    let missing: Vec<String> = wanted.iter().filter(|entry| !present.contains(entry.as_str())).cloned().collect();
    if missing.is_empty() || present.contains(ALL) {
        return ListChange::Keep;
    }
    ListChange::Append(missing)
}

/// The change that takes one's own entries out of a list which holds `current`.
pub fn remove_from_list(current: &str, own: &BTreeSet<String>) -> ListChange {
    let (removed, rest): (Vec<&str>, Vec<&str>) = items(current).partition(|entry| own.contains(*entry));
    match (removed.is_empty(), rest.is_empty()) {
        (true, _) => ListChange::Keep,
        (false, true) => ListChange::Delete,
        (false, false) => ListChange::Subtract(removed.into_iter().map(str::to_owned).collect()),
    }
}

/// What becomes of the rate of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateChange {
    /// It stays as it is.
    Keep,
    /// Back to the rate of before.
    Restore(String),
    /// The config is removed.
    Delete,
}

/// What becomes of a rate when all copies are complete. A rate that another client has set meanwhile is not this command's any more.
pub fn rate_at_end(before: Option<&str>, current: Option<&str>, own: &str) -> RateChange {
    match (before, current) {
        (_, current) if current != Some(own) => RateChange::Keep,
        // An earlier run of the same command has set it.
        (Some(before), _) if before != own => RateChange::Restore(before.to_owned()),
        _ => RateChange::Delete,
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[&str]) -> BTreeSet<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    fn owned(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn entries_of_a_move() {
        let one = Move { topic: "t".into(), partition: 3, from: vec![1, 2], to: vec![2, 4], bytes: 0 };
        let entries = ThrottleEntries::of(&one);
        assert_eq!((entries.leaders, entries.followers), (set(&["3:1", "3:2"]), set(&["3:4"])));
    }

    #[test]
    fn entries_are_added_to_what_is_set() {
        for (current, wanted, expected) in [
            ("", &["0:1", "0:2"][..], ListChange::Append(owned(&["0:1", "0:2"]))),
            ("7:1", &["0:1"], ListChange::Append(owned(&["0:1"]))),
            ("7:1, 0:1", &["0:1", "0:2"], ListChange::Append(owned(&["0:2"]))),
            ("0:1,0:2", &["0:1", "0:2"], ListChange::Keep),
            ("*", &["0:1"], ListChange::Keep),
            ("7:1", &[], ListChange::Keep),
        ] {
            assert_eq!(add_to_list(current, &set(wanted)), expected, "{current} {wanted:?}");
        }
    }

    #[test]
    fn only_own_entries_are_removed() {
        for (current, own, expected) in [
            ("0:1,0:2", &["0:1", "0:2"][..], ListChange::Delete),
            ("0:1 , 0:2", &["0:1", "0:2", "0:3"], ListChange::Delete),
            ("7:1,0:1", &["0:1"], ListChange::Subtract(owned(&["0:1"]))),
            // What another client has added meanwhile stays.
            ("0:1,0:2,8:1", &["0:2", "0:1"], ListChange::Subtract(owned(&["0:1", "0:2"]))),
            ("7:1", &["0:1"], ListChange::Keep),
            ("10:1", &["0:1"], ListChange::Keep),
            ("*", &["0:1"], ListChange::Keep),
            ("", &["0:1"], ListChange::Keep),
            ("0:1", &[], ListChange::Keep),
        ] {
            assert_eq!(remove_from_list(current, &set(own)), expected, "{current} {own:?}");
        }
    }

    #[test]
    fn rates_go_back_to_what_they_were() {
        let restored = RateChange::Restore("7".to_owned());
        for (before, current, expected) in [
            (None, Some("5"), RateChange::Delete),
            (Some("7"), Some("5"), restored),
            (Some("5"), Some("5"), RateChange::Delete),
            (None, Some("6"), RateChange::Keep),
            (Some("7"), Some("6"), RateChange::Keep),
            (Some("7"), None, RateChange::Keep),
            (None, None, RateChange::Keep),
        ] {
            assert_eq!(rate_at_end(before, current, "5"), expected, "{before:?} {current:?}");
        }
    }
}
