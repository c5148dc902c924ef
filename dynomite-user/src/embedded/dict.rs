//! A map whose order tells nothing about its history: by the hashes of its keys.
//! Owns: that order. It is what lets SCAN keep its promise with a plain number as cursor, and a seed replay itself.

use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Dict<V> {
    /// Keys of one hash are kept in their own order; there is nearly always one.
    buckets: BTreeMap<u32, Vec<(Vec<u8>, V)>>,
    len: usize,
}

impl<V> Default for Dict<V> {
    fn default() -> Dict<V> {
        Dict { buckets: BTreeMap::new(), len: 0 }
    }
}

impl<V> Dict<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.buckets.get(&hash(key))?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.buckets.get_mut(&hash(key))?.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let bucket = self.buckets.entry(hash(key)).or_default();
        match bucket.binary_search_by(|(name, _)| name.as_slice().cmp(key)) {
            Ok(at) => Some(std::mem::replace(&mut bucket[at].1, value)),
            Err(at) => {
                bucket.insert(at, (key.to_vec(), value));
                self.len += 1;
                None
            }
        }
    }

    pub fn get_or_insert_with(&mut self, key: &[u8], value: impl FnOnce() -> V) -> &mut V {
        let bucket = self.buckets.entry(hash(key)).or_default();
        let at = bucket.binary_search_by(|(name, _)| name.as_slice().cmp(key)).unwrap_or_else(|at| {
            bucket.insert(at, (key.to_vec(), value()));
            self.len += 1;
            at
        });
        &mut bucket[at].1
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let hash = hash(key);
        let bucket = self.buckets.get_mut(&hash)?;
        let at = bucket.iter().position(|(name, _)| name == key)?;
        let (_, value) = bucket.remove(at);
        if bucket.is_empty() {
            self.buckets.remove(&hash);
        }
        self.len -= 1;
        Some(value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> + Clone {
        self.buckets.values().flatten().map(|(key, value)| (key.as_slice(), value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// The entry at or behind a place on the circle of hashes: a random place gives a random entry.
    pub fn near(&self, place: u32) -> Option<(&[u8], &V)> {
        let bucket = self.buckets.range(place..).chain(self.buckets.range(..place)).next()?.1;
        let (key, value) = &bucket[place as usize % bucket.len()];
        Some((key, value))
    }

    /// Hands out about `count` entries from the cursor on; the next cursor, 0 at the end. What is in the map for the whole
    /// walk is handed out, whatever comes and goes meanwhile.
    pub fn scan(&self, cursor: u64, count: usize, mut take: impl FnMut(&[u8], &V)) -> u64 {
        let Ok(from) = u32::try_from(cursor) else { return 0 };
        let mut taken = 0;
        for (&hash, bucket) in self.buckets.range(from..) {
            if taken >= count {
                return u64::from(hash);
            }
            bucket.iter().for_each(|(key, value)| take(key, value));
            taken += bucket.len();
        }
        0
    }
}

/// FNV-1a, and a last step that lets every byte reach the high bits.
fn hash(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0x811c_9dc5u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash ^ (hash >> 13)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u8..4, 0u16..40), 0..200)) {
            let (mut dict, mut model) = (Dict::default(), BTreeMap::new());
            for (kind, key) in steps {
                let bytes = key.to_be_bytes();
                match kind {
                    0 => prop_assert_eq!(dict.remove(&bytes), model.remove(&key)),
                    1 => prop_assert_eq!(dict.get(&bytes), model.get(&key)),
                    2 => prop_assert_eq!(*dict.get_or_insert_with(&bytes, || 7), *model.entry(key).or_insert(7)),
                    _ => prop_assert_eq!(dict.insert(&bytes, key), model.insert(key, key)),
                }
                prop_assert_eq!(dict.len(), model.len());
                prop_assert_eq!(dict.near(u32::from(key) << 20).is_none(), model.is_empty());
            }
            let mut keys: Vec<_> = dict.keys().map(<[u8]>::to_vec).collect();
            keys.sort();
            prop_assert_eq!(keys, model.keys().map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn a_scan_hands_out_what_stays(
            staying in prop::collection::btree_set(0u16..200, 0..50),
            passing in prop::collection::vec(200u16..400, 0..50),
            count in 1usize..20,
        ) {
            let mut dict = Dict::default();
            staying.iter().for_each(|key| { dict.insert(&key.to_be_bytes(), ()); });
            let (mut found, mut cursor, mut passing) = (std::collections::BTreeSet::new(), 0, passing.into_iter());
            loop {
                cursor = dict.scan(cursor, count, |key, ()| { found.insert(key.to_vec()); });
                if cursor == 0 {
                    break;
                }
                if let Some(key) = passing.next() {
                    dict.insert(&key.to_be_bytes(), ());
                }
                if let Some(key) = passing.next() {
                    dict.remove(&key.to_be_bytes());
                }
            }
            prop_assert!(staying.iter().all(|key| found.contains(&key.to_be_bytes()[..])));
        }
    }
}
