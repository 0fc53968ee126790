//! The keys of the benchmarks.

use unitring_routing::hash::xxh64;
use unitring_routing::table::Table;

/// New keys of 16 bytes, made where they are read, so that the only memory measured is the ring's.
#[derive(Default)]
pub(crate) struct Keys {
    key: [u8; 16],
    made: u64,
}

impl Keys {
    pub(crate) fn next(&mut self) -> &[u8] {
        self.made += 1;
        self.key = u128::from(self.made).wrapping_mul(SPREAD).to_le_bytes();
        &self.key
    }
}

const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Number of keys of one instance. They fit the nearest cache, but are too many for branch
/// prediction to learn.
const OWNED: usize = 256;

/// Keys of one instance, in rotation.
#[derive(Clone)]
pub(crate) struct OwnedKeys {
    keys: Vec<[u8; 16]>,
    at: usize,
}

impl OwnedKeys {
    /// Keys of the table's first instance.
    pub(crate) fn of_first(table: &Table) -> Self {
        let mut all = Keys::default();
        let mut keys = Vec::with_capacity(OWNED);
        while keys.len() < OWNED && !table.hosts().is_empty() {
            let owner = table.owner(xxh64(all.next()));
            if owner.is_some_and(|owner| owner.get() == 0) {
                keys.push(all.key);
            }
        }
        Self { keys, at: 0 }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.at = (self.at + 1) % OWNED;
        self.keys.get(self.at).map_or(&[], <[u8; 16]>::as_slice)
    }
}
