//! A list whose members leave by key in constant time, and that is dense to walk: no gap stays where a member was.

/// A member's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Place(u32);

/// See the module.
#[derive(Debug)]
pub(super) struct Places<T> {
    members: Vec<(u32, T)>,
    /// By key: the member's index, for keys in use.
    index: Vec<u32>,
    free: Vec<u32>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { members: Vec::new(), index: Vec::new(), free: Vec::new() }
    }
}

/// A list that becomes empty frees its memory if it was larger than this.
const KEPT: usize = 64;

impl<T> Places<T> {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.members.iter().map(|(_, member)| member)
    }

    pub(super) fn insert(&mut self, member: T) -> Place {
        // Members are requests in memory: far fewer than a u32 counts.
        let at = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let key = self.free.pop().unwrap_or_else(|| {
            self.index.push(at);
            u32::try_from(self.index.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(index) = self.index.get_mut(key as usize) {
            *index = at;
        }
        self.members.push((key, member));
        Place(key)
    }

    /// Removes the member. The caller owns its key and uses it once.
    pub(super) fn remove(&mut self, Place(key): Place) {
        let Some(at) = self.index.get(key as usize).map(|at| *at as usize).filter(|at| *at < self.members.len()) else {
            return;
        };
        self.members.swap_remove(at);
        if let Some((moved, _)) = self.members.get(at)
            && let Some(index) = self.index.get_mut(*moved as usize)
        {
            *index = u32::try_from(at).unwrap_or(u32::MAX);
        }
        self.free.push(key);
        if self.members.is_empty() && self.index.len() > KEPT {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn holds_what_was_inserted_and_not_removed() {
        let (mut places, mut model) = (Places::default(), BTreeMap::new());
        let mut random = 1u64;
        for number in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = (random >> 33) as usize;
            // Grows to many members, shrinks to none, and repeats.
            if model.is_empty() || pick % 10 < if number / 1000 % 2 == 0 { 7 } else { 2 } {
                let Place(key) = places.insert(number);
                assert!(model.insert(key, number).is_none(), "key {key} is in use");
            } else {
                let key = *model.keys().nth(pick % model.len()).unwrap();
                model.remove(&key);
                places.remove(Place(key));
            }
            assert_eq!(places.len(), model.len());
            if number % 50 == 0 {
                let mut members: Vec<_> = places.iter().copied().collect();
                members.sort_unstable();
                let mut expected: Vec<_> = model.values().copied().collect();
                expected.sort_unstable();
                assert_eq!(members, expected);
            }
        }
    }

    #[test]
    fn memory_of_a_crowd_is_returned() {
        let mut places = Places::default();
        let keys: Vec<_> = (0..10_000).map(|number| places.insert(number)).collect();
        keys.into_iter().for_each(|key| places.remove(key));
        assert_eq!((places.members.capacity(), places.index.capacity(), places.free.capacity()), (0, 0, 0));
    }
}
