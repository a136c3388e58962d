//! The latest offset of each key, in bounded memory.
//!
//! Keys are identified by a 16-byte hash with a random seed for each map, so a producer cannot choose keys that collide. The map
//! never grows: once it is full, the round ends there, and the next one continues. It must never lose a key that it accepted, nor
//! accept one past its limit.

use std::hash::{BuildHasher, RandomState};

/// Hash, and offset + 1; 0 marks a free slot.
type Slot = [u64; 3];

/// Bytes of memory that one key takes.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();

/// See the module.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    limit: usize,
    hashers: (RandomState, RandomState),
}

impl OffsetMap {
    /// For `keys` keys, in at most `memory` bytes (but room for one key).
    pub(crate) fn new(memory: usize, keys: usize) -> Self {
        let wanted = keys.saturating_add(keys / 9).saturating_add(2);
        let slots = (memory / SLOT_BYTES).min(wanted).max(2);
        let limit = Self::max_keys(slots);
        Self { slots: vec![[0; 3]; slots], len: 0, limit, hashers: (RandomState::new(), RandomState::new()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How full `memory` bytes are with its keys, in percent.
    pub(crate) fn percent_of(&self, memory: usize) -> u64 {
        let limit = Self::max_keys((memory / SLOT_BYTES).max(2));
        (self.len as u64).saturating_mul(100).checked_div(limit as u64).unwrap_or_default().min(100)
    }

    /// Nine tenths full at most, Kafka's default of io.buffer.load.factor: probes stay short.
    fn max_keys(slots: usize) -> usize {
        slots.saturating_sub(slots.div_ceil(10)).max(1)
    }

    fn hash_key(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key))
    }

    /// The key's slot, or the free one where it belongs.
    fn find_slot(&self, (high, low): (u64, u64)) -> usize {
        let count = self.slots.len();
        let mut at = ((u128::from(high) * count as u128) >> 64) as usize;
        // There is always a free slot.
        while let Some([h, l, offset]) = self.slots.get(at) {
            if *offset == 0 || (*h, *l) == (high, low) {
                break;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        at
    }

    /// Records that `key` is at `offset`, which is above all previous offsets. False, and nothing is recorded, if there is no room
    /// for a new key.
    pub(crate) fn insert_key(&mut self, key: &[u8], offset: i64) -> bool {
        let (high, low) = self.hash_key(key);
        let at = self.find_slot((high, low));
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot[2] == 0 {
            if self.len >= self.limit {
                return false;
            }
            self.len += 1;
        }
        *slot = [high, low, offset.cast_unsigned().saturating_add(1)];
        true
    }

    /// Latest offset of `key`.
    pub(crate) fn latest_offset(&self, key: &[u8]) -> Option<i64> {
        let [_, _, offset] = self.slots.get(self.find_slot(self.hash_key(key)))?;
        offset.checked_sub(1).map(u64::cast_signed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_matches_a_hash_map() {
        let mut map = OffsetMap::new(1 << 20, 2000);
        let mut model: HashMap<Vec<u8>, i64> = HashMap::new();
        for offset in 0..20_000i64 {
            let key = format!("key-{}", offset * 7919 % 1999).into_bytes();
            assert!(map.insert_key(&key, offset));
            model.insert(key, offset);
        }
        assert_eq!(map.len(), model.len());
        for (key, offset) in &model {
            assert_eq!(map.latest_offset(key), Some(*offset));
        }
        assert_eq!(map.latest_offset(b"another"), None);
    }

    #[test]
    fn it_is_bounded() {
        // Memory, requested keys, accepted keys.
        for (memory, keys, expected) in [(0, 10, 1), (SLOT_BYTES * 100, 1000, 90), (1 << 30, 50, 51)] {
            let mut map = OffsetMap::new(memory, keys);
            assert!(map.slots.capacity() * SLOT_BYTES <= memory.max(2 * SLOT_BYTES));
            let taken = (0..2000i64).take_while(|offset| map.insert_key(&offset.to_be_bytes(), *offset)).count();
            assert!(taken >= keys.min(expected) && taken <= expected, "{taken} of {keys}");
            // A known key still gets its newest offset.
            assert!(map.insert_key(&0i64.to_be_bytes(), 5000));
            assert_eq!(map.latest_offset(&0i64.to_be_bytes()), Some(5000));
            assert_eq!(map.latest_offset(&(taken as i64).to_be_bytes()), None);
        }
    }
}
