//! "Authorised operations" as bit fields (KIP-430). Without an authorizer everything is allowed.

const fn bits(operations: &[u32]) -> i32 {
    let (mut field, mut at) = (0, 0);
    while at < operations.len() {
        #[allow(clippy::indexing_slicing)]
        {
            field |= 1 << operations[at];
        }
        at += 1;
    }
    field
}

const READ: u32 = 3;
const WRITE: u32 = 4;
const CREATE: u32 = 5;
const DELETE: u32 = 6;
const ALTER: u32 = 7;
const DESCRIBE: u32 = 8;
const CLUSTER_ACTION: u32 = 9;
const DESCRIBE_CONFIGS: u32 = 10;
const ALTER_CONFIGS: u32 = 11;
const IDEMPOTENT_WRITE: u32 = 12;

/// Everything that can be done to a topic.
pub const TOPIC: i32 = bits(&[READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);
/// Everything that can be done to a group.
pub const GROUP: i32 = bits(&[READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);
/// Everything that can be done to the cluster.
pub const CLUSTER: i32 =
    bits(&[CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE]);

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_kafkas() {
        assert_eq!((super::TOPIC, super::CLUSTER, super::GROUP), (3576, 8096, 3400));
    }
}
