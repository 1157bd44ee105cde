//! A bounded memory of what was used lately.

use hashbrown::HashMap;
use std::hash::Hash;

/// Keeps between `half` and twice that many entries: when the young half is full it becomes the old one, and what was in
/// the old one and not used since is forgotten. Every call is O(1).
pub struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub fn new(half: usize) -> Recent<K, V> {
        Recent { half: half.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut recent = Recent::new(10);
        for number in 0..1000 {
            recent.insert(number, number);
            assert_eq!(recent.get(&0), Some(0), "used each time");
        }
        assert!(recent.young.len() + recent.old.len() <= 20);
        assert_eq!((recent.get(&500), recent.get(&999)), (None, Some(999)));
        assert_eq!((recent.remove(&999), recent.get(&999)), (Some(999), None));
    }
}
