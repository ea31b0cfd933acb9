//! An index of ranges by the keys inside them: an interval tree (Cormen et al., Introduction to Algorithms, 14.3) over a treap.
//!
//! Ranges overlap, many share a start or an end, and they are added and removed with the watchers. No crate fits: those that
//! support changes require numbers or copyable bounds, the others are built once. A treap needs no rebalancing cases. Its
//! priorities are a hash of the node's number, so the same calls make the same tree.

use super::keys::{End, WatchedKeys};
use slab::Slab;
use std::cmp::Ordering;

const NONE: u32 = u32::MAX;

/// See the head of the file. Each range carries the number of its owner.
#[derive(Debug)]
pub struct RangeIndex {
    nodes: Slab<Node>,
    root: u32,
}

#[derive(Debug)]
struct Node {
    keys: WatchedKeys,
    owner: u32,
    left: u32,
    right: u32,
    /// The node at or below this one whose range ends last.
    last: u32,
}

impl Default for RangeIndex {
    fn default() -> Self {
        Self {
            nodes: Slab::new(),
            root: NONE,
        }
    }
}

/// Consecutive numbers must not give consecutive priorities (SplitMix64's finish).
fn priority(node: u32) -> u64 {
    let mut mixed = u64::from(node).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl RangeIndex {
    /// Adds a range; a single key is not allowed.
    pub fn insert(&mut self, keys: WatchedKeys, owner: u32) {
        assert!(keys.end().is_some(), "a range has an end");
        let node = self.nodes.insert(Node {
            keys,
            owner,
            left: NONE,
            right: NONE,
            last: NONE,
        }) as u32;
        self.refresh(node);
        self.root = self.insert_below(self.root, node);
    }

    /// Removes the range that was added with these arguments.
    pub fn remove(&mut self, keys: &WatchedKeys, owner: u32) {
        self.root = self.remove_below(self.root, keys, owner);
    }

    /// Calls `found` with the owner of each range that contains `key`.
    pub fn each_containing(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.each_below(self.root, key, found);
    }

    fn each_below(&self, at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE || !self.ends_after(self.node(at).last, key) {
            return;
        }
        let node = self.node(at);
        self.each_below(node.left, key, found);
        if node.keys.start() <= key {
            if self.ends_after(at, key) {
                found(node.owner);
            }
            self.each_below(node.right, key, found);
        }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn end(&self, at: u32) -> End<'_> {
        self.node(at).keys.end().expect("a range has an end")
    }

    fn ends_after(&self, at: u32, key: &[u8]) -> bool {
        self.end(at) > End::Before(key)
    }

    /// The order of `keys` of `owner` relative to the node `at`.
    fn compare(&self, keys: &WatchedKeys, owner: u32, at: u32) -> Ordering {
        let node = self.node(at);
        keys.start()
            .cmp(node.keys.start())
            .then_with(|| owner.cmp(&node.owner))
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        let Node { keys, owner, .. } = self.node(new);
        let top = if self.compare(keys, *owner, at) == Ordering::Less {
            let left = self.insert_below(self.node(at).left, new);
            self.nodes[at as usize].left = left;
            if priority(left) > priority(at) {
                self.rotate_right(at)
            } else {
                at
            }
        } else {
            let right = self.insert_below(self.node(at).right, new);
            self.nodes[at as usize].right = right;
            if priority(right) > priority(at) {
                self.rotate_left(at)
            } else {
                at
            }
        };
        self.refresh(top);
        top
    }

    fn remove_below(&mut self, at: u32, keys: &WatchedKeys, owner: u32) -> u32 {
        assert!(at != NONE, "what is taken out has been added");
        let (left, right) = (self.node(at).left, self.node(at).right);
        match self.compare(keys, owner, at) {
            Ordering::Less => {
                let left = self.remove_below(left, keys, owner);
                self.nodes[at as usize].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(right, keys, owner);
                self.nodes[at as usize].right = right;
            }
            Ordering::Equal => {
                self.nodes.remove(at as usize);
                return self.join(left, right);
            }
        }
        self.refresh(at);
        at
    }

    /// Joins two trees; all nodes of the first come before those of the second.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        let top = match (left, right) {
            (NONE, other) | (other, NONE) => return other,
            _ if priority(left) > priority(right) => {
                let joined = self.join(self.node(left).right, right);
                self.nodes[left as usize].right = joined;
                left
            }
            _ => {
                let joined = self.join(left, self.node(right).left);
                self.nodes[right as usize].left = joined;
                right
            }
        };
        self.refresh(top);
        top
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.node(at).left;
        self.nodes[at as usize].left = self.node(up).right;
        self.refresh(at);
        self.nodes[up as usize].right = at;
        up
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.node(at).right;
        self.nodes[at as usize].right = self.node(up).left;
        self.refresh(at);
        self.nodes[up as usize].left = at;
        up
    }

    /// Recomputes which range at or below `at` ends last.
    fn refresh(&mut self, at: u32) {
        let node = self.node(at);
        let below = [node.left, node.right].into_iter().filter(|child| *child != NONE);
        let last = below
            .map(|child| self.node(child).last)
            .chain([at])
            .max_by(|one, other| self.end(*one).cmp(&self.end(*other)));
        self.nodes[at as usize].last = last.expect("at least the node itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let key = || proptest::collection::vec(0u8..4, 0..3);
        (key(), prop_oneof![key(), Just(vec![0])])
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            ranges in proptest::collection::vec((range(), any::<prop::sample::Index>(), any::<bool>()), 1..60),
            probes in proptest::collection::vec(proptest::collection::vec(0u8..5, 0..4), 20),
        ) {
            let mut index = RangeIndex::default();
            let mut all: Vec<(WatchedKeys, u32)> = vec![];
            for (owner, ((key, end), place, remove)) in ranges.into_iter().enumerate() {
                if remove && !all.is_empty() {
                    let (keys, owner) = all.swap_remove(place.index(all.len()));
                    index.remove(&keys, owner);
                }
                let keys = WatchedKeys::new(&key, &end).filter(|keys| keys.end().is_some());
                if let Some(keys) = keys {
                    index.insert(keys.clone(), owner as u32);
                    all.push((keys, owner as u32));
                }
                for probe in &probes {
                    let mut found = vec![];
                    index.each_containing(probe, &mut |owner| found.push(owner));
                    found.sort_unstable();
                    let mut expected: Vec<u32> =
                        all.iter().filter(|(keys, _)| keys.contains(probe)).map(|(_, owner)| *owner).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    fn depth(index: &RangeIndex, at: u32) -> usize {
        if at == NONE {
            return 0;
        }
        let node = index.node(at);
        1 + depth(index, node.left).max(depth(index, node.right))
    }

    #[test]
    fn it_stays_shallow() {
        let mut index = RangeIndex::default();
        for number in 0..50_000u32 {
            let keys = WatchedKeys::new(&number.to_be_bytes(), &(number + 1).to_be_bytes());
            index.insert(keys.expect("a range"), number);
        }
        let depth = depth(&index, index.root);
        assert!(depth < 64, "{depth}");
    }
}
