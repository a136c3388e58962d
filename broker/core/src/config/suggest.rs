//! Suggests the closest known name for a misspelled config name.

use super::table::{Scope, keys};

/// The config of `scope` whose name is nearest to `name`, if any is near enough to be meant.
pub fn nearest(scope: Scope, name: &str) -> Option<&'static str> {
    let far = name.len().max(6) / 3;
    keys()
        .iter()
        .filter(|key| key.scope == scope && !key.internal)
        .map(|key| (distance(name, key.name), key.name))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance, over bytes: names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let next = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = *cell;
            *cell = next;
            left = next;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(nearest(Scope::Broker, "num.partition"), Some("num.partitions"));
        assert_eq!(nearest(Scope::Broker, "lisenters"), Some("listeners"));
        assert_eq!(nearest(Scope::Topic, "retentoin.ms"), Some("retention.ms"));
        assert_eq!(nearest(Scope::Broker, "completely.different.thing"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
