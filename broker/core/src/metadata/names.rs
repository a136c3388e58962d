//! Which topic names are legal, as in Kafka.

use thiserror::Error;

/// Why a topic name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidTopicName {
    /// It is empty.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// It is a name that a folder cannot have.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// It has more than 249 characters.
    #[error("Topic name is invalid: the length of '{0}' is longer than the max allowed length 249")]
    TooLong(String),
    /// It has a character that is not allowed.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
    /// It is the name of the metadata log's folder.
    #[error("Topic name is invalid: '{0}' is the cluster's own")]
    Reserved(String),
}

/// The folder name of the metadata log, beside the folders of the partitions.
const METADATA_LOG: &str = "__cluster_metadata";

/// Kafka's rules for a topic name, and one of ours: no topic may have the folder name of the metadata log.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    if name.is_empty() {
        return Err(InvalidTopicName::Empty);
    }
    if name == "." || name == ".." {
        return Err(InvalidTopicName::Dots(name.to_owned()));
    }
    if name.len() > 249 {
        return Err(InvalidTopicName::TooLong(name.to_owned()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(InvalidTopicName::Characters(name.to_owned()));
    }
    if name == METADATA_LOG {
        return Err(InvalidTopicName::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Two names that are the same name in metrics: they differ in `.` and `_` alone.
pub fn collides(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a != b && a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for good in ["a", "A-b_c.9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250), METADATA_LOG] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
        assert!(collides("a.b", "a_b"));
        assert!(!collides("a.b", "a.b"));
        assert!(!collides("a.b", "a-b"));
    }
}
