//! The keys that are measured with.

use unitring_routing::hash::xxh64;
use unitring_routing::table::Table;

/// Ever new keys of 16 bytes, made where they are read from, so that no memory is measured but that
/// of the ring.
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

/// How many keys of one instance are found: they fit the nearest cache, and no branch learns them.
const OWNED: usize = 256;

/// Keys of one instance, in turn.
#[derive(Clone)]
pub(crate) struct OwnedKeys {
    keys: Vec<[u8; 16]>,
    at: usize,
}

impl OwnedKeys {
    /// Those of the first instance.
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
