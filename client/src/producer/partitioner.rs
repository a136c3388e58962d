//! Which partition a record goes to: by the hash of its key as Java's producer does, or for records without a key to one
//! partition until a batch is full (sticky, KIP-480 and KIP-794).

use crate::metadata::Topic;
use crate::retry::weak_random;

/// Murmur2 as Kafka's Java client has it (seed `0x9747b28c`).
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition of a key among `partitions`.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: usize) -> i32 {
    let hash = (murmur2(key) & i32::MAX) as usize;
    i32::try_from(hash % partitions.max(1)).unwrap_or(0)
}

/// Where records without a key of one topic go at the moment.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    partition: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The partition for `size` more bytes; another one is chosen after each `batch_bytes`.
    pub(super) fn next(&mut self, topic: &Topic, size: usize, batch_bytes: usize) -> i32 {
        let known = self.partition.filter(|p| topic.partition(*p).is_some_and(|p| p.leader.is_some()));
        let partition = match known {
            Some(partition) if self.bytes < batch_bytes => partition,
            _ => {
                self.bytes = 0;
                choose(topic, self.partition)
            }
        };
        self.partition = Some(partition);
        self.bytes = self.bytes.saturating_add(size);
        partition
    }
}

/// Any partition with a leader, another than `last` where there is one.
fn choose(topic: &Topic, last: Option<i32>) -> i32 {
    let mut able: Vec<i32> = topic.partitions.iter().filter(|p| p.leader.is_some()).map(|p| p.id).collect();
    if able.is_empty() {
        able = topic.partitions.iter().map(|p| p.id).collect();
    }
    if able.len() > 1 {
        able.retain(|p| Some(*p) != last);
    }
    let at = weak_random() as usize % able.len().max(1);
    able.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Partition;

    /// Vectors of Kafka's own UtilsTest.
    #[test]
    fn murmur_as_java() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn sticky_moves_after_a_batch_and_avoids_the_leaderless() {
        let partition =
            |id, leader| Partition { id, leader, leader_epoch: 0, replicas: vec![], isr: vec![], offline: vec![] };
        let topic = Topic {
            name: "t".into(),
            id: Default::default(),
            internal: false,
            partitions: vec![partition(0, Some(1)), partition(1, None), partition(2, Some(1))],
        };
        let mut sticky = Sticky::default();
        let first = sticky.next(&topic, 60, 100);
        assert_eq!(sticky.next(&topic, 60, 100), first);
        let second = sticky.next(&topic, 60, 100);
        assert!(second != first && second != 1 && first != 1);
    }
}
