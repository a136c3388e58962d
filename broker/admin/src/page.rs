//! A part of a sorted list.

use std::fmt;
use std::str::FromStr;

/// Which part of a list: at most `limit` items, those behind `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K> {
    /// Items at most.
    pub limit: usize,
    /// The key of the last item of the page before.
    pub after: Option<K>,
}

impl<K: Ord> Page<K> {
    /// All items.
    pub fn all() -> Self {
        Self { limit: usize::MAX, after: None }
    }

    /// The items of the page, and the key to go on after; `None` at the end. The items must be sorted by their keys.
    pub fn cut<T>(&self, items: Vec<T>, key: impl Fn(&T) -> K) -> (Vec<T>, Option<K>) {
        let is_behind = |item: &T| self.after.as_ref().is_none_or(|after| key(item) > *after);
        let mut rest = items.into_iter().filter(is_behind);
        let page: Vec<T> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and(page.last()).map(&key);
        (page, next)
    }
}

/// The key of a partition in a list over several topics, written as `topic-partition`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl FromStr for PartitionKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('-').and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
        let (topic, partition) = parsed.ok_or_else(|| format!("'{text}' is not TOPIC-PARTITION"))?;
        Ok(Self { topic: topic.to_owned(), partition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let page = |limit, after| Page { limit, after }.cut(vec![1, 3, 5, 7], |item| *item);
        assert_eq!(page(2, None), (vec![1, 3], Some(3)));
        assert_eq!(page(2, Some(3)), (vec![5, 7], None), "the last page is full");
        assert_eq!(page(9, Some(4)), (vec![5, 7], None), "the item itself may be gone");
        assert_eq!(page(2, Some(7)), (vec![], None));
        assert_eq!(Page::<i32>::all().cut(vec![1, 2], |item| *item), (vec![1, 2], None));
    }

    #[test]
    fn keys_of_partitions_are_read_back() {
        let key = PartitionKey { topic: "a-b".to_owned(), partition: 12 };
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert!(key > PartitionKey { topic: "a-b".to_owned(), partition: 2 }, "partitions are numbers");
        assert!("a".parse::<PartitionKey>().is_err() && "a-b".parse::<PartitionKey>().is_err());
    }
}
