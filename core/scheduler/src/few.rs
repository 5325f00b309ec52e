//! How are lists kept that are nearly always short?
//!
//! A resource has one start and one stop, an action a few edges, and most run on one node: such lists lie inside what
//! they belong to, and only the long ones in memory of their own. A large cluster has hundreds of thousands of them.
//!
//! Not here: what is looked up by name (`names.rs`).

use std::ops::{Deref, DerefMut};

use crate::world::NodeIx;

/// A list that lies in place while it has no more than `N` entries.
#[derive(Clone, Debug)]
pub(crate) enum Few<T, const N: usize> {
    Short(u8, [T; N]),
    Long(Vec<T>),
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    pub fn new() -> Self {
        Few::Short(0, [T::default(); N])
    }

    pub fn push(&mut self, new: T) {
        match self {
            Few::Short(len, entries) if usize::from(*len) < N => {
                entries[usize::from(*len)] = new;
                *len += 1;
            }
            Few::Short(_, entries) => {
                let mut long = Vec::with_capacity(4 * N);
                long.extend_from_slice(entries);
                long.push(new);
                *self = Few::Long(long);
            }
            Few::Long(entries) => entries.push(new),
        }
    }

    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// Puts it before what is at a place.
    fn insert(&mut self, at: usize, new: T) {
        self.push(new);
        self[at..].rotate_right(1);
    }
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Few::new()
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::Short(len, entries) => &entries[..usize::from(*len)],
            Few::Long(entries) => entries,
        }
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Few::Short(len, entries) => &mut entries[..usize::from(*len)],
            Few::Long(entries) => entries,
        }
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a Few<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What is left of a list that is gone through.
pub(crate) struct Entries<T, const N: usize> {
    few: Few<T, N>,
    next: usize,
}

impl<T: Copy, const N: usize> Iterator for Entries<T, N> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let entry = self.few.get(self.next).copied();
        self.next += 1;
        entry
    }
}

impl<T: Copy, const N: usize> IntoIterator for Few<T, N> {
    type Item = T;
    type IntoIter = Entries<T, N>;

    fn into_iter(self) -> Self::IntoIter {
        Entries { few: self, next: 0 }
    }
}

impl<T: Copy + Default, const N: usize> From<&[T]> for Few<T, N> {
    fn from(entries: &[T]) -> Self {
        let mut all = Few::new();
        if entries.len() > N {
            return Few::Long(entries.to_vec());
        }
        entries.iter().for_each(|entry| all.push(*entry));
        all
    }
}

/// Nodes in their order, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeSet(Few<NodeIx, 2>);

impl NodeSet {
    pub fn insert(&mut self, node: NodeIx) {
        if let Err(at) = self.0.binary_search(&node) {
            self.0.insert(at, node);
        }
    }

    pub fn contains(&self, node: &NodeIx) -> bool {
        self.0.binary_search(node).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a NodeSet {
    type Item = &'a NodeIx;
    type IntoIter = std::slice::Iter<'a, NodeIx>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Something for each of some nodes, in their order.
#[derive(Clone, Debug)]
pub(crate) struct NodeMap<T>(Vec<(NodeIx, T)>);

impl<T> NodeMap<T> {
    pub fn new() -> Self {
        NodeMap(Vec::new())
    }

    fn find(&self, node: NodeIx) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |(known, _)| *known)
    }

    pub fn get(&self, node: NodeIx) -> Option<&T> {
        self.find(node).ok().map(|at| &self.0[at].1)
    }

    pub fn get_mut(&mut self, node: NodeIx) -> Option<&mut T> {
        self.find(node).ok().map(|at| &mut self.0[at].1)
    }

    /// Puts it there, over what was there.
    pub fn insert(&mut self, node: NodeIx, new: T) {
        match self.find(node) {
            Ok(at) => self.0[at].1 = new,
            Err(at) => {
                // Most have one.
                self.0.reserve_exact(1);
                self.0.insert(at, (node, new));
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeIx, &T)> {
        self.0.iter().map(|(node, it)| (node, it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_short_or_long() {
        let mut few: Few<u32, 2> = Few::new();
        for number in 0..5 {
            few.push(number);
            assert_eq!(few.to_vec(), (0..=number).collect::<Vec<_>>());
            assert_eq!(Few::<u32, 2>::from(&*few).to_vec(), few.to_vec());
        }
    }

    #[test]
    fn nodes_come_in_their_order_whatever_was_first() {
        let mut set = NodeSet::default();
        let mut map = NodeMap::new();
        for node in [3, 1, 2, 3, 0].map(NodeIx) {
            set.insert(node);
            map.insert(node, node.0);
        }
        assert_eq!(set.into_iter().map(|node| node.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(map.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(set.contains(&NodeIx(2)) && !set.contains(&NodeIx(4)));
        assert_eq!((map.get(NodeIx(2)), map.get(NodeIx(4))), (Some(&2), None));
    }
}
