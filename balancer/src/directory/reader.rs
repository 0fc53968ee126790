//! A published directory → the directory, read again only where it differs from the last one.
//!
//! Each entry is a block of bytes with its length before it. A block that the last directory had, too,
//! is the same entry, which is shared. So a change of one instance among a thousand reads one.

use std::ops::Range;
use std::sync::Arc;

use super::{Directory, Entry};
use crate::stored::{self, Stored};

/// How many of the known blocks that follow the last one met may be the next, where nothing was missed.
const AHEAD: usize = 16;
/// The same after many that are not known.
const AHEAD_MAX: usize = 128;

/// The copy of what another VM has published, as this VM last read it.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Where each entry is, and the entry.
    entries: Vec<(Range<usize>, Arc<Entry>)>,
}

impl Reader {
    /// The directory that [`Directory::encode`] wrote; `None` if the bytes are none of this version.
    pub fn read(&mut self, bytes: Vec<u8>) -> Option<Directory> {
        let mut rest = stored::content(&bytes)?;
        let placing = Stored::read(&mut rest)?;
        let (mut entries, mut met, mut missed) = (Vec::new(), 0, 0);
        for _ in 0..u64::read(&mut rest)? {
            let block = stored::take_block(&mut rest)?;
            let end = bytes.len() - rest.len();
            let ahead = (AHEAD + missed).min(AHEAD_MAX);
            let entry = match self.known(block, met, ahead) {
                Some((at, entry)) => {
                    (met, missed) = (at + 1, 0);
                    Arc::clone(entry)
                }
                None => {
                    missed += 1;
                    Arc::new(stored::whole(block)?)
                }
            };
            entries.push((end - block.len()..end, entry));
        }
        if !rest.is_empty() {
            return None;
        }
        let directory = Directory {
            entries: entries.iter().map(|(_, entry)| Arc::clone(entry)).collect(),
            placing,
        };
        *self = Self { bytes, entries };
        Some(directory)
    }

    fn known(&self, block: &[u8], met: usize, ahead: usize) -> Option<(usize, &Arc<Entry>)> {
        let next = self.entries.iter().enumerate().skip(met).take(ahead);
        let mut same = next.filter(|(_, (range, _))| self.bytes.get(range.clone()) == Some(block));
        same.next().map(|(at, (_, entry))| (at, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placing;
    use crate::settings::Settings;
    use proptest::prelude::*;
    use unitring_routing::membership::Member;

    fn directory(names: &[u16]) -> Directory {
        let placing = Placing::unasked(&Settings::of(r#"{"service": "orders"}"#));
        let member = |name: &u16| Member::new(&format!("i{name}"), &format!("10.0.0.1:{name}"));
        let members: Vec<Member> = names.iter().map(member).collect();
        Directory::first(&members, placing)
    }

    fn shared(before: &Directory, after: &Directory) -> usize {
        let all = after.entries().iter();
        let of_before =
            |entry: &&Arc<Entry>| before.entries().iter().any(|had| Arc::ptr_eq(had, entry));
        all.filter(of_before).count()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_published_whatever_was_read_before(
            lists in prop::collection::vec(prop::collection::vec(0_u16..40, 0..30), 1..6),
        ) {
            let mut reader = Reader::default();
            for names in lists {
                let published = directory(&names);
                prop_assert_eq!(reader.read(published.encode()), Some(published));
            }
        }

        #[test]
        fn broken_bytes_are_refused_or_read_and_change_nothing(
            names in prop::collection::vec(0_u16..40, 0..30),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<bool>(),
        ) {
            let published = directory(&names);
            let good = published.encode();
            let mut broken = good.clone();
            let at = at.index(broken.len());
            broken[at] = byte;
            if cut {
                broken.truncate(at);
            }
            let mut reader = Reader::default();
            reader.read(good.clone());
            let read = reader.read(broken.clone());
            prop_assert_eq!(read, Reader::default().read(broken));
            prop_assert_eq!(reader.read(good), Some(published));
        }
    }

    #[test]
    fn a_change_reads_only_what_it_changes() {
        let names: Vec<u16> = (0..1_000).collect();
        let mut reader = Reader::default();
        let before = reader.read(directory(&names).encode()).unwrap();
        let mut fewer = names.clone();
        fewer.remove(500);
        let gone = reader.read(directory(&fewer).encode()).unwrap();
        assert_eq!(shared(&before, &gone), 999);
        let back = reader.read(directory(&names).encode()).unwrap();
        assert_eq!(shared(&gone, &back), 999);
        // A whole zone in the middle is replaced.
        let zone = names.iter().map(|name| {
            if (300..400).contains(name) {
                name + 2_000
            } else {
                *name
            }
        });
        let zone = directory(&zone.collect::<Vec<_>>());
        let zone = reader.read(zone.encode()).unwrap();
        assert_eq!(shared(&back, &zone), 900);
    }
}
