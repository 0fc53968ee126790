//! Units in virtual time, over brokers that lose, repeat and reorder, with seeds. Once the faults
//! stop, all units hold the same records: the last acknowledged write of each key.
//!
//! The stores are maps under the shipped rule ([`crate::replica`]); Redis' scripts are held to it by
//! `store/contract/differential.rs`.
//!
//! # Layout
//!
//! | module | what |
//! |---|---|
//! | `world` | the units and their steps |
//! | `clients` | the writes |
//! | `perform` | effects of a unit's machine → answers |
//! | `broker` | the queues |
//! | `store`, `outbox`, `content` | a unit's store, as the machine uses it |
//! | `rows` | one bucket of it, as the shipped rule uses it |
//! | `faults`, `damage` | what goes wrong |
//! | `liar` | lies of someone who may publish |
//! | `membership` | units that leave and return |
//! | `judge`, `seen` | what must be right afterwards |
//! | `history`, `conflicts` | who knew what, and which conflicts must be listed |
//! | `stories` | random runs by their seeds |
//! | `broken` | protections that a test can switch off |

mod broken;
mod broker;
mod clients;
mod conflicts;
mod content;
mod damage;
mod faults;
mod history;
mod judge;
mod liar;
mod membership;
mod outbox;
mod perform;
mod rows;
mod seen;
mod store;
mod stories;
mod superseding;
mod tests;
mod world;

/// A small generator (xorshift64*): a seed is a run that can be repeated.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn hits(&mut self, percent: u8) -> bool {
        self.roll(100) < u64::from(percent)
    }

    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length.max(1) as u64)).unwrap()
    }
}
