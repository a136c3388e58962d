//! The topics in which coordinators keep their state. Clients may read them, and only the broker writes them.

/// The topic that consumer groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transactions live in.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";
/// The topic that share groups live in.
pub const SHARE_GROUP_TOPIC: &str = "__share_group_state";

/// All of them.
pub const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, TRANSACTION_TOPIC, SHARE_GROUP_TOPIC];

/// Whether only the broker writes `topic`.
pub fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_exact() {
        for topic in INTERNAL_TOPICS {
            assert!(is_internal(topic));
            assert!(!is_internal(&topic[1..]) && !is_internal(&topic.to_uppercase()));
        }
    }
}
