//! Committed offsets of groups, and the offsets of partitions that may be gone.

use std::collections::HashMap;

use async_recursion::async_recursion as boxed;
use esker_client::admin::OffsetSpec;
use esker_client::{Admin, Error, TopicPartition};

/// The offsets that a group has committed, by partition.
#[boxed]
pub async fn committed_offsets(admin: &Admin, group: &str) -> Result<Vec<(TopicPartition, i64)>, Error> {
    let offsets = admin.committed_offsets(group).await?;
    Ok(offsets.into_iter().filter(|o| o.offset >= 0).map(|o| (o.partition, o.offset)).collect())
}

/// One offset of each partition. A partition of a topic that was deleted is left out.
#[boxed]
pub async fn existing_offsets(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> HashMap<TopicPartition, i64> {
    let mut found = HashMap::new();
    for topic in partitions.chunk_by(|a, b| a.topic == b.topic) {
        let asked: Vec<_> = topic.iter().map(|tp| (tp.clone(), spec)).collect();
        let listed = admin.list_led_offsets(&asked).await.unwrap_or_default();
        found.extend(listed.into_iter().map(|(tp, listed)| (tp, listed.offset)));
    }
    found
}
