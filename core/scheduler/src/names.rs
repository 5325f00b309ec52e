//! Which number has a name?
//!
//! A table of places by hash, open addressing: built once, asked for every report and every constraint. It is never
//! gone through, so that the order of hashes decides nothing; names themselves stay with what they name.

/// Numbers by name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Hash and number plus one; 0: free. As long as a power of two.
    slots: Vec<(u32, u32)>,
    len: usize,
}

impl Names {
    /// Room for so many.
    pub fn with_capacity(names: usize) -> Self {
        Names { slots: vec![(0, 0); (names * 2).next_power_of_two().max(8)], len: 0 }
    }

    /// The number of a name; `name_of` tells the name of a number that is known.
    pub fn get<'n>(&self, name: &str, name_of: impl Fn(u32) -> &'n str) -> Option<u32> {
        let hash = hash(name);
        let mut at = hash as usize;
        loop {
            let (known, number) = *self.slots.get(at & self.slots.len().checked_sub(1)?)?;
            let number = number.checked_sub(1)?;
            if known == hash && name_of(number) == name {
                return Some(number);
            }
            at += 1;
        }
    }

    /// Notes the number of a name that is not there yet.
    pub fn insert(&mut self, name: &str, number: u32) {
        if self.len * 2 >= self.slots.len() {
            let old = std::mem::replace(self, Names::with_capacity(self.len * 2));
            for (hash, number) in old.slots.into_iter().filter(|(_, number)| *number > 0) {
                self.put(hash, number);
            }
        }
        self.put(hash(name), number + 1);
    }

    fn put(&mut self, hash: u32, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].1 > 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash, number);
        self.len += 1;
    }
}

/// Eight bytes at a time, multiplied and folded: quick, and the same everywhere.
fn hash(name: &str) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, part: u64| {
        let mixed = (hash ^ part).wrapping_mul(ODD);
        mixed ^ (mixed >> 29)
    };
    let mut parts = name.as_bytes().chunks_exact(8);
    let mut hash = name.len() as u64;
    for part in &mut parts {
        hash = mix(hash, part.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
    }
    hash = mix(hash, parts.remainder().iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let known: Vec<String> = (0..1000).map(|number| format!("resource-{number:04}")).collect();
        let mut names = Names::default();
        assert_eq!(names.get("resource-0000", |_| ""), None);
        for (number, name) in (0_u32..).zip(&known) {
            names.insert(name, number);
        }
        let find = |name: &str| names.get(name, |number| &known[number as usize]);
        for (number, name) in (0_u32..).zip(&known) {
            assert_eq!(find(name), Some(number));
        }
        for unknown in ["", "resource-1000", "resource-0001:0", "resource-000"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
